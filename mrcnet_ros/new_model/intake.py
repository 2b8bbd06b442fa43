"""Reads the given meshes: names, units, middles, and notes about problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MeshError, SpecError
from ..geometry.se3 import Array
from ..meshes import (
    UNIT_NAMES,
    UNITS_M,
    Mesh,
    copy_ply,
    find_middle,
    measure_diameter,
    read_mesh,
    stated_unit,
    tell_grey,
    write_ply,
)
from ..objects import load_bop_objects
from ..objects.object_files import SYMMETRY_FIELDS, read_models_info
from ..objects.object_model import DIAMETERS_M, LABELS, is_label
from ..reading.fields import label
from ..store.atomic import writing
from .request import Request

THIN = 0.02  # part of the diameter
# part of the diameter that is a pixel of a view of the training
VISIBLE = 0.01
# part of all edges that may be open before a mesh counts as one with holes
OPEN_EDGES = 0.002
# Ratio of diameters above which 3 to 9 diameters, as objects are trained, are no common distances.
MOST_UNLIKE = 3.0
# Diameters of objects for a gripper.
USUAL_M = (0.005, 2.0)
# Files that have y up: GLB as its specification says, OBJ as most programs write it.
Y_UP = {'.glb': 'GLB files have', '.obj': 'OBJ files often have'}
# Diameters at which a unit is sure without --unit: a file of a smaller number of millimetres, or
# a larger one of metres, may be in centimetres or inches.
SURE_M = {'mm': (0.025, USUAL_M[1]), 'm': (USUAL_M[0], 0.5)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """An object as it was read.

    :param source: the file it came from.
    :param middle_m: (3,) that the network works about, in the frame of the file.
    :param symmetries: as models_info.json has them, in the unit; None if they are to be found.
    :param notes: sentences for the user of the model.
    """

    object_id: int
    label: str
    source: Path
    unit: str
    size: str
    diameter_m: float
    middle_m: Array
    symmetries: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def unit_m(self) -> float:
        """Return the length of the unit [m]."""
        return UNITS_M[self.unit]

    @property
    def mesh_name(self) -> str:
        """Return the name of its mesh in the model directory."""
        return f'{self.label}.ply'


def take_in(request: Request) -> list[Part]:
    """Read all meshes and describe them.

    :raises MeshError: when one cannot be used.
    :raises DatasetError: when a BOP folder cannot be read.
    :raises SpecError: when two have the same name.
    """
    if request.bop_models is not None:
        parts = _from_bop(request, request.bop_models)
    else:
        _check_names(request.meshes)
        parts = [_from_file(number, path, request.unit)
                 for number, path in enumerate(request.meshes, start=1)]
    if request.views == 'table':
        _note_y_up(parts)
    _note_small(parts)
    return parts


def _note_y_up(parts: Sequence[Part]) -> None:
    for part in parts:
        if how := Y_UP.get(part.source.suffix.lower()):
            part.notes.append(f'{how} y up, but --views table stands objects with their z axis '
                              'up. If the picture shows it lying, leave out --views table.')


def _note_small(parts: Sequence[Part]) -> None:
    largest = max(parts, key=lambda p: p.diameter_m)
    for part in parts:
        ratio = largest.diameter_m / part.diameter_m
        if ratio > MOST_UNLIKE:
            part.notes.append(f'{largest.label} is {ratio:.0f} times as large. All objects of a '
                              'model are trained at the same distances, where this one is small. '
                              'It is better in a model of its own.')


def _check_names(paths: Sequence[Path]) -> None:
    known: dict[str, Path] = {}
    for path in paths:
        try:
            name = label(path.stem)
        except ValueError as error:
            raise SpecError(f'mesh {path}: its name becomes the label: {error}') from error
        if not is_label(name):
            raise SpecError(f'mesh {path}: its name becomes the label {name!r}; {LABELS}: rename '
                            'the file')
        if name in known:
            raise SpecError(f'two meshes have the name {name!r}: {known[name]} and {path}; '
                            'rename one, names become the labels of detections')
        known[name] = path


def _from_file(number: int, path: Path, unit: str) -> Part:
    mesh = read_mesh(path, 1.0)
    diameter = measure_diameter(mesh.vertices)
    if diameter <= 0:
        raise MeshError(path, 'has all its vertices in one point', 'export it again')
    name = find_unit(path, mesh.vertices, diameter, unit)
    scale, stated = UNITS_M[name], stated_unit(path)
    _check_width(path, mesh, diameter, scale)
    tell_grey(path)
    middle = find_middle(mesh.vertices, diameter)
    return Part(object_id=number, label=path.stem, source=path, unit=name,
                size=in_words(mesh.vertices, name), diameter_m=diameter * scale,
                middle_m=scale * middle,
                notes=_told(middle, scale) + notes_about(mesh, diameter, scale) + (
                    [] if stated in ('', name) else
                    [f'A comment of the file says that its unit is {UNIT_NAMES[stated]}. It is '
                     f'read as {UNIT_NAMES[name]}, as asked for.']))


def _from_bop(request: Request, folder: Path) -> list[Part]:
    if request.meshes or request.unit not in ('auto', 'mm'):
        raise SpecError('a BOP folder has meshes of its own, in millimetres: leave out other '
                        'meshes and --unit')
    objects = load_bop_objects(folder, request.object_ids or None)
    info, parts = read_models_info(folder), []
    # calc_model_info of the BOP toolkit writes sizes alone: symmetries are added by hand, or not
    stated = any(name in entry for entry in info.values() for name in SYMMETRY_FIELDS)
    for object_id, item in objects.items():
        mesh = item.load_mesh()  # checks that it has the stated diameter
        _check_width(item.mesh_path, mesh, item.diameter_m, 1.0)
        middle = find_middle(mesh.vertices, item.diameter_m)
        symmetries = {k: info[object_id][k] for k in SYMMETRY_FIELDS
                      if k in info[object_id]} if stated else None
        parts.append(Part(
            object_id=object_id, label=item.label, source=item.mesh_path, unit='mm',
            size=in_words(mesh.vertices / UNITS_M['mm'], 'mm'), diameter_m=item.diameter_m,
            middle_m=middle, symmetries=symmetries,
            notes=_told(middle, 1.0) + notes_about(mesh, item.diameter_m, 1.0)))
    return parts


def _told(middle: Array, scale: float) -> list[str]:
    if not middle.any():
        return []
    x, y, z = (f'{1000 * scale * v:.1f}' for v in middle)
    return [f'The origin of the file is not in the middle of the object, which is at ({x}, {y}, '
            f'{z}) mm. Published poses are those of the frame of the file.']


def notes_about(mesh: Mesh, diameter: float, scale: float) -> list[str]:
    """Return notes about properties of a mesh that make poses less certain.

    :param diameter: in the unit of the mesh.
    :param scale: of that unit [m].
    """
    import trimesh

    notes = []
    joined = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True)
    counts = np.unique(joined.edges_sorted, axis=0, return_counts=True)[1]
    open_edges = int((counts == 1).sum())
    if open_edges > OPEN_EDGES * len(counts):
        notes.append(f'The mesh has holes: {open_edges} of its {len(counts)} edges belong to one '
                     'face only. Cameras see its inside through them, unlike that of the object. '
                     'Close them if the object is closed.')
    thickness, width = _extents(mesh.vertices)[:2]
    if width < THIN * diameter:
        notes.append(f'The object is a thin rod, {1000 * scale * width:.2g} mm wide. In images it '
                     'is a line: its distance and its turn about its length are unsure.')
    elif thickness < THIN * diameter:
        notes.append(f'The object is a flat plate, {1000 * scale * thickness:.2g} mm thick. Seen '
                     'edge-on it is a line, and its pose there is unsure.')
    if not _usual(diameter * scale):
        notes.append(f'The object is {diameter * scale:.3g} m across. Make sure that the unit is '
                     'right.')
    return notes


def _check_width(path: Path, mesh: Mesh, diameter: float, scale: float) -> None:
    """Check that views of a rod show it; their pixels would lie on both sides of it.

    :raises MeshError: when it is thinner than a pixel.
    """
    width = float(_extents(mesh.vertices)[1])
    if width < VISIBLE * diameter:
        raise MeshError(path, f'is a rod only {1000 * scale * width:.2g} mm wide and '
                        f'{1000 * scale * diameter:.3g} mm long; the network would not see it',
                        f'choose an object that is wider than {VISIBLE:.0%} of its length')


def _extents(vertices: Array) -> Array:
    """Return the extents along the principal axes, the least first, (3,)."""
    axes = np.linalg.svd(vertices - vertices.mean(axis=0), full_matrices=False)[2]
    return np.sort(np.ptp(vertices @ axes.T, axis=0))


def copy_meshes(parts: Sequence[Part], folder: Path) -> None:
    """Write the meshes into the model directory, as PLY files in their units and frames.

    :raises DatasetError: when one cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for part in parts:
            if part.source.suffix.lower() == '.ply':
                copy_ply(part.source, folder / part.mesh_name)
            else:
                write_ply(folder / part.mesh_name, read_mesh(part.source, part.unit_m),
                          part.unit_m)


