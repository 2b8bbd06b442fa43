"""The objects that a dataset is made of: a BOP models folder, a YAML list, or mesh files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.bop_scene import MM
from ..errors import DatasetError, MeshError
from ..geometry.symmetry import Symmetries
from ..meshes import (
    check_origin,
    measure_diameter,
    mesh_digest,
    read_mesh,
    tell_grey,
    tell_other_unit,
)
from ..objects import ObjectModel, load_bop_objects, load_object_list
from ..objects.object_files import SYMMETRY_FIELDS, read_models_info, read_object_list
from ..objects.object_model import DIAMETERS_M


@dataclass(frozen=True, eq=False)
class Source:
    """Objects and their symmetries.

    :param objects: by object id.
    :param symmetries: entries of a models_info.json by object id, in millimetres.
    """

    objects: dict[int, ObjectModel]
    symmetries: dict[int, dict[str, Any]]


def from_models(path: Path, ids: Iterable[int] | None = None) -> Source:
    """Read a BOP models folder or a YAML list of objects.

    :param ids: objects wanted, all by default.
    :raises DatasetError: when it is missing or malformed, or lacks a wanted object.
    :raises MeshError: when a mesh is missing, or has its origin far from its middle.
    """
    if path.is_dir():
        objects = load_bop_objects(path, ids)
        info = read_models_info(path)
        return _checked(Source(objects, {
            key: _in_mm(entry, MM) for key, entry in info.items() if key in objects}))
    objects = load_object_list(path)
    wanted = set(objects if ids is None else ids)
    if not wanted <= set(objects):
        raise DatasetError(f'{path}: no objects {sorted(wanted - set(objects))}; there are '
                           f'{sorted(objects)}')
    entries = read_object_list(path)
    return _checked(Source({i: o for i, o in objects.items() if i in wanted},
                           {i: _in_mm(entries[i], objects[i].unit_m) for i in wanted}))


def from_meshes(paths: Sequence[Path], unit_m: float) -> Source:
    """Measure mesh files and number them from 1; they have no symmetries.

    :param unit_m: length of the files' unit [m].
    :raises MeshError: when one is missing, unreadable, of a size that no camera sees, or has its
        origin far from its middle.
    """
    objects = {}
    for object_id, path in enumerate(paths, start=1):
        diameter_m = measure_diameter(read_mesh(path, unit_m).vertices)
        low, high = DIAMETERS_M
        if not low <= diameter_m <= high:
            raise MeshError(
                path, f'read in units of {unit_m:g} m it has a diameter of {diameter_m:.3g} m, '
                f'expected {low:g} to {high:g} m', 'give the right --unit')
        # numbered: files from several folders may have one name
        objects[object_id] = ObjectModel(
            object_id=object_id, label=f'{path.stem}_{object_id}', mesh_path=path,
            mesh_sha256=mesh_digest(path), diameter_m=diameter_m, symmetries=Symmetries.none(),
            unit_m=unit_m)
        tell_other_unit(path, unit_m)
        tell_grey(path)
    return _checked(Source(objects, {}))


def _checked(source: Source) -> Source:
    """Refuse meshes that training refuses: pictures would cut them off or not show them."""
    for model in source.objects.values():
        check_origin(model.mesh_path, model.centred().load_mesh().vertices, model.diameter_m,
                     model.unit_m)
    return source


def _in_mm(entry: Mapping[str, Any], unit_m: float) -> dict[str, Any]:
    """Return the symmetries of an entry with lengths in millimetres."""
    scale, (discrete, continuous) = unit_m / MM, SYMMETRY_FIELDS
    found: dict[str, Any] = {}
    for values in entry.get(discrete, []):
        moved = [float(v) * (scale if k in (3, 7, 11) else 1.0)
                 for k, v in enumerate(np.ravel(values))]
        found.setdefault(discrete, []).append(moved)
    for values in entry.get(continuous, []):
        found.setdefault(continuous, []).append(
            {'axis': list(values['axis']), 'offset': [scale * float(v) for v in values['offset']]})
    return found
