"""Where objects lie on a table, and where the camera is.

World frame: the table is z = 0, z points up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry.se3 import Array, exp_so3, make_transform
from ..geometry.view_prior import rotation_from_angles, sample_rotations
from ..objects import Mesh

LARGEST_TILT_RAD = 0.4  # 23 degrees; cameras are rarely rolled further


@dataclass(frozen=True)
class LayoutSpec:
    """How crowded the table is and from where it is seen.

    :param spread_m: objects lie within this distance of the middle, along x and y.
    :param gap_m: least distance between the circles that two objects can cover.
    :param distance_m: least and largest distance of the camera from what it looks at.
    :param all_within: whether ``distance_m`` is that of all objects instead, as far as their
        places allow.
    :param target_m: of the point it looks at: largest distance from the middle along x and y, and
        height.
    :param elevation_deg: of the camera above the table.
    :param tilt_deg: standard deviation of the camera's roll; three times as much at most.
    :param upright: whether objects stand with their z axis up, or lie in any orientation.
    """

    spread_m: float
    gap_m: float
    distance_m: tuple[float, float]
    target_m: tuple[float, float]
    elevation_deg: tuple[float, float] = (15.0, 60.0)
    tilt_deg: float = 8.0
    upright: bool = True
    all_within: bool = False


@dataclass(frozen=True, eq=False)
class PlacedObject:
    """One object on the table.

    :param T_world_object: (4, 4) [m].
    """

    key: str
    T_world_object: Array


def place_objects(keys: Sequence[str], meshes: Mapping[str, Mesh], rng: np.random.Generator,
                  spec: LayoutSpec) -> list[PlacedObject]:
    """Put objects on the table, close but apart, their lowest points on it.

    :param keys: of their meshes, one for each object.
    """
    circles: list[tuple[Array, float]] = []
    placed = []
    for key in keys:
        R = np.eye(3) if spec.upright else sample_rotations(None, 1, rng)[0]
        vertices = meshes[key].vertices @ R.T
        radius_m = float(np.linalg.norm(vertices[:, :2], axis=1).max())
        place = _free_place(circles, radius_m, rng, spec)
        circles.append((place, radius_m))
        turn = exp_so3(np.array([0.0, 0.0, rng.uniform(-np.pi, np.pi)]))
        placed.append(PlacedObject(key, make_transform(turn @ R, [*place, -vertices[:, 2].min()])))
    return placed


def draw_view(rng: np.random.Generator, spec: LayoutSpec,
              placed: Sequence[PlacedObject] = ()) -> Array:
    """Draw a camera that looks at the objects from the side.

    :param placed: the objects, whose places count with ``all_within``.
    :return: (4, 4) T_camera_world [m].
    """
    azimuth = rng.uniform(-np.pi, np.pi)
    elevation = np.radians(rng.uniform(*spec.elevation_deg))
    tilt = np.radians(rng.normal(0, spec.tilt_deg))
    most = min(LARGEST_TILT_RAD, 3 * float(np.radians(spec.tilt_deg)))
    R_camera_world = rotation_from_angles(azimuth, elevation, np.clip(tilt, -most, most))
    aside_m, height_m = spec.target_m
    target = np.array([*rng.uniform(-aside_m, aside_m, 2), height_m])
    near_m, far_m = spec.distance_m
    if spec.all_within and placed:
        beyond_m = [float(R_camera_world[2] @ (p.T_world_object[:3, 3] - target)) for p in placed]
        near_m, far_m = near_m - min(beyond_m), far_m - max(beyond_m)
        if near_m > far_m:  # they lie farther apart than the range is long
            near_m = far_m = (near_m + far_m) / 2
    ahead = np.array([0.0, 0.0, rng.uniform(near_m, far_m)])
    return make_transform(R_camera_world, ahead - R_camera_world @ target)


def _free_place(circles: list[tuple[Array, float]], radius_m: float, rng: np.random.Generator,
                spec: LayoutSpec) -> Array:
    """Draw a point of the table that leaves a gap to all objects, (2,) [m]."""
    spread_m = spec.spread_m
    while True:
        place = rng.uniform(-spread_m, spread_m, 2)
        if all(np.linalg.norm(place - p) > r + radius_m + spec.gap_m for p, r in circles):
            return np.asarray(place)
        spread_m *= 1.01  # a crowded table grows until there is room
