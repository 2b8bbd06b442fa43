"""The box that an object at a known pose covers in an image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import BoxError
from ..geometry.camera import Camera
from ..geometry.directions import even_directions
from ..geometry.se3 import Array
from ..objects import ObjectModel

# Number of directions; the farthest vertex in each represents the mesh. For a round object the
# error between two directions is at most 0.2 % of its radius.
DIRECTIONS = 1500
# Nearer points count as behind the camera.
NEAREST_M = 1e-3


class ProjectedBoxes:
    """Projects meshes; each is read when it is first needed.

    :param objects: by label.
    """

    def __init__(self, objects: Mapping[str, ObjectModel]) -> None:
        self._objects = objects
        self._points: dict[str, Array] = {}

    def box(self, label: str, T_camera_object: Array, camera: Camera) -> Array:
        """Return the box around what the image shows of an object that nothing hides.

        :param T_camera_object: (4, 4) [m] of the real object, whose size may differ from its
            mesh's.
        :return: (4,) x1, y1, x2, y2 [px], cut off at the borders of the image.
        :raises BoxError: when the object is behind the camera or outside the image.
        """
        size_ratio = self._objects[label].size_ratio
        points = (size_ratio * self._outline(label) @ T_camera_object[:3, :3].T
                  + T_camera_object[:3, 3])
        if not np.isfinite(points).all() or not (points[:, 2] > NEAREST_M).all():
            raise BoxError(f'{label!r} is not in front of the camera at '
                           f'{np.round(T_camera_object[:3, 3], 3).tolist()} m')
        uv = camera.project(points)
        uv = uv[np.isfinite(uv).all(axis=1)]  # a lens does not see every point
        size = np.array([camera.width, camera.height], np.float64)
        if not len(uv) or not ((uv.max(axis=0) > 0) & (uv.min(axis=0) < size)).all():
            raise BoxError(f'{label!r} is outside the {camera.width}x{camera.height} image at '
                           f'{np.round(T_camera_object[:3, 3], 3).tolist()} m')
        return np.concatenate([np.clip(uv.min(axis=0), 0.0, size),
                               np.clip(uv.max(axis=0), 0.0, size)])

    def _outline(self, label: str) -> Array:
        if label not in self._points:
            self._points[label] = outermost(self._objects[label].load_mesh().vertices)
        return self._points[label]


def outermost(vertices: Array) -> Array:
    """Return the vertices that are farthest out in some direction, (M, 3).

    :param vertices: (V, 3).
    """
    if len(vertices) <= DIRECTIONS:
        return np.asarray(vertices, np.float64)
    rows = {int(np.argmax(vertices @ direction)) for direction in even_directions(DIRECTIONS)}
    return np.asarray(vertices[sorted(rows)], np.float64)
