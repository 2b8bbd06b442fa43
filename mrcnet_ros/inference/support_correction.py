"""Corrects the distances of objects that stand on a known plane."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ..geometry.hull import hull_vertices
from ..geometry.se3 import Array
from ..objects import ObjectModel
from .depth_correction import doubt_of
from .poses import PoseEstimate
from .support_plane import Body, plane_information, standing


class SupportCorrection:
    """Moves objects that stand on a plane along their rays until they touch it.

    :param objects: by label.
    """

    def __init__(self, objects: Mapping[str, ObjectModel]) -> None:
        """Keep the objects; their meshes are read when they are first needed."""
        self._objects = objects
        self._bodies: dict[str, Body] = {}

    def prepare(self) -> None:
        """Read the meshes of all objects now, so that no frame waits for them.

        :raises MeshError: when a mesh cannot be used.
        """
        for label in self._objects:
            self._body(label)

    def correct(self, poses: Sequence[PoseEstimate], plane: Array) -> list[PoseEstimate]:
        """Return the poses, those corrected that stand on the plane.

        Depth knows better: what it has corrected stays.

        :param plane: (4,) of :func:`.support_plane.checked_plane`, camera frame.
        """
        return [pose if pose.depth is not None and pose.depth.used != 'none'
                else self._correct(pose, plane) for pose in poses]

    def _correct(self, pose: PoseEstimate, plane: Array) -> PoseEstimate:
        body, doubt = self._body(pose.label), doubt_of(pose)
        T = standing(body, pose.T_camera_object, plane, doubt)
        if T is None:
            return pose
        C = pose.covariance
        if C is not None:
            told = plane_information(T, plane, doubt, body.diameter_m)
            joint = np.linalg.inv(np.linalg.inv(C) + told)
            C = np.asarray((joint + joint.T) / 2, np.float64)
        return dataclasses.replace(pose, T_camera_object=T, covariance=C, stands=True)

    def _body(self, label: str) -> Body:
        if label not in self._bodies:
            item = self._objects[label]
            mesh = item.load_mesh()
            corners = mesh.vertices[mesh.faces].reshape(-1, 9)
            a, b, c = np.split(corners, 3, axis=1)
            area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
            middle = np.average((a + b + c) / 3, axis=0, weights=area)
            self._bodies[label] = Body(item.size_ratio * hull_vertices(mesh.vertices),
                                       item.size_ratio * middle,
                                       item.size_ratio * item.diameter_m)
        return self._bodies[label]
