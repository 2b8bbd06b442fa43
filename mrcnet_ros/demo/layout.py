"""The demo's camera, and where its objects stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..objects import Mesh
from ..synth.layout import LayoutSpec, Placed, draw_view, place_objects

WIDTH, HEIGHT, FOCAL_PX = 640, 480, 600.0
LAYOUT = LayoutSpec(spread_m=0.14, gap_m=0.008, distance_m=(0.55, 0.9), target_m=(0.03, 0.06))


@dataclass(frozen=True, eq=False)
class Layout:
    """Objects on a table. World frame: the table is z = 0, z points up.

    :param T_camera_world: (4, 4) [m].
    :param placed: the objects.
    """

    T_camera_world: Array
    placed: tuple[Placed, ...]


def demo_camera() -> Camera:
    """Return the camera of all demo scenes."""
    K = np.array([[FOCAL_PX, 0, (WIDTH - 1) / 2], [0, FOCAL_PX, (HEIGHT - 1) / 2], [0, 0, 1]])
    return Camera(K, WIDTH, HEIGHT)


def draw_layout(meshes: Mapping[str, Mesh], rng: np.random.Generator) -> Layout:
    """Stand all objects on the table, close but apart, and look at them from the side.

    :param meshes: by label.
    """
    labels = [str(label) for label in rng.permutation(sorted(meshes))]
    placed = place_objects(labels, meshes, rng, LAYOUT)
    return Layout(draw_view(rng, LAYOUT), tuple(placed))
