"""An object whose poses are compared with the truth, up to its symmetries."""

from __future__ import annotations

from functools import cached_property

from ..geometry.hull import hull_vertices
from ..geometry.se3 import Array
from ..geometry.symmetry import Symmetries
from ..objects import ObjectModel
from .pose_errors import NearestTruth, nearest_truth


class ComparedObject:
    """Compares poses of one object with the truth.

    Unlike BOP's scores, it does not count rotations of a ball, see :meth:`Symmetries.comparable`.

    :param model: whose mesh is read when first needed. Poses are in the frame of this mesh: give
        :meth:`ObjectModel.centred` for those of the centred frame.
    :param symmetries: of the poses; those of the mesh where none are given. Those of the real
        object are ``model.real_symmetries``.
    :param scale: of the points that surface distances are measured at: 1 for those of the mesh,
        ``model.size_ratio`` for those of the real object.
    """

    def __init__(self, model: ObjectModel, *, symmetries: Symmetries | None = None,
                 scale: float = 1.0) -> None:
        self.model = model
        self.symmetries = model.symmetries if symmetries is None else symmetries
        self._scale = scale

    @cached_property
    def _hull(self) -> Array:
        """Return the vertices on the convex hull, (H, 3) [m]: enough for surface distances."""
        return self._scale * hull_vertices(self.model.load_mesh().vertices)

    def nearest(self, T_est: Array, T_gt: Array) -> NearestTruth:
        """Compare an estimate with the nearest symmetric equivalent of the truth.

        :param T_est: (4, 4) estimated T_camera_object [m].
        :param T_gt: (4, 4) true T_camera_object [m].
        :raises MeshError: when the mesh has to be read and cannot be used.
        """
        return nearest_truth(T_est, self.symmetries.comparable(T_gt, T_est), self._hull,
                             self.symmetries)
