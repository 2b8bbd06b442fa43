"""How rigid objects can lie on a plane without falling over."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import ConvexHull, QhullError

from .se3 import Array

# A face is one to rest on if the object has to be tilted by this much to fall over its border;
# less is chance, such as the single triangles of a scanned or round surface.
LEAST_TIPPING_RAD = np.radians(9.0)
# Faces this near to a better one are the same: scans have no flat ones. Points that a tilt of
# half of it brings down to the plane belong to the face.
SAME_RAD = np.radians(6.0)
# Directions that say how probable it is that one is near a face by chance.
DIRECTIONS = 2000


@dataclass(frozen=True, eq=False)
class Rests:
    """The faces that an object can rest on, the firmest one first; there may be none.

    :param ups: (F, 3) unit, away from the plane, object frame.
    :param lowest_m: (F,) of the object along ``ups`` [m]; the plane is there.
    :param nearest: (DIRECTIONS,) cosine of the angle between evenly spread directions and the
        nearest of ``ups``, sorted.
    """

    ups: Array
    lowest_m: Array
    nearest: Array

    def chance(self, angle_rad: Array) -> Array:
        """Return the part of all directions that are within angles of one of ``ups``."""
        below = np.searchsorted(self.nearest, np.cos(angle_rad))
        return np.asarray(1.0 - below / DIRECTIONS)


def resting_faces(points: Array, middle: Array) -> Rests:
    """Return the faces of the convex hull that an object stays on.

    It stays where its centre of mass is above the inside of a face.

    :param points: (V, 3) of the surface or of its hull [m].
    :param middle: (3,) centre of mass [m].
    """
    found: list[tuple[float, Array, float]] = []
    try:
        hull = ConvexHull(points)
    except QhullError:  # flat: a sheet
        return _rests([])
    corners = points[hull.vertices]
    for i in np.flatnonzero(_below_middle(points[hull.simplices], hull.equations, middle)):
        up = -hull.equations[i, :3]
        lowest = float((corners @ up).min())
        tipping = _tipping_rad(corners, middle, up, lowest)
        if tipping >= LEAST_TIPPING_RAD:
            found.append((tipping, up, lowest))
    found.sort(key=lambda item: -item[0])
    kept: list[tuple[float, Array, float]] = []
    for item in found:
        if all(item[1] @ other[1] < np.cos(SAME_RAD) for other in kept):
            kept.append(item)
    return _rests(kept)


def _rests(found: list[tuple[float, Array, float]]) -> Rests:
    ups = np.array([up for _, up, _ in found]).reshape(-1, 3)
    nearest = np.full(DIRECTIONS, -1.0) if not found else (_directions() @ ups.T).max(axis=1)
    return Rests(ups, np.array([lowest for _, _, lowest in found]), np.sort(nearest))


def _below_middle(triangles: Array, equations: Array, middle: Array) -> Array:
    """Tell which triangles of a hull have the foot of the middle's perpendicular inside, (S,)."""
    foot = middle - (equations[:, :3] @ middle + equations[:, 3])[:, None] * equations[:, :3]
    sides = []
    for a, b in ((0, 1), (1, 2), (2, 0)):
        turn = np.cross(triangles[:, b] - triangles[:, a], foot - triangles[:, a])
        sides.append(np.einsum('sd,sd->s', turn, equations[:, :3]))
    low, high = np.min(sides, axis=0), np.max(sides, axis=0)
    slack = 1e-9 * np.abs(sides).max() if len(triangles) else 0.0
    return np.asarray((low >= -slack) | (high <= slack))


def _tipping_rad(corners: Array, middle: Array, up: Array, lowest: float) -> float:
    """Return by how much an object on a face has to be tilted until it falls over."""
    right = np.cross(up, (1.0, 0.0, 0.0) if abs(up[0]) < 0.7 else (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    flat = np.stack([right, np.cross(up, right)])
    away = (corners - middle) @ flat.T
    heights = corners @ up - lowest
    touching = away[heights <= np.tan(SAME_RAD / 2) * np.linalg.norm(away, axis=1) + 1e-9]
    if len(touching) < 3:
        return 0.0
    border = cv2.convexHull(touching.astype(np.float32))
    inside = cv2.pointPolygonTest(border, (0.0, 0.0), True)
    return float(np.arctan2(inside, middle @ up - lowest))


def _directions() -> Array:
    """Return evenly spread unit vectors, (DIRECTIONS, 3): a Fibonacci spiral."""
    i = np.arange(DIRECTIONS) + 0.5
    z, angle = 1 - 2 * i / DIRECTIONS, np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)
