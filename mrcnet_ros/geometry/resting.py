"""How rigid objects can lie on a plane without falling over."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import ConvexHull, QhullError

from .directions import even_directions
from .se3 import Array

# A face is one to rest on if the object has to be tilted by this much to fall over its border.
# Points that such a tilt brings down to the plane belong to the face, so that scanned and round
# sides have faces as well.
LEAST_TIPPING_RAD = np.radians(5.0)
# Faces this near to a firmer one count as the same.
SAME_RAD = np.radians(6.0)
# Faces this near to one another are on a round side.
CROWD_RAD = np.radians(20.0)
# Directions that say how probable it is that one is near a face by chance.
DIRECTIONS = 2000


@dataclass(frozen=True, eq=False)
class Rests:
    """The faces that an object can rest on; there may be none.

    Those on flat sides come before those on round ones, and firm ones before others.

    :param ups: (F, 3) unit, away from the plane, object frame.
    :param lowest_m: (F,) of the object along ``ups`` [m]; the plane is there.
    :param nearest: (DIRECTIONS,) cosine of the angle between evenly spread directions and the
        nearest of ``ups``, sorted.
    """

    ups: Array
    lowest_m: Array
    nearest: Array

    def chance(self, angle_rad: Array) -> Array:
        """Return the part of all directions that are within angles of one of ``ups``.

        :param angle_rad: (...) not negative.
        """
        below = np.searchsorted(self.nearest, np.cos(np.minimum(angle_rad, np.pi)))
        return np.asarray(1.0 - below / DIRECTIONS)


def resting_faces(points: Array, middle: Array) -> Rests:
    """Return the faces of the convex hull that an object stays on.

    It stays where its centre of mass is above the inside of a face.

    :param points: (V, 3) of the surface or of its hull [m].
    :param middle: (3,) centre of mass [m].
    """
    try:
        hull = ConvexHull(points)
    except QhullError:  # flat: a sheet
        return _rests([])
    corners = points[hull.vertices] - middle
    near_m = np.tan(LEAST_TIPPING_RAD) * np.linalg.norm(corners, axis=1).max() + 1e-9
    stable = _below_middle(points[hull.simplices], hull.equations, middle)
    faces = hull.equations[stable]
    # the object stands lowest on the first one, and firmer than beside it
    ups = -faces[np.argsort(-(faces[:, :3] @ middle + faces[:, 3]), kind='stable'), :3]
    found: list[tuple[float, Array, float]] = []
    while len(ups):
        up, ups = ups[0], ups[1:]
        heights = corners @ up
        lowest = float(heights.min())
        tipping = _tipping_rad(corners[heights <= lowest + near_m], up, lowest)
        if tipping >= LEAST_TIPPING_RAD:
            found.append((tipping, up, lowest + float(middle @ up)))
            ups = ups[ups @ up < np.cos(SAME_RAD)]  # of a fine ball nearly all are stable
    return _rests(found)


def _rests(found: list[tuple[float, Array, float]]) -> Rests:
    """Return the rests of tipping angles, directions and lowest points."""
    if not found:
        return Rests(np.empty((0, 3)), np.empty(0), np.full(DIRECTIONS, -1.0))
    tipping, ups, lowest_m = (np.array(column) for column in zip(*found, strict=True))
    crowd = (ups @ ups.T > np.cos(CROWD_RAD)).sum(axis=1)
    order = np.lexsort((-tipping, crowd))
    nearest = (even_directions(DIRECTIONS) @ ups.T).max(axis=1)
    return Rests(ups[order], lowest_m[order], np.sort(nearest))


def _below_middle(triangles: Array, equations: Array, middle: Array) -> Array:
    """Tell which triangles of a hull have the foot of the middle's perpendicular inside, (S,)."""
    foot = middle - (equations[:, :3] @ middle + equations[:, 3])[:, None] * equations[:, :3]
    sides = []
    for a, b in ((0, 1), (1, 2), (2, 0)):
        turn = np.cross(triangles[:, b] - triangles[:, a], foot - triangles[:, a])
        sides.append(np.einsum('sd,sd->s', turn, equations[:, :3]))
    low, high = np.min(sides, axis=0), np.max(sides, axis=0)
    slack = 1e-6 * np.abs(sides).max(axis=0)
    return np.asarray((low >= -slack) | (high <= slack))


def _tipping_rad(corners: Array, up: Array, lowest: float) -> float:
    """Return by how much an object on a face has to be tilted until it falls over.

    :param corners: (V, 3) those near the face, from the middle [m].
    :param lowest: of all along ``up`` [m].
    """
    right = np.cross(up, (1.0, 0.0, 0.0) if abs(up[0]) < 0.7 else (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    away = corners @ np.stack([right, np.cross(up, right)]).T
    heights = corners @ up - lowest
    touching = away[heights <= np.tan(LEAST_TIPPING_RAD) * np.linalg.norm(away, axis=1) + 1e-9]
    if len(touching) < 3:
        return 0.0
    border = cv2.convexHull(touching.astype(np.float32))
    inside = cv2.pointPolygonTest(border, (0.0, 0.0), True)
    return float(np.arctan2(inside, -lowest))
