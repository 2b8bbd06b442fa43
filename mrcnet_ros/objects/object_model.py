"""An object that can be recognised: its mesh, its size, its symmetries."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError, MeshError
from ..geometry.se3 import Array
from ..geometry.symmetry import Symmetries
from ..meshes import Mesh, check_size, check_symmetries, mesh_digest, read_mesh

DIAMETERS_M = (0.002, 20.0)  # what a camera can be expected to see; outside, the unit is wrong
# what a label must be, for messages
LABELS = 'labels are names in messages and in /tf: they must not begin or end with a blank, ' \
         'begin with a slash, or contain characters that cannot be printed'
# Of the diameter, by which two meshes of one object may differ. The most similar objects of LM-O
# differ by 0.12 of it, the 55 pairs of models/tless by 0.10 or more but for two of 0.08.
MOST_DIFFERENT = 0.1
FARTHEST_MIDDLE = 0.1  # of the longest side, outside of the bounding box


@dataclass(frozen=True, eq=False, kw_only=True)
class ObjectModel:
    """One object that can be recognised.

    Its frame is the frame of its mesh file. Poses, bounds and symmetries are in this frame. The
    network works in the centred frame, which has the same axes and its origin at ``middle_m``.

    :param object_id: BOP number of the object.
    :param mesh_path: PLY, OBJ, OFF, STL or GLB file.
    :param mesh_sha256: :func:`mesh_digest` the file must have, '' to accept any.
    :param diameter_m: largest distance between two vertices of the mesh.
    :param symmetries: motions that leave the mesh looking the same [m].
    :param unit_m: length of the mesh file's unit, 0.001 for millimetres.
    :param bounds_m: (2, 3) lowest and highest vertex coordinates of the mesh, object frame; None
        where :meth:`mesh_bounds` has to read it.
    :param size_ratio: size of the real object over that of its mesh, see ``mrcnet calibrate``.
    :param middle_m: (3,) origin of the centred frame [m], object frame.
    :param is_centred: whether this is the object in its centred frame, see :meth:`centred`.
    """

    object_id: int
    label: str
    mesh_path: Path
    mesh_sha256: str = ''
    diameter_m: float
    symmetries: Symmetries
    unit_m: float = 0.001
    bounds_m: NDArray[np.float64] | None = None
    size_ratio: float = 1.0
    middle_m: Array = field(default_factory=lambda: np.zeros(3))
    is_centred: bool = False

    def centred(self) -> ObjectModel:
        """Return the object in its centred frame, in which its mesh is loaded as well."""
        if self.is_centred or not self.middle_m.any():
            return self
        bounds_m = None if self.bounds_m is None else self.bounds_m - self.middle_m
        return dataclasses.replace(self, symmetries=self.symmetries.about(self.middle_m),
                                   bounds_m=bounds_m, is_centred=True)

    def to_centred(self, T_camera_object: Array) -> Array:
        """Return the poses of the centred frame, (..., 4, 4) [m], of the real object.

        :param T_camera_object: (..., 4, 4) [m].
        """
        return self._moved(T_camera_object, self.size_ratio)

    def from_centred(self, T_camera_centred: Array) -> Array:
        """Return the poses of the object frame, (..., 4, 4) [m]; undoes :meth:`to_centred`."""
        return self._moved(T_camera_centred, -self.size_ratio)

    def _moved(self, T: Array, factor: float) -> Array:
        moved = np.array(T, np.float64)
        moved[..., :3, 3] += moved[..., :3, :3] @ (factor * self.middle_m)
        return moved

    @property
    def real_diameter_m(self) -> float:
        """Return the diameter of the real object."""
        return self.size_ratio * self.diameter_m

    @cached_property
    def real_symmetries(self) -> Symmetries:
        """Return the motions that leave the real object looking the same, whose poses are known.

        An axis that does not pass through the origin is nearer to it where the object is smaller
        than its mesh.
        """
        return self.symmetries if self.size_ratio == 1.0 else self.symmetries.scaled(
            self.size_ratio)

    def bounds(self) -> NDArray[np.float64]:
        """Return lowest and highest coordinates of the real object, (2, 3) [m], object frame.

        :raises MeshError: when the mesh has to be read for it and cannot be used.
        """
        return self.size_ratio * self.mesh_bounds()

    def mesh_bounds(self) -> NDArray[np.float64]:
        """Return lowest and highest vertex coordinates of the mesh, (2, 3) [m], object frame.

        :raises MeshError: when the mesh has to be read for it and cannot be used.
        """
        if self.bounds_m is not None:
            return self.bounds_m
        vertices = self.load_mesh().vertices
        return np.stack([vertices.min(axis=0), vertices.max(axis=0)])

    def load_mesh(self) -> Mesh:
        """Read the mesh and check that it is the right one, in the right unit.

        :return: the mesh in metres.
        :raises MeshError: when it is missing, unreadable, not the one of ``mesh_sha256``, of
            another size than ``diameter_m``, not as symmetric as ``symmetries``, or not around
            ``middle_m``.
        """
        self.checked_digest()
        mesh = read_mesh(self.mesh_path, self.unit_m)
        check_size(self.mesh_path, mesh.vertices, self.diameter_m, self.unit_m)
        if self.is_centred:
            mesh = dataclasses.replace(mesh, vertices=mesh.vertices - self.middle_m)
        check_symmetries(self.mesh_path, mesh, self.symmetries.transforms, self.diameter_m)
        self._check_middle(mesh)
        return mesh

    def _check_middle(self, mesh: Mesh) -> None:
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        middle, room = 0.0 * low if self.is_centred else self.middle_m, FARTHEST_MIDDLE * (
            high - low).max()
        if self.middle_m.any() and not ((low - room <= middle) & (middle <= high + room)).all():
            raise MeshError(
                self.mesh_path, f'does not contain the given middle, '
                f'{np.round(self.middle_m, 4).tolist()} m in the frame of the file',
                'give the middle of its bounding box, in the frame and the unit of the file')

    def checked_digest(self) -> str:
        """Return :func:`mesh_digest` of the mesh as it is on disk now.

        :raises MeshError: when it is missing or not the one of ``mesh_sha256``.
        """
        digest = mesh_digest(self.mesh_path)
        if self.mesh_sha256 and digest != self.mesh_sha256:
            raise MeshError(
                self.mesh_path,
                f'is not the mesh known as {self.label!r}: its sha256 is {digest[:12]}..., '
                f'expected {self.mesh_sha256[:12]}...',
                'give the mesh the model was made with',
            )
        return digest


def is_label(text: str) -> bool:
    """Tell whether a text can be a label, as :data:`LABELS` says."""
    return text == text.strip() and text[:1] != '/' and text.isprintable()


def check_objects(objects: Iterable[ObjectModel], where: str) -> None:
    """Refuse objects that cannot be told apart by label or number, or are too small or large.

    :param where: they come from, for the message.
    :raises DatasetError: naming the object.
    """
    low, high = DIAMETERS_M
    objects = list(objects)
    for model in objects:
        if not is_label(model.label):
            raise DatasetError(f'{where}: object {model.object_id} has the label {model.label!r}; '
                               f'{LABELS}')
    known, labels = dict[str, int](), dict[int, str]()
    for model in objects:
        if not low <= model.diameter_m <= high:
            raise DatasetError(
                f'{where}: object {model.object_id} ({model.label}) has a diameter of '
                f'{model.diameter_m:.3g} m, expected {low:g} to {high:g} m; lengths are read in '
                f'units of {model.unit_m:g} m: give the right unit_m and diameter')
        if model.label in known:
            raise DatasetError(
                f'{where}: the objects {known[model.label]} and {model.object_id} are both called '
                f'{model.label!r}; give each a label of its own')
        if model.object_id in labels:
            raise DatasetError(
                f'{where}: {labels[model.object_id]!r} and {model.label!r} are both object '
                f'{model.object_id}; give each a number of its own')
        known[model.label], labels[model.object_id] = model.object_id, model.label


def of_other_sizes(own: Mapping[str, float | None], others: Mapping[str, float | None]
                   ) -> list[str]:
    """Return the labels that two sides have for objects of other sizes, sorted.

    Labels that were exchanged on one side are among them, however alike the sizes are: each has
    exactly the size that the other one has there.

    :param own: diameters by label, None where nobody says [m].
    :param others: of the other side.
    """
    pairs = {label: (one, other) for label, one in own.items()
             if one is not None and (other := others.get(label)) is not None}
    moved = {label: pair for label, pair in pairs.items() if not _same_size(*pair)}
    return sorted(label for label, (one, other) in moved.items()
                  if abs(one - other) > MOST_DIFFERENT * max(one, other)
                  or any(_same_size(one, there) for _, there in moved.values()))


def _same_size(one: float, other: float) -> bool:
    """Tell whether two diameters are of one mesh, but for rounding."""
    return math.isclose(one, other, rel_tol=1e-6)
