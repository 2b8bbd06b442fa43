"""Arrangements of objects on a table, and annotated pictures of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..datasets.bop_writer import Instance
from ..errors import SpecError
from ..geometry.camera import FARTHEST_M, Camera
from ..geometry.se3 import Array
from ..objects import ObjectModel
from ..specs import ViewPrior
from .annotation import Annotator
from .depth_sensor import DepthSensor
from .layout import LayoutSpec, PlacedObject, draw_view, place_objects
from .motion import draw_camera_motion, draw_object_motions
from .painter import Painter, Setting, lamp_direction
from .scene_backgrounds import Rooms
from .surroundings import table_depth_m

# parts of the image's height that an object of mean diameter, nearest to the camera, covers
RELATIVE_HEIGHT = (0.2, 0.45)
# Nearest to the camera, in diameters of the largest object: where most are small, the distance for
# their mean would be inside of it.
NEAREST = 1.5
MOST_OBJECTS = 100  # the table grows with them; the camera sees no more of it
FASTEST_HZ = 1000.0  # at more, nothing moves from an image to the next
# Of the camera above the table: lower, objects hide one another; 90 is straight down.
ELEVATION_DEG = (10.0, 80.0)
TILT_DEG = 8.0  # deviation of its roll
# What is drawn, as a part of seeds: far from the numbers of images, and never left out, because a
# seed without it is that of image 0.
LIGHT, ROOM, TABLE, NOISE, ARRANGEMENT, MOTION = range(1_000_001, 1_000_007)


@dataclass(frozen=True, kw_only=True)
class SynthSpec:
    """What to make.

    :param objects: on the table at once; more than there are models means several of a kind.
    :param camera: without distortion.
    :param distance_m: of the camera; None for one in proportion to the objects.
    :param all_within: whether ``distance_m`` is that of all objects instead, as far as their
        places allow.
    :param upright: stand objects with their z axis up; any orientation otherwise.
    :param prior: from where objects that stand are seen, 10 degrees or more above the table; None
        for 10 to 80 degrees.
    :param rate_hz: images of a second, of scenes that are sequences; None for unrelated views.
    :param away_s: from when until when every second object of a sequence is taken out of the
        scene; None for never.
    :param sensor: whose errors the depth images have; None for exact distances.
    :raises SpecError: when a number cannot be used.
    """

    scenes: int
    images: int
    objects: int
    camera: Camera
    distance_m: tuple[float, float] | None = None
    all_within: bool = False
    upright: bool = False
    prior: ViewPrior | None = None
    seed: int = 0
    rate_hz: float | None = None
    away_s: tuple[float, float] | None = None
    sensor: DepthSensor | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ('scenes', 'images', 'objects'):
            if getattr(self, name) < 1:
                raise SpecError(f'{name} must be at least 1, got {getattr(self, name)}')
        if self.objects > MOST_OBJECTS:
            raise SpecError(f'objects on the table must be at most {MOST_OBJECTS}, got '
                            f'{self.objects}; give more scenes or images instead')
        if self.seed < 0:
            raise SpecError(f'seed must not be negative, got {self.seed}')
        if self.rate_hz is not None and not 0.0 < self.rate_hz <= FASTEST_HZ:
            raise SpecError(f'rate must be above 0 and at most {FASTEST_HZ:g} [Hz], got '
                            f'{self.rate_hz}')
        self._check_away()
        near, far = self.distance_m or (1.0, 1.0)
        if not 0 < near <= far <= FARTHEST_M:
            raise SpecError(f'distance must be 0 < near <= far <= {FARTHEST_M:g} [m], got {near} '
                            f'and {far}')

    def _check_away(self) -> None:
        if self.away_s is None:
            return
        if self.rate_hz is None:
            raise SpecError('objects are taken away from sequences only; give --sequence')
        if self.objects < 2:
            raise SpecError('every second object of a sequence is taken away; give 2 or more '
                            f'--objects, got {self.objects}')
        start_s, end_s = self.away_s
        if not 0.0 < start_s < end_s:
            raise SpecError('objects must be taken away after the first image and put back '
                            'later: 0 s < --take-away < --put-back, got '
                            f'{start_s:g} and {end_s:g}')


@dataclass(frozen=True, eq=False)
class AnnotatedPicture:
    """A picture and what is in it.

    :param image_rgb: (H, W, 3) uint8.
    :param depth_m: (H, W) float32 [m], 0 where unknown.
    :param T_camera_world: (4, 4) [m]; the table is z = 0.
    """

    image_rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    T_camera_world: Array
    instances: list[Instance]


class SceneMaker:
    """Makes scenes; image ``i`` of scene ``s`` depends on (seed, s, i) and what is given here.

    :param objects: by object id.
    :param backgrounds: photographs and environment maps; none for noise.
    :raises DatasetError: when a background that the scenes need cannot be read.
    :raises MeshError: when a mesh cannot be used.
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(self, objects: Mapping[int, ObjectModel], spec: SynthSpec,
                 backgrounds: Sequence[Path] = ()) -> None:
        """Load meshes and open renderers; use a ``with`` block."""
        self._spec, self._rooms = spec, Rooms(backgrounds)
        self._layout = layout_spec([model.diameter_m for model in objects.values()], spec)
        if backgrounds:
            self._rooms.check(self._room_rng(scene, image) for scene in range(1, spec.scenes + 1)
                              for image in range(spec.images))
        # drawn as large as their meshes
        self._objects = {i: dataclasses.replace(model, size_ratio=1.0)
                         for i, model in objects.items()}
        self._meshes = {_key(i): model.centred().load_mesh() for i, model in objects.items()}
        self._painter = Painter(spec.camera, self._meshes)
        self._annotator = Annotator(spec.camera, self._meshes, {_key(i): i for i in objects})

    def __enter__(self) -> SceneMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._painter.close()
        self._annotator.close()

    def arrange(self, scene: int) -> list[PlacedObject]:
        """Put objects on the table; no kind comes twice before all have come once."""
        rng = self._rng(scene, ARRANGEMENT)
        keys: list[str] = []
        while len(keys) < self._spec.objects:
            keys += [str(key) for key in rng.permutation(sorted(self._meshes))]
        return place_objects(keys[:self._spec.objects], self._meshes, rng, self._layout)

    def photograph(self, placed: Sequence[PlacedObject], scene: int,
                   image: int) -> AnnotatedPicture:
        """Take a picture of a scene's objects from a random place.

        :raises DatasetError: when a background cannot be read.
        """
        T_camera_world, light, rng = self._view(scene, image, placed)
        away_m = [float(np.linalg.norm(p.T_world_object[:2, 3])) for p in placed]
        return self._shoot(placed, away_m, T_camera_world, light, rng, (rng, rng))

    def _view(self, scene: int, image: int, placed: Sequence[PlacedObject] = ()
              ) -> tuple[Array, Array, np.random.Generator]:
        """Draw T_camera_world (4, 4) [m] and the direction of the lamp (3,).

        :return: both, and the generator for all else of the image.
        """
        rng = self._rng(scene, image)
        return draw_view(rng, self._layout, placed), lamp_direction(rng), rng

    def _room_rng(self, scene: int, image: int) -> np.random.Generator:
        """Return a generator as the room of an image is drawn with.

        Where the objects are does not count: a view takes as many random numbers anywhere.
        """
        return self._view(scene, image)[2]

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self._spec.seed, *numbers])

    def _shoot(self, placed: Sequence[PlacedObject], away_m: Sequence[float],
               T_camera_world: Array, light: Array, room_rng: np.random.Generator,
               paint_rngs: tuple[np.random.Generator, np.random.Generator]) -> AnnotatedPicture:
        """Look at objects.

        :param away_m: from the middle of the table, of each object; the table has room for that.
        :param light: (3,) unit vector of the world towards the lamp.
        :param room_rng: draws what is behind the table.
        :param paint_rngs: draw table and exposure, and the sensor's noise.
        """
        camera = self._spec.camera
        room, tint = self._rooms.draw(camera, T_camera_world, room_rng)
        side_m = 3.0 * max(
            away + float(np.linalg.norm(self._meshes[p.key].vertices, axis=1).max())
            for p, away in zip(placed, away_m, strict=True))
        image_rgb = self._painter.paint(
            placed, Setting(T_camera_world, light, tint, room, side_m), *paint_rngs)
        instances, depth_m = self._annotator.annotate(
            placed, T_camera_world, table_depth_m(camera, T_camera_world, side_m))
        instances = [dataclasses.replace(item, T_camera_object=self._objects[
            item.object_id].from_centred(item.T_camera_object)) for item in instances]
        return AnnotatedPicture(image_rgb, depth_m, T_camera_world, instances)


