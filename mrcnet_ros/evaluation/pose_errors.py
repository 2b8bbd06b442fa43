"""How far an estimated pose is from the truth, symmetries taken into account.

Source: Hodan et al., BOP Challenge 2020 (MSSD, MSPD).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..geometry.se3 import Array, rotation_angle
from ..geometry.symmetry import Symmetries

# Points that are moved at once, 24 MB; all symmetries of a large mesh would take gigabytes.
_CHUNK_POINTS = 1_000_000


class PoseDifference(NamedTuple):
    """An estimate against the truth.

    :param rotation_rad: angle between the rotations.
    :param translation_m: distance between the object origins.
    :param depth_m: estimated minus true distance along the optical axis.
    """

    rotation_rad: float
    translation_m: float
    depth_m: float


class NearestTruth(NamedTuple):
    """An estimate against the symmetric equivalent of the truth that is nearest in MSSD.

    :param T_camera_object: (4, 4) the equivalent [m].
    :param difference: of the estimate from it.
    :param mssd_m: maximum surface distance from it.
    """

    T_camera_object: Array
    difference: PoseDifference
    mssd_m: float


def mssd(T_est: Array, T_gt: Array, vertices: Array, symmetries: Symmetries) -> float:
    """Return the maximum symmetry-aware surface distance [m].

    The largest distance is reached on the convex hull, because the distance is convex in the
    point: :func:`hull_vertices` gives the same value as all vertices.

    :param T_est: (4, 4) estimated T_camera_object [m].
    :param T_gt: (4, 4) true T_camera_object [m].
    :param vertices: (V, 3) of the model [m].
    """
    return float(_surface_distances(T_est, T_gt, vertices, symmetries).min())


def mspd(T_est: Array, T_gt: Array, K: Array, vertices: Array, symmetries: Symmetries) -> float:
    """Return the maximum symmetry-aware projection distance [px].

    Infinite when the estimate puts a vertex behind the camera.

    :param T_est: (4, 4) estimated T_camera_object [m].
    :param T_gt: (4, 4) true T_camera_object [m].
    :param K: (3, 3) [px].
    :param vertices: (V, 3) of the model [m]; all of them, the hull is not enough here.
    """
    points_est = vertices @ T_est[:3, :3].T + T_est[:3, 3]
    if (points_est[:, 2] <= 0).any():
        return float('inf')
    uv_est = _project(points_est, K)
    equivalents = T_gt @ symmetries.transforms
    step = max(1, _CHUNK_POINTS // len(vertices))
    best = np.inf
    for start in range(0, len(equivalents), step):
        T = equivalents[start:start + step]
        uv_gt = _project(vertices @ np.swapaxes(T[:, :3, :3], 1, 2) + T[:, None, :3, 3], K)
        squares = np.sum((uv_gt - uv_est) ** 2, axis=-1).max(axis=-1)
        best = min(best, float(np.sqrt(squares.min())))
    return best


def nearest_truth(T_est: Array, T_gt: Array, vertices: Array, symmetries: Symmetries
                  ) -> NearestTruth:
    """Compare an estimate with the equivalent of the truth with the smallest surface distance.

    :param T_est: (4, 4) estimated T_camera_object [m].
    :param T_gt: (4, 4) true T_camera_object [m].
    :param vertices: (V, 3) of the model or of its hull [m].
    """
    distances = _surface_distances(T_est, T_gt, vertices, symmetries)
    best = int(np.argmin(distances))
    T_near = np.asarray(T_gt @ symmetries.transforms[best], dtype=np.float64)
    return NearestTruth(T_near, pose_difference(T_est, T_near), float(distances[best]))


def pose_difference(T_est: Array, T_gt: Array) -> PoseDifference:
    """Compare two poses as they are, without symmetries.

    :param T_est: (4, 4) estimated T_camera_object [m].
    :param T_gt: (4, 4) true T_camera_object [m].
    """
    shift = T_est[:3, 3] - T_gt[:3, 3]
    return PoseDifference(
        float(rotation_angle(T_est[:3, :3].T @ T_gt[:3, :3])),
        float(np.linalg.norm(shift)), float(shift[2]),
    )


def _surface_distances(T_est: Array, T_gt: Array, vertices: Array, symmetries: Symmetries
                       ) -> Array:
    """Return the largest vertex distance for each symmetry, (S,) [m]."""
    difference = T_est - T_gt @ symmetries.transforms
    distances = np.empty(len(difference))
    step = max(1, _CHUNK_POINTS // len(vertices))
    for start in range(0, len(difference), step):
        D = difference[start:start + step]
        offsets = vertices @ np.swapaxes(D[:, :3, :3], 1, 2) + D[:, None, :3, 3]
        squares = np.sum(offsets**2, axis=-1).max(axis=-1)
        distances[start:start + step] = np.sqrt(squares)
    return distances


def _project(points: Array, K: Array) -> Array:
    """Return pixels of points in the camera frame, (..., 3) [m] to (..., 2) [px]."""
    uvw = points @ K.T
    return np.asarray(uvw[..., :2] / uvw[..., 2:], dtype=np.float64)