def find_unit(path: Path, vertices: Array, diameter: float, asked: str) -> str:
    """Return the name of a file's unit.

    :param vertices: (V, 3) in the unit of the file.
    :param diameter: in the unit of the file.
    :param asked: of :data:`UNITS_M`, or ``auto``.
    :raises MeshError: when the object cannot have its size in that unit, or several units are
        possible.
    """
    if asked != 'auto':
        return _checked(path, vertices, diameter, asked)
    if path.suffix.lower() == '.glb':  # glTF is in metres by its specification
        return _checked(path, vertices, diameter, 'm')
    if stated := stated_unit(path):
        return _checked(path, vertices, diameter, stated)
    for name, (low, high) in SURE_M.items():
        if low <= diameter * UNITS_M[name] <= high:
            return name
    readings = ' or '.join(in_words(vertices, name) for name in UNITS_M
                           if _possible(diameter * UNITS_M[name]))
    raise MeshError(path, f'has an unclear unit: it may be {readings or "of no known unit"}',
                    'give --unit mm, --unit m, --unit cm or --unit inch')


def _checked(path: Path, vertices: Array, diameter: float, name: str) -> str:
    low, high = DIAMETERS_M
    if _possible(diameter * UNITS_M[name]):
        return name
    size = 'small' if diameter * UNITS_M[name] < low else 'large'
    likely = [other for other in UNITS_M if other != name and _usual(diameter * UNITS_M[other])]
    remedy = f'it looks like it is in {UNIT_NAMES[likely[0]]}: --unit {likely[0]}' if likely \
        else 'check the file'
    raise MeshError(path, f'is {in_words(vertices, name)}; that is too {size}, an object is '
                          f'{low:g} to {high:g} m across', remedy)


def in_words(vertices: Array, name: str) -> str:
    """Return the size, such as ``84 x 52 x 30 mm, read as millimetres``."""
    size_mm = np.ptp(vertices, axis=0) * UNITS_M[name] * 1000.0
    if size_mm.max() >= 10000.0:
        told = ' x '.join(f'{s / 1000:.3g}' for s in size_mm) + ' m'
    else:
        told = ' x '.join(f'{s:.0f}' if s >= 100.0 else f'{s:.3g}' for s in size_mm) + ' mm'
    return f'{told}, read as {UNIT_NAMES[name]}'


def _possible(diameter_m: float) -> bool:
    return DIAMETERS_M[0] <= diameter_m <= DIAMETERS_M[1]


def _usual(diameter_m: float) -> bool:
    return USUAL_M[0] <= diameter_m <= USUAL_M[1]
