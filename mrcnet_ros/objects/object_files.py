"""Objects read from a BOP folder or a YAML list."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError, SpecError
from ..geometry.se3 import Array
from ..geometry.symmetry import Symmetries, unlisted_product
from ..meshes import measure_diameter, mesh_digest, read_mesh, tell_grey, tell_other_unit
from ..reading.fields import label, number, only_known, whole, whole_text
from ..reading.text import parse_json, parse_yaml
from .object_model import ObjectModel, check_objects

# A symmetry turns about a point of the object, so that it moves the origin no further.
FARTHEST_DIAMETERS = 10.0
MODELS_INFO = 'models_info.json'  # what makes a folder a BOP models folder
SHORTEST_UNIT_M = 1e-6  # a micrometre: the smallest unit that a mesh may be in
SYMMETRY_FIELDS = ('symmetries_discrete', 'symmetries_continuous')
LIST_FIELDS = ('id', 'label', 'mesh', 'unit_m', 'diameter', 'middle', *SYMMETRY_FIELDS)


def load_bop_objects(models_dir: Path | str, ids: Iterable[int] | None = None,
                     labels: Mapping[int, str] | None = None) -> dict[int, ObjectModel]:
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
    info = read_models_info(folder)
    wanted = sorted(info) if ids is None else sorted(set(ids))
    unknown = sorted(set(wanted) - set(info))
    if unknown:
        raise DatasetError(f'{folder}: no objects {unknown}; there are {sorted(info)}')
    objects = {
        object_id: _object_from_entry(
            folder / MODELS_INFO, info[object_id], object_id,
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
            source, entry, object_id, source.parent / os.path.expanduser(str(entry['mesh'])),
            label(entry['label']), float(entry.get('unit_m', 0.001)),
        )
        tell_other_unit(objects[object_id].mesh_path, objects[object_id].unit_m)
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


def read_models_info(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the entries of a BOP models folder by object id, lengths in millimetres.

    :raises DatasetError: when its models_info.json is missing or malformed.
    """
    path = folder / MODELS_INFO
    try:
        values = parse_json(path.read_bytes())
        info = {whole_text(key, 'a key'): dict(entry) for key, entry in values.items()}
        if len(info) < len(values):
            raise ValueError('two of its keys are the same number')
        for object_id, entry in info.items():
            only_known([k for k in entry if 'symmetr' in k.lower()], SYMMETRY_FIELDS,
                       f'object {object_id}')
            if 'diameter' in entry:
                number(entry['diameter'], f'object {object_id}: diameter')
        return info
    except OSError as error:
        raise DatasetError(f'{path} cannot be read ({error.strerror})') from error
    except (ValueError, AttributeError, TypeError) as error:
        raise DatasetError(f'{path} is not a BOP models_info.json: {error}') from error


def _object_from_entry(source: Path, entry: Mapping[str, Any], object_id: int, mesh: Path,
                       name: str, unit_m: float) -> ObjectModel:
    """Return an object of a models_info.json or a list.

    :param source: the file, for messages.
    """
    digest = mesh_digest(mesh)
    tell_grey(mesh)
    try:
        diameter_m = number(entry['diameter'], 'diameter') * unit_m if 'diameter' in entry else \
            measure_diameter(read_mesh(mesh, unit_m).vertices)
        symmetries = Symmetries.from_bop(entry, unit_m)
        _tell_unlisted(f'{source}: object {object_id} ({name})', unlisted_product(entry, unit_m))
        middle_m = unit_m * read_point(entry.get('middle', (0.0, 0.0, 0.0)), 'middle')
        moves = symmetries.about(middle_m).transforms[:, :3, 3]
        farthest = float(np.linalg.norm(moves, axis=1).max())
        if farthest > FARTHEST_DIAMETERS * diameter_m:
            raise ValueError(f'a symmetry moves it by {farthest:.3g} m, but its diameter is '
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
