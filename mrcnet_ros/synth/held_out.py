"""Annotated pictures of a model's objects that no training saw, kept in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..datasets.bop import MIN_VISIBLE_FRACTION, BopFrame, GroundTruth
from ..datasets.boxes import mask_box
from ..geometry.camera import Camera
from ..objects import ObjectModel
from ..specs import ViewPrior
from .dataset import DEPTH
from .depth_sensor import measured_depth
from .scene_maker import AnnotatedPicture, SceneMaker, SynthSpec

SYNTH_SEED = 1_000_003  # far from those that people give to a training
MOST_OBJECTS = 8  # on a table at once, so that they hide one another as in clutter
# More than a covariance model needs (8 images, 50 poses), because many objects are hidden.
LEAST_IMAGES, LEAST_POSES = 40, 200
VIEWS = 2  # of each arrangement
WIDTH, HEIGHT, FOCAL_PX = 640, 480, 600.0  # of a usual camera


@dataclass(frozen=True)
class RenderedFrame(BopFrame):
    """An annotated picture that is in no file.

    :param image_rgb: (H, W, 3) uint8.
    :param exact_depth_m: (H, W) float32 [m], 0 where unknown.
    """

    image_rgb: NDArray[np.uint8] = field(
        default_factory=lambda: np.zeros((0, 0, 3), np.uint8), repr=False)
    exact_depth_m: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros((0, 0), np.float32), repr=False)

    @property
    def has_depth(self) -> bool:
        """Every picture has a depth image."""
        return True

    def load_depth_m(self) -> NDArray[np.float32]:
        """Return what a depth camera measures, (H, W) float32 [m], 0 without a measurement."""
        rng = np.random.default_rng([SYNTH_SEED, self.scene_id, DEPTH, self.image_id])
        return measured_depth(self.exact_depth_m, FOCAL_PX, rng)

    def load_image(self) -> NDArray[np.uint8]:
        """Return the picture."""
        return self.image_rgb


def image_count(objects: int) -> int:
    """Return how many pictures show enough poses of a number of objects."""
    return max(LEAST_IMAGES, -(-LEAST_POSES // min(objects, MOST_OBJECTS)))


def held_out_frames(objects: Sequence[ObjectModel], images: int, *, upright: bool = False,
                    prior: ViewPrior | None = None,
                    distance_m: tuple[float, float] | None = None,
                    backgrounds: Sequence[Path] = (), seed: int = SYNTH_SEED,
                    views: int = VIEWS) -> Iterator[RenderedFrame]:
    """Draw objects on tables, each kind at most once in a picture.

    :param upright: stand objects with their z axis up; any orientation otherwise.
    :param prior: stand objects, and look at them from where it says.
    :param distance_m: nearest and farthest distance of the objects, as far as their places allow;
        None for one in proportion to them.
    :param backgrounds: photographs and environment maps; none for noise.
    :raises MeshError: when a mesh cannot be used.
    :raises SpecError: when the distances cannot be used for these objects.
    :raises BackendError: when there is no headless OpenGL.
    """
    camera = Camera(np.array([[FOCAL_PX, 0, (WIDTH - 1) / 2], [0, FOCAL_PX, (HEIGHT - 1) / 2],
                              [0, 0, 1]]), WIDTH, HEIGHT)
    by_id: Mapping[int, ObjectModel] = {o.object_id: o for o in objects}
    spec = SynthSpec(scenes=-(-images // views), images=views,
                     objects=min(len(by_id), MOST_OBJECTS), camera=camera,
                     distance_m=distance_m, all_within=distance_m is not None,
                     upright=upright or prior is not None, prior=prior, seed=seed)
    with SceneMaker(by_id, spec, backgrounds) as maker:
        for number in range(images):
            scene, view = number // views + 1, number % views
            shot = maker.photograph(maker.arrange(scene), scene, view)
            yield _frame(scene, view, camera, shot)


def _frame(scene: int, view: int, camera: Camera, shot: AnnotatedPicture) -> RenderedFrame:
    truths = tuple(GroundTruth(item.object_id, number, item.T_camera_object,
                               mask_box(item.visible), mask_box(item.mask), item.visible_fraction)
                   for number, item in enumerate(shot.instances))
    targets = Counter(t.object_id for t in truths if t.visible_fraction >= MIN_VISIBLE_FRACTION)
    return RenderedFrame(
        scene_id=scene, image_id=view, image_path=Path(f'{scene:06d}/{view:06d}'), camera=camera,
        ground_truth=truths, targets=targets, depth_path=None, depth_unit_m=1.0,
        image_rgb=shot.image_rgb, exact_depth_m=shot.depth_m)