def layout_spec(diameters_m: Sequence[float], spec: SynthSpec) -> LayoutSpec:
    """Return a layout in proportion to the objects."""
    mean_m = float(np.mean(diameters_m))
    camera = spec.camera
    low, high = RELATIVE_HEIGHT
    spread_m = 0.35 * mean_m * float(np.sqrt(spec.objects))
    filling_m = mean_m * float(camera.K[1, 1]) / camera.height
    largest_m = max(diameters_m)
    usual_m = filling_m / high + spread_m, filling_m / low + spread_m
    farther = max(1.0, NEAREST * largest_m / usual_m[0])
    distance_m = spec.distance_m or (farther * usual_m[0], farther * usual_m[1])
    farthest_m = max(FARTHEST_M, 10 * largest_m)  # objects may have up to 20 m
    if not largest_m / 2 < distance_m[0] <= distance_m[1] <= farthest_m:
        raise SpecError(f'the camera would be {distance_m[0]:.3g} to {distance_m[1]:.3g} m from '
                        f'objects of up to {largest_m:.3g} m: inside of one, or farther than '
                        f'{farthest_m:g} m; give --distance, or other intrinsics')
    elevation_deg, tilt_deg = _seen_from(spec.prior)
    return LayoutSpec(
        spread_m=spread_m, gap_m=0.04 * mean_m,
        distance_m=distance_m, all_within=spec.all_within,
        target_m=(0.15 * mean_m, 0.3 * mean_m), elevation_deg=elevation_deg, tilt_deg=tilt_deg,
        upright=spec.upright)


