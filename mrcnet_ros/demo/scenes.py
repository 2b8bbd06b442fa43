"""Photo-like pictures of the demo objects with exact poses, boxes and visibility."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..objects import Mesh
from ..synth.painter import Painter, Setting, draw_light, tint_of
from ..synth.surroundings import Image, look_around
from .layout import demo_camera, draw_layout
from .surroundings import TABLE_SIDE_M

LEAST_VISIBLE = 0.35


@dataclass(frozen=True, eq=False)
class TrueObject:
    """One object of a scene.

    :param label: its name.
    :param T_camera_object: (4, 4) [m].
    :param box_xyxy: (4,) [px], around its visible pixels.
    :param visible_fraction: visible part of its silhouette, in [0, 1].
    """

    label: str
    T_camera_object: Array
    box_xyxy: Array
    visible_fraction: float


@dataclass(frozen=True, eq=False)
class DemoScene:
    """A picture and what is in it.

    :param image_rgb: (H, W, 3) uint8.
    :param objects: those visible enough for a detector to report.
    """

    image_rgb: NDArray[np.uint8]
    camera: Camera
    objects: tuple[TrueObject, ...]


class DemoSceneMaker:
    """Draws scenes; the same seed and number give the same scene.

    :param meshes: by label.
    :param environments: (H, W, 3) float32 RGB equirectangular maps.
    :param seed: of all random choices.
    """

    def __init__(self, meshes: Mapping[str, Mesh], environments: Sequence[Image],
                 seed: int) -> None:
        """Open a renderer; :meth:`close` it, or use a ``with`` block."""
        self.camera = demo_camera()
        self._meshes, self._environments, self._seed = dict(meshes), list(environments), seed
        self._painter = Painter(self.camera, self._meshes)

    def __enter__(self) -> DemoSceneMaker:
        """Return the maker itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        """Close the renderer."""
        self.close()

    def close(self) -> None:
        """Free the renderer."""
        self._painter.close()

    def make(self, number: int) -> DemoScene:
        """Draw one scene.

        :param number: which one.
        """
        rng = np.random.default_rng([self._seed, number])
        layout = draw_layout(self._meshes, rng)
        light = draw_light(rng)
        environment = self._environments[int(rng.integers(len(self._environments)))]
        environment = np.roll(environment, int(rng.integers(environment.shape[1])), axis=1)
        room = look_around(self.camera, layout.T_camera_world, environment)
        picture = self._painter.paint(layout.placed, Setting(
            layout.T_camera_world, light, tint_of(environment), room, TABLE_SIDE_M), rng)
        objects = zip(layout.placed, picture.visible, picture.visible_fraction, strict=True)
        return DemoScene(picture.image_rgb, self.camera, tuple(
            TrueObject(p.key, layout.T_camera_world @ p.T_world_object, _box(mask), fraction)
            for p, mask, fraction in objects if fraction >= LEAST_VISIBLE))


def _box(mask: NDArray[np.bool_]) -> Array:
    """Return the box around a mask, (4,) [px], from the outer edges of its pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5])
