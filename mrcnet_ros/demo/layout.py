"""Where the objects of a demo scene stand and from where the camera looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..geometry.camera import Camera
from ..geometry.se3 import Array, exp_so3, make_transform
from ..geometry.view_prior import rotation_from_angles
from ..objects import Mesh

WIDTH, HEIGHT, FOCAL_PX = 640, 480, 600.0
SPREAD_M = 0.14
GAP_M = 0.008
ELEVATION_DEG = (15.0, 60.0)
DISTANCE_M = (0.55, 0.9)
TILT_DEG = 8.0


@dataclass(frozen=True, eq=False)
class Layout:
    """Objects on a table. World frame: the table is z = 0, z points up.

    :param T_camera_world: (4, 4) [m].
    :param T_world_object: (4, 4) [m] by label.
    """

    T_camera_world: Array
    T_world_object: Mapping[str, Array]


def demo_camera() -> Camera:
    """Return the camera of all demo scenes."""
    K = np.array([[FOCAL_PX, 0, (WIDTH - 1) / 2], [0, FOCAL_PX, (HEIGHT - 1) / 2], [0, 0, 1]])
    return Camera(K, WIDTH, HEIGHT)


def draw_layout(meshes: Mapping[str, Mesh], rng: np.random.Generator) -> Layout:
    """Stand all objects on the table, close but apart, and look at them from the side.

    :param meshes: by label.
    """
    placed: list[tuple[Array, float]] = []
    T_world_object = {}
    for label in rng.permutation(sorted(meshes)):
        vertices = meshes[str(label)].vertices
        radius_m = float(np.linalg.norm(vertices[:, :2], axis=1).max())
        place = _free_place(placed, radius_m, rng)
        placed.append((place, radius_m))
        R = exp_so3(np.array([0.0, 0.0, rng.uniform(-np.pi, np.pi)]))
        T_world_object[str(label)] = make_transform(R, [*place, -vertices[:, 2].min()])
    return Layout(_look(rng), T_world_object)


def _free_place(
    placed: list[tuple[Array, float]], radius_m: float, rng: np.random.Generator
) -> Array:
    """Draw a point of the table that leaves a gap to all objects, (2,) [m]."""
    spread_m = SPREAD_M
    while True:
        place = rng.uniform(-spread_m, spread_m, 2)
        if all(np.linalg.norm(place - p) > r + radius_m + GAP_M for p, r in placed):
            return np.asarray(place)
        spread_m *= 1.01  # a crowded table grows until there is room


def _look(rng: np.random.Generator) -> Array:
    azimuth = rng.uniform(-np.pi, np.pi)
    elevation, tilt = np.radians(rng.uniform(*ELEVATION_DEG)), np.radians(rng.normal(0, TILT_DEG))
    R_camera_world = rotation_from_angles(azimuth, elevation, np.clip(tilt, -0.4, 0.4))
    target = np.array([*rng.uniform(-0.03, 0.03, 2), 0.06])
    ahead = np.array([0.0, 0.0, rng.uniform(*DISTANCE_M)])
    return make_transform(R_camera_world, ahead - R_camera_world @ target)
