"""Reads OBJ files and the material libraries that their faces need.

trimesh, assimp and tinyobjloader were tried first. None of them gets all of these right, and
each goes on in silence where it is wrong: indices that count back from their line, several
libraries, several names in one line, blanks in names, byte order marks, continued lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError
from .files import before_comment, find_file
from .mtl import MtlMaterial, merged, paint_of, read_library
from .obj_text import BAD_FILE, Content, face_table, number_table, parse
from .surface import ROUNDING, IndexedSurface, Paint, Polygons, Rows

# what exporters write for faces without a material, unless a library has one of this name
NO_MATERIAL = ('', 'None', '(null)', 'null')


@dataclass(frozen=True, eq=False)
class _Looks:
    """How faces look, and in which libraries that is said.

    :param face_paints: (P,) rows of ``paints``, one for each face of the file.
    """

    paints: tuple[Paint, ...]
    face_paints: Rows
    libraries: list[Path]


def read_obj(path: Path) -> IndexedSurface:
    """Read an OBJ file.

    :raises MeshError: when it, a library or a texture that it needs cannot be used.
    :raises OSError: when it cannot be read.
    """
    content = parse(path)
    sizes, table = face_table(path, content)
    v, vt, vn = (number_table(path, content.tables[key], key, least, table[:, place])
                 for place, (key, least) in enumerate((('v', 3), ('vt', 1), ('vn', 3))))
    if v.shape[1] == 4 and (np.nan_to_num(v[:, 3], nan=1.0) != 1.0).any():
        raise MeshError(path, 'has vertices "v x y z w" whose w is not 1', BAD_FILE)
    try:
        triangles, owners = Polygons(sizes, table[:, 0]).triangles(v[:, :3])
    except ValueError as error:
        raise MeshError(path, str(error), BAD_FILE) from error
    corners, uv_rows, normal_rows = np.moveaxis(table[triangles], 2, 0)
    looks, rgb = _looks(path, content, sizes, table), _vertex_rgb(path, v)
    used, rows = np.unique(corners, return_inverse=True)
    return IndexedSurface(
        v[used, :3], rows.reshape(-1, 3), looks.paints, looks.face_paints[owners],
        vertex_rgb=None if rgb is None else rgb[used],
        normals=vn if (normal_rows >= 0).any() else None, normal_rows=normal_rows,
        uv=np.pad(vt, ((0, 0), (0, 1)))[:, :2] if len(vt) else None, uv_rows=uv_rows)


def companions_of_obj(path: Path) -> list[Path]:
    """Return the libraries and textures on which the looks of an OBJ file depend.

    :raises MeshError: when one that it needs is missing, or cannot be used.
    :raises OSError: when it cannot be read.
    """
    content = parse(path)
    looks = _looks(path, content, *face_table(path, content))
    images = [paint.image for paint in looks.paints if isinstance(paint.image, Path)]
    # a texture on all faces as it is looks the same whatever else its library says
    plain = len(looks.paints) == 1 and looks.paints[0].is_plain_image
    return list(dict.fromkeys(([] if plain else looks.libraries) + images))


def _vertex_rgb(path: Path, v: NDArray[np.float64]) -> NDArray[np.uint8] | None:
    """Return the colours behind the coordinates: x y z r g b, from 0 to 1 or 0 to 255."""
    if v.shape[1] < 6:
        return None
    colours = v[:, 3:6]
    if not np.isfinite(colours).all() or colours.min() < -ROUNDING or colours.max() > 255:
        raise MeshError(path, 'has vertices with colours and others without, or colours outside '
                        '0 to 255', BAD_FILE)
    fractions = colours.max() <= 1 + ROUNDING
    return np.rint(np.clip(colours * (255 if fractions else 1), 0, 255)).astype(np.uint8)


def _looks(path: Path, content: Content, sizes: Rows, table: Rows) -> _Looks:
    """Return how all faces look.

    :param sizes: (P,) number of corners of each face.
    :param table: (N, 3) rows of positions, texture coordinates and normals of all corners.
    :raises MeshError: when a face needs a material that cannot be found or drawn.
    """
    starts = np.cumsum(sizes) - sizes
    textured = np.minimum.reduceat(table[:, 1], starts) >= 0
    coloured = any(len(line.split()) >= 6 for line in content.tables['v'][:1])
    known, libraries = _libraries(path, content.libraries)
    materials = [bare if name not in known and (bare in known or bare in NO_MATERIAL) else name
                 for name, bare in ((name, before_comment(name)) for name in content.materials)]
    names = [materials[row] for row in content.face_materials]
    needed = {name for name in names if name in known or name not in NO_MATERIAL}
    named = list(dict.fromkeys(material.library for material in known.values()))
    namesake = path.with_suffix('.png')
    # some programs define it for faces without a material, with some grey
    nothing = {name for name in NO_MATERIAL if name in known and known[name].picture is None}
    if not (needed - nothing and content.libraries) and textured.all() and namesake.is_file():
        return _Looks((Paint(image=namesake),), np.zeros(len(sizes), np.int64), named)
    if not needed or (coloured and not (content.libraries and textured.any())):
        return _Looks((Paint(),), np.zeros(len(sizes), np.int64), named[:1])
    keys = list(zip(names, textured.tolist(), strict=True))
    ways = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    paints = tuple(_paint(path, known, libraries, *way) for way in ways)
    used = dict.fromkeys(known[name].library for name, _ in ways if name in known)
    return _Looks(paints, np.array([ways[key] for key in keys], np.int64), list(used))


def _paint(path: Path, known: dict[str, MtlMaterial], libraries: dict[str, Path | None],
           name: str, textured: bool) -> Paint:
    if name in known:
        return paint_of(path, name, known[name], textured)
    if name in NO_MATERIAL:
        return Paint()
    missing = [library for library, file in libraries.items() if file is None]
    where = f'; there is no {", no ".join(missing)}' if missing else ''
    # never to remove its line "usemtl": its faces would then have the material before it
    if missing:
        remedy = 'put the missing library beside the mesh'
    elif libraries:
        remedy = (f'add "newmtl {name}" with its colour "Kd" or its texture "map_Kd" to '
                  f'{next(iter(libraries.values()))}')
    else:
        remedy = 'export it again with its material library'
    raise MeshError(path, f'its faces use the material {name!r}, which no material library of it '
                    f'has{where}', remedy)


def _libraries(path: Path, lines: list[str]
               ) -> tuple[dict[str, MtlMaterial], dict[str, Path | None]]:
    """Return the materials of all libraries, and their files by name; None for a missing one.

    A line may name several, and a name may have blanks in it.
    """
    known: dict[str, MtlMaterial] = {}
    libraries: dict[str, Path | None] = {}
    for line in dict.fromkeys(lines):
        ways = ([line], re.findall(r'\S.*?\.mtl(?=\s|$)', line, re.IGNORECASE), line.split())
        files = [[(name, find_file(name, path.parent)) for name in way] for way in ways]
        best = max(files, key=lambda way: sum(file is not None for _, file in way))
        for name, file in best:
            libraries[name] = file
            for key, material in ({} if file is None else read_library(file)).items():
                known[key] = merged(known.get(key), material)
    return known, libraries
