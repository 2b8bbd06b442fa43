"""The objects that can be recognised, read from a BOP folder or a YAML list."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DatasetError, MeshError, SpecError
from .geometry.se3 import Array
from .geometry.symmetry import Symmetries, unlisted_product
from .meshes import (
    Mesh,
    check_size,
    check_symmetries,
    measure_diameter,
    mesh_digest,
    read_mesh,
)
from .reading.fields import label, number, only_known, whole, whole_text
from .reading.text import parse_json, parse_yaml

__all__ = ['Mesh', 'ObjectModel', 'check_objects', 'load_bop_objects', 'load_object_list',
           'mesh_digest']

DIAMETERS_M = (0.002, 20.0)  # what a camera can be expected to see; outside, the unit is wrong
# A symmetry turns about a point of the object, so that it moves the origin no further.
FARTHEST_DIAMETERS = 10.0
FARTHEST_MIDDLE = 0.1  # of the longest side, outside of the bounding box
SHORTEST_UNIT_M = 1e-6
SYMMETRY_FIELDS = ('symmetries_discrete', 'symmetries_continuous')
LIST_FIELDS = ('id', 'label', 'mesh', 'unit_m', 'diameter', 'middle', *SYMMETRY_FIELDS)


@dataclass(frozen=True, eq=False, kw_only=True)
class ObjectModel:
    """One object that can be recognised.

    Its frame is that of its mesh file; poses, bounds and symmetries are told in it. The network
    works in the centred frame, which has the same axes and its origin at ``middle_m``.

    :param object_id: BOP number of the object.
    :param label: name used in detections.
    :param mesh_path: PLY, OBJ, OFF or STL file.
    :param mesh_sha256: :func:`mesh_digest` the file must have, '' to accept any.
    :param diameter_m: largest distance between two vertices.
    :param symmetries: motions that leave the object looking the same [m].
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
        check_symmetries(self.mesh_path, mesh.vertices, self.symmetries.transforms,
                         self.diameter_m)
        self._check_middle(mesh)
        return mesh

    def _check_middle(self, mesh: Mesh) -> None:
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        middle, room = 0.0 * low if self.is_centred else self.middle_m, FARTHEST_MIDDLE * (
            high - low).max()
        if self.middle_m.any() and not ((low - room <= middle) & (middle <= high + room)).all():
            raise MeshError(
                self.mesh_path, f'has its middle outside of itself: it is said to be at '
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


def load_bop_objects(
    models_dir: Path | str,
    ids: Iterable[int] | None = None,
    labels: Mapping[int, str] | None = None,
) -> dict[int, ObjectModel]:
    """Read the objects of a BOP models folder, meshes in millimetres.

    :param models_dir: folder of ``models_info.json`` and ``obj_*.ply``.
    :param ids: objects wanted, all by default.
    :param labels: names by object id, ``obj_000001`` and so on by default.
    :return: by object id, ascending.
    :raises DatasetError: when models_info.json is missing, malformed, or lacks an object, or
        when two objects would have the same label, or one an implausible size.
    :raises MeshError: when a mesh file is missing.
    """
    folder = Path(models_dir)
    info = read_models_info(folder / 'models_info.json')
    wanted = sorted(info) if ids is None else sorted(set(ids))
    unknown = sorted(set(wanted) - set(info))
    if unknown:
        raise DatasetError(f'{folder}: no objects {unknown}; there are {sorted(info)}')
    objects = {
        object_id: _object_from_entry(
            folder / 'models_info.json', info[object_id], object_id,
            folder / f'obj_{object_id:06d}.ply',
            (labels or {}).get(object_id, f'obj_{object_id:06d}'), 0.001,
        )
        for object_id in wanted
    }
    check_objects(objects.values(), str(folder))
    return objects


def load_object_list(path: Path | str) -> dict[int, ObjectModel]:
    """Read objects from a YAML list.

    Each entry has ``id``, ``label``, ``mesh`` (relative to the list), and optionally ``unit_m``
    (0.001 by default) and, in that unit, ``diameter`` (measured from the mesh by default),
    ``middle`` (the point that the network works about, the origin by default),
    ``symmetries_discrete`` and ``symmetries_continuous`` as in BOP's models_info.json.

    :return: by object id, in the order of the list.
    :raises DatasetError: when the list is missing or malformed, has an unknown field, names an
        id or label twice, or an object has an implausible size, as it has in a wrong unit.
    :raises MeshError: when a mesh file is missing.
    """
    source, objects = Path(path), dict[int, ObjectModel]()
    for object_id, entry in read_object_list(source).items():
        objects[object_id] = _object_from_entry(
            source, entry, object_id, source.parent / str(entry['mesh']), label(entry['label']),
            float(entry.get('unit_m', 0.001)),
        )
    check_objects(objects.values(), f'object list {source}')
    return objects


def read_object_list(path: Path) -> dict[int, dict[str, Any]]:
    """Return the entries of a YAML list of objects by object id.

    :raises DatasetError: when the list is missing or malformed, has an unknown field, or names
        an id twice.
    """
    try:
        entries = parse_yaml(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f'object list {path} cannot be read: {error}') from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DatasetError(f'object list {path}: expected a list of mappings')
    found: dict[int, dict[str, Any]] = {}
    for position, entry in enumerate(entries):
        where = f'object list {path}: entry {position}'
        missing = sorted({'id', 'label', 'mesh'} - set(entry))
        if missing:
            raise DatasetError(f'{where} lacks {missing}')
        try:
            only_known(entry, LIST_FIELDS, where)
            object_id = whole(entry['id'], f'{where}: id')
            label(entry['label'], f'{where}: label')
            label(entry['mesh'], f'{where}: mesh')
            number(entry.get('unit_m', 0.001), f'{where}: unit_m', SHORTEST_UNIT_M)
        except ValueError as error:
            raise DatasetError(str(error)) from error
        if object_id in found:
            raise DatasetError(f'object list {path}: id {object_id} appears twice')
        found[object_id] = entry
    if not found:
        raise DatasetError(f'object list {path}: it names no objects')
    return found


def check_objects(objects: Iterable[ObjectModel], where: str) -> None:
    """Refuse objects that cannot be told apart by their label, or cannot be so small or large.

    :param where: they come from, for the message.
    :raises DatasetError: naming the object.
    """
    low, high = DIAMETERS_M
    objects = list(objects)
    for model in objects:
        if model.label != model.label.strip() or model.label[:1] == '/' or any(
                not letter.isprintable() for letter in model.label):
            raise DatasetError(
                f'{where}: object {model.object_id} has the label {model.label!r}; it is a name '
                'in messages and in /tf, so that it must not begin or end with a blank, begin '
                'with a slash, or hold characters that cannot be printed')
    known: dict[str, int] = {}
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
        known[model.label] = model.object_id


def read_models_info(path: Path) -> dict[int, dict[str, Any]]:
    """Return the entries of a BOP models_info.json by object id, lengths in millimetres.

    :raises DatasetError: when it is missing or malformed.
    """
    try:
        values = parse_json(path.read_bytes())
        info = {whole_text(key, 'a key'): dict(entry) for key, entry in values.items()}
        if len(info) < len(values):
            raise ValueError('two of its keys are the same number')
        for object_id, entry in info.items():
            only_known([k for k in entry if 'symmetr' in k], SYMMETRY_FIELDS,
                       f'object {object_id}')
            if 'diameter' in entry:
                number(entry['diameter'], f'object {object_id}: diameter')
        return info
    except OSError as error:
        raise DatasetError(f'{path} cannot be read ({error.strerror})') from error
    except (ValueError, AttributeError, TypeError) as error:
        raise DatasetError(f'{path} is not a BOP models_info.json: {error}') from error


def _object_from_entry(
    source: Path, entry: Mapping[str, Any], object_id: int, mesh: Path, name: str, unit_m: float
) -> ObjectModel:
    """Return an object of a models_info.json or a list.

    :param source: the file, for messages.
    """
    digest = mesh_digest(mesh)
    try:
        diameter_m = number(entry['diameter'], 'diameter') * unit_m if 'diameter' in entry else \
            measure_diameter(read_mesh(mesh, unit_m).vertices)
        symmetries = Symmetries.from_bop(entry, unit_m)
        _tell_unlisted(f'{source}: object {object_id} ({name})', unlisted_product(entry, unit_m))
        middle_m = unit_m * read_point(entry.get('middle', (0.0, 0.0, 0.0)), 'middle')
        moves = symmetries.about(middle_m).transforms[:, :3, 3]
        farthest = float(np.linalg.norm(moves, axis=1).max())
        if farthest > FARTHEST_DIAMETERS * diameter_m:
            raise ValueError(f'a symmetry moves it by {farthest:.3g} m, its diameter is '
                             f'{diameter_m:.3g} m; lengths are read in units of {unit_m:g} m')
    except (KeyError, TypeError, ValueError, SpecError) as error:
        raise DatasetError(f'{source}: object {object_id} ({name}) is malformed: {error}; '
                           'correct the file') from error
    return ObjectModel(object_id=object_id, label=name, mesh_path=mesh, mesh_sha256=digest,
                       diameter_m=diameter_m, symmetries=symmetries, unit_m=unit_m,
                       middle_m=middle_m)


def _tell_unlisted(where: str, number: int | None) -> None:
    """Warn of symmetries of which some are missing; true poses would count as wrong ones."""
    if number is not None:
        logging.getLogger(__name__).warning(
            '%s: symmetries_discrete[%d] followed by itself or another one is a symmetry that is '
            'not listed; list all of them, as a quarter, a half and three quarters of a turn',
            where, number)


def read_point(values: Any, name: str) -> Array:
    """Return three numbers of a file, (3,).

    :raises ValueError: when they are not.
    """
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise ValueError(f'{name} must be three numbers, got {values!r}')
    return np.array([number(value, name) for value in values])
