"""Reads OBJ files and the material libraries that their faces need.

trimesh, assimp and tinyobjloader were tried first. None of them gets all of these right, and
each goes on in silence where it is wrong: indices that count back from their line, several
libraries, several names in one line, blanks in names, byte order marks, continued lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError
from .files import find_file, lines_of
from .mtl import Material, merged, paint_of, read_library
from .surface import Paint, Polygons, Rows, Surface

# surfaces, or other files, that are not drawn here
UNSUPPORTED = ('call', 'csh', 'curv', 'curv2', 'maplib', 'sp', 'surf', 'usemap')
# what exporters write for faces without a material
NO_MATERIAL = ('', 'None', '(null)', 'null')
BAD_FILE = 'export it again as OBJ or PLY'


@dataclass(eq=False)
class _Content:
    """The statements of a file; indices are made absolute, from 0, and -1 where there is none."""

    tables: dict[str, list[list[float]]] = field(
        default_factory=lambda: {'v': [], 'vt': [], 'vn': []})
    sizes: list[int] = field(default_factory=list)
    corners: list[tuple[int, int, int]] = field(default_factory=list)
    materials: list[str] = field(default_factory=lambda: [''])
    face_materials: list[int] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)


def read_obj(path: Path) -> tuple[Surface, list[Path]]:
    """Read an OBJ file.

    :return: the surface, and the libraries in which its materials are.
    :raises MeshError: when it, a library or a texture that it needs cannot be used.
    :raises OSError: when it cannot be read.
    """
    content = _parse(path)
    if not content.sizes:
        raise MeshError(path, f'has {len(content.tables["v"])} vertices and no faces')
    v, vt, vn = (_table(path, content, key, least) for key, least in
                 (('v', 3), ('vt', 1), ('vn', 3)))
    table = np.array(content.corners, np.int64)
    try:
        triangles, owners = Polygons(np.array(content.sizes), table[:, 0]).triangles(v[:, :3])
    except ValueError as error:
        raise MeshError(path, str(error), BAD_FILE) from error
    corners, uv_rows, normal_rows = np.moveaxis(table[triangles], 2, 0)
    rgb = _vertex_rgb(path, v)
    paints, face_paints, libraries = _paints(
        path, content, (uv_rows >= 0).all(axis=1), np.array(content.face_materials)[owners],
        rgb is not None)
    used, rows = np.unique(corners, return_inverse=True)
    return Surface(
        v[used, :3], rows.reshape(-1, 3), paints, face_paints,
        vertex_rgb=None if rgb is None else rgb[used],
        normals=vn if (normal_rows >= 0).any() else None, normal_rows=normal_rows,
        uv=np.pad(vt, ((0, 0), (0, 1)))[:, :2] if len(vt) else None, uv_rows=uv_rows), libraries


def _parse(path: Path) -> _Content:
    content = _Content()
    for number, line in enumerate(_statements(path), start=1):
        words = line.split(maxsplit=1)
        if not words or words[0].startswith('#'):
            continue
        keyword, rest = words[0], words[1].strip() if len(words) == 2 else ''
        try:
            if keyword in content.tables:
                content.tables[keyword].append([float(w) for w in rest.split('#')[0].split()])
            elif keyword in ('f', 'fo'):
                _add_face(content, rest.split('#')[0].split())
            elif keyword == 'usemtl':
                content.materials.append(rest)
            elif keyword == 'mtllib':
                content.libraries.append(rest)
            elif keyword in UNSUPPORTED:
                raise ValueError(f'"{keyword}" is not supported')
        except ValueError as error:
            raise MeshError(path, f'cannot be read: {error}, in statement {number}: '
                            f'{line.strip()[:60]}', BAD_FILE) from error
    return content


def _statements(path: Path) -> list[str]:
    """Return the lines of a file, with those joined that end in a backslash.

    A comment ends with its line: a folder of Windows at its end continues nothing.
    """
    statements: list[str] = []
    joined = ''
    for line in lines_of(path.read_bytes()):
        text = joined + line
        if text.rstrip().endswith('\\') and not text.lstrip().startswith('#'):
            joined = text.rstrip()[:-1] + ' '
            continue
        statements.append(text)
        joined = ''
    return [*statements, joined]


def _add_face(content: _Content, words: list[str]) -> None:
    counts = [len(content.tables[key]) for key in ('v', 'vt', 'vn')]
    for word in words:
        parts = word.split('/')
        if len(parts) > 3 or not parts[0]:
            raise ValueError(f'"{word}" is no corner of a face')
        row = [-1, -1, -1]
        for place, part in enumerate(parts):
            if part:
                row[place] = _absolute(int(part), counts[place])
        content.corners.append((row[0], row[1], row[2]))
    content.sizes.append(len(words))
    content.face_materials.append(len(content.materials) - 1)


def _absolute(index: int, count: int) -> int:
    """Return the row that an index means in a table that has ``count`` rows so far."""
    if index == 0 or index < -count:
        raise ValueError(f'there is no index {index} after {count} rows')
    return index - 1 if index > 0 else count + index


def _table(path: Path, content: _Content, key: str, least: int) -> NDArray[np.float64]:
    """Return the rows of one kind, filled up with NaN to the longest of them."""
    rows = content.tables[key]
    if any(len(row) < least for row in rows):
        raise MeshError(path, f'has a line "{key}" with fewer than {least} numbers', BAD_FILE)
    table = np.full((len(rows), max([least, *map(len, rows)])), np.nan)
    for length in {len(row) for row in rows}:
        which = [i for i, row in enumerate(rows) if len(row) == length]
        table[which, :length] = [rows[i] for i in which]
    place = ('v', 'vt', 'vn').index(key)
    highest = max((corner[place] for corner in content.corners), default=-1)
    if highest >= len(rows):
        raise MeshError(path, f'has a face with the index {highest + 1} of "{key}", but there are '
                        f'{len(rows)}', BAD_FILE)
    return table


def _vertex_rgb(path: Path, v: NDArray[np.float64]) -> NDArray[np.uint8] | None:
    """Return the colours behind the coordinates: x y z r g b, from 0 to 1 or 0 to 255."""
    if v.shape[1] < 6:
        return None
    colours = v[:, 3:6]
    if not np.isfinite(colours).all() or colours.min() < 0 or colours.max() > 255:
        raise MeshError(path, 'has vertices with colours and others without, or colours outside '
                        '0 to 255', BAD_FILE)
    return np.rint(colours * (255 if colours.max() <= 1 else 1)).astype(np.uint8)


def _paints(path: Path, content: _Content, textured: NDArray[np.bool_], used: Rows,
            coloured: bool) -> tuple[tuple[Paint, ...], Rows, list[Path]]:
    """Return the paints of all triangles, a row for each, and the libraries they are from.

    :param textured: (F,) whether a triangle has texture coordinates.
    :param used: (F,) rows of ``content.materials``.
    :param coloured: whether vertices have colours of their own.
    """
    names = [content.materials[row] for row in used]
    needed = {name for name in names if name not in NO_MATERIAL}
    known, missing = _libraries(path, content.libraries)
    named = list(dict.fromkeys(material.library for material in known.values()))
    namesake = path.with_suffix('.png')
    if not (needed and content.libraries) and textured.any() and namesake.is_file():
        return (Paint(), Paint(image=namesake)), textured.astype(np.int64), named
    if not needed or (coloured and not (content.libraries and textured.any())):
        return (Paint(),), np.zeros(len(used), np.int64), named[:1]
    ways = {key: row for row, key in enumerate(dict.fromkeys(zip(names, textured.tolist(),
                                                                 strict=True)))}
    paints = tuple(_paint(path, known, missing, *way) for way in ways)
    rows = np.array([ways[key] for key in zip(names, textured.tolist(), strict=True)])
    libraries = dict.fromkeys(known[name].library for name, _ in ways if name in known)
    return paints, rows, list(libraries)


def _paint(path: Path, known: dict[str, Material], missing: list[str], name: str,
           textured: bool) -> Paint:
    if name in known:
        return paint_of(path, name, known[name], textured)
    if name in NO_MATERIAL:
        return Paint()
    where = f'; there is no {", no ".join(missing)}' if missing else ''
    raise MeshError(path, f'its faces use the material {name!r}, which no material library of it '
                    f'has{where}', 'put the file that its line "mtllib" names beside it, or '
                    'remove the line "usemtl"')


def _libraries(path: Path, lines: list[str]) -> tuple[dict[str, Material], list[str]]:
    """Return the materials of all libraries that are there, and the names of those that are not.

    A line may name several, and a name may have blanks in it.
    """
    known: dict[str, Material] = {}
    missing: list[str] = []
    for line in dict.fromkeys(lines):
        ways = ([line], re.findall(r'\S.*?\.mtl(?=\s|$)', line, re.IGNORECASE), line.split())
        files = [[(name, find_file(name, path.parent)) for name in way] for way in ways]
        best = max(files, key=lambda way: sum(file is not None for _, file in way))
        for name, file in best:
            if file is None:
                missing.append(name)
                continue
            for key, material in read_library(file).items():
                known[key] = merged(known.get(key), material)
    return known, missing
