"""What of objects decides how they stand on a plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..geometry.hull import hull_vertices
from ..geometry.resting import Rests, resting_faces
from ..geometry.se3 import Array
from ..objects import ObjectModel


@dataclass(frozen=True, eq=False)
class Body:
    """The outer shape of a real object.

    :param corners: (V, 3) vertices of the convex hull [m], object frame.
    :param middle: (3,) of the surface [m], object frame; about the centre of mass.
    """

    corners: Array
    middle: Array
    diameter_m: float

    @cached_property
    def rests(self) -> Rests:
        """Return the faces that it can rest on."""
        return resting_faces(self.corners, self.middle)


class Bodies:
    """The bodies of objects by label; their meshes are read when they are first needed.

    :param objects: by label.
    """

    def __init__(self, objects: Mapping[str, ObjectModel]) -> None:
        self._objects = objects
        self._bodies: dict[str, Body] = {}

    def prepare(self) -> None:
        """Read the meshes of all objects now, so that no frame waits for them.

        :raises MeshError: when a mesh cannot be used.
        """
        for label in self._objects:
            self[label].rests  # noqa: B018 - computed once, and kept

    def __getitem__(self, label: str) -> Body:
        """Return the body of an object.

        :raises MeshError: when its mesh cannot be used.
        """
        if label not in self._bodies:
            item = self._objects[label]
            mesh = item.load_mesh()
            triangles = mesh.vertices[mesh.faces].reshape(-1, 9)
            a, b, c = np.split(triangles, 3, axis=1)
            area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
            middle = np.average((a + b + c) / 3, axis=0, weights=area)
            self._bodies[label] = Body(item.size_ratio * hull_vertices(mesh.vertices),
                                       item.size_ratio * middle, item.real_diameter_m)
        return self._bodies[label]