def _seen_from(prior: ViewPrior | None) -> tuple[tuple[float, float], float]:
    """Return lowest and highest elevation and the deviation of the roll [degrees]."""
    if prior is None:
        return ELEVATION_DEG, TILT_DEG
    low, high = np.clip([prior.elevation_min_deg, prior.elevation_max_deg], ELEVATION_DEG[0], 90)
    return (float(low), float(high)), min(TILT_DEG, prior.tilt_max_deg / 3)


def _key(object_id: int) -> str:
    return f'{object_id:06d}'


class SequenceMaker(SceneMaker):
    """Makes scenes whose images are steps in time; see :class:`.SceneMaker`.

    Light, room, table and exposure stay as they are through a scene; noise is new in each image.
    The first objects of a scene rest, slide over the table and are carried above it, in turns.
    """

    def photograph(self, placed: Sequence[PlacedObject], scene: int,
                   image: int) -> AnnotatedPicture:
        """Take a picture of a scene at the time of an image.

        :param placed: of :meth:`arrange`.
        """
        time_s = image / self._spec.rate_hz if self._spec.rate_hz else 0.0
        rng = self._rng(scene, MOTION)
        motions = draw_object_motions(placed, self._meshes, rng, self._spec.away_s)
        T_camera_world = draw_camera_motion(rng, self._layout).at(time_s)
        return self._shoot(
            [motion.at(time_s) for motion in motions], [motion.reach_m for motion in motions],
            T_camera_world, lamp_direction(self._rng(scene, LIGHT)),
            self._room_rng(scene, image),
            (self._rng(scene, TABLE), self._rng(scene, NOISE, image)))

    def _room_rng(self, scene: int, image: int) -> np.random.Generator:
        return self._rng(scene, ROOM)
