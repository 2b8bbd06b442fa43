"""Points on the surface of an object, and which of them a camera sees."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..geometry.directions import even_directions
from ..geometry.se3 import Array

# Points on the surface of an object. Of 800, about 270 are on the side that is seen, more than
# independent measurements of a small object.
SURFACE_POINTS = 800
# Points that are compared with the depth image: with 200 the errors are those of all.
SEEN_POINTS = 200
# Directions that an object is seen from, about 4 degrees apart.
DIRECTIONS = 800
# A camera at this distance [diameters] decides what hides what; nearer ones are rare.
VIEW_DIAMETERS = 7.0
# A cell of the visibility test, in diameters, and how far behind the nearest point of its cell a
# point may lie and still be seen. The points are about 0.06 diameters apart, so that a cell holds
# about one of each layer.
CELL, HIDDEN_BEHIND = 0.06, 0.07
# A surface seen at a flatter angle than this cosine is not measured well by any depth camera.
FLATTEST_COSINE = 0.2


@dataclass(frozen=True, eq=False)
class SampledSurface:
    """Points spread evenly over an object's surface.

    :param points: (N, 3) [m], object frame.
    :param normals: (N, 3) unit vectors, outwards, object frame.
    """

    points: Array
    normals: Array
    diameter_m: float
    _seen: dict[int, Seen] = field(default_factory=dict, repr=False)

    @classmethod
    def sample(cls, vertices: Array, faces: NDArray[np.int32], diameter_m: float,
               vertex_normals: Array) -> SampledSurface:
        """Spread points over a mesh, the same ones every time.

        :param vertices: (V, 3) [m], object frame.
        :param faces: (F, 3); their winding does not matter.
        :param vertex_normals: (V, 3) pointing outwards.
        """
        corners = vertices[faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(cross, axis=1)
        # systematic sampling: one point for every equal share of the area
        total = np.cumsum(area)
        at = (np.arange(SURFACE_POINTS) + 0.5) / SURFACE_POINTS * total[-1]
        chosen = np.searchsorted(total, at).clip(0, len(faces) - 1)
        u, v = np.random.default_rng(0).random((2, SURFACE_POINTS, 1))
        u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
        a, b, c = np.moveaxis(corners[chosen], 1, 0)
        normals = cross[chosen] / np.maximum(area[chosen], 1e-300)[:, None]
        outwards = vertex_normals[faces[chosen]].sum(axis=1)
        normals[np.einsum('ni,ni->n', normals, outwards) < 0] *= -1
        return cls(a + u * (b - a) + v * (c - a), normals, diameter_m)

    def scaled(self, ratio: float) -> SampledSurface:
        """Return that of an object so many times as large."""
        return SampledSurface(self.points * ratio, self.normals, self.diameter_m * ratio)

    def seen_from(self, T_camera_object: Array) -> Seen:
        """Return what a camera sees of the object; remembered by the nearest known direction.

        :param T_camera_object: (4, 4) [m].
        """
        ray = T_camera_object[:3, 3] @ T_camera_object[:3, :3]
        number = int(np.argmax(_SPHERE @ -ray))
        if number not in self._seen:
            self._seen[number] = self._look_along(_SPHERE[number])
        return self._seen[number]

    def _look_along(self, direction: Array) -> Seen:
        """Return what is seen from a direction, (3,) unit vector from the object to the camera."""
        eye = VIEW_DIAMETERS * self.diameter_m * direction
        off = self.points - eye
        facing = -np.einsum('ni,ni->n', off, self.normals)
        rows = np.flatnonzero(facing > FLATTEST_COSINE / 2 * np.linalg.norm(off, axis=1))
        depth = -off[rows] @ direction
        side = np.linalg.svd(direction[None])[2][1:]
        size = CELL / VIEW_DIAMETERS
        cell = np.floor(off[rows] @ side.T / depth[:, None] / size).astype(np.int64)
        _, number = np.unique(cell[:, 0] * 100003 + cell[:, 1], return_inverse=True)
        nearest = np.full(len(rows) + 1, np.inf)
        np.minimum.at(nearest, number, depth)
        rows = rows[depth - nearest[number] < HIDDEN_BEHIND * self.diameter_m]
        if len(rows) > SEEN_POINTS:
            rows = rows[np.linspace(0, len(rows) - 1, SEEN_POINTS).astype(np.int64)]
        return Seen.of(self.points[rows], self.normals[rows])


@dataclass(frozen=True, eq=False)
class Seen:
    """Points that are seen, filled up to a number that is the same for all objects.

    :param vectors: (SEEN_POINTS, 3, 3) position [m], normal, and the cross product of both.
    :param real: (SEEN_POINTS,) false for what only fills up.
    """

    vectors: Array
    real: NDArray[np.bool_]

    @classmethod
    def of(cls, points: Array, normals: Array) -> Seen:
        """Put points together, (N, 3) each."""
        vectors = np.zeros((SEEN_POINTS, 3, 3))
        vectors[:len(points)] = np.stack([points, normals, np.cross(points, normals)], axis=1)
        return cls(vectors, np.arange(SEEN_POINTS) < len(points))


_SPHERE = even_directions(DIRECTIONS)
