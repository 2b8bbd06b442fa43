"""Reads OFF files with colours of vertices (COFF) or faces, which trimesh ignores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError
from ..reading.fields import numbers_of, whole_text
from .files import lines_of
from .mesh import NEUTRAL_GREY
from .surface import ROUNDING, IndexedSurface, Paint, Polygons

Words = list[list[str]]


def read_off(path: Path) -> IndexedSurface:
    """Read an OFF or COFF file in text.

    :raises MeshError: when it cannot be read.
    :raises OSError: when it cannot be read.
    """
    rows = [line.split('#')[0].split() for line in lines_of(path.read_bytes())]
    rows = [words for words in rows if words]
    try:
        if not rows or rows[0][0] not in ('OFF', 'COFF'):
            raise ValueError('it does not begin with OFF or COFF')
        kind, rows = rows[0][0], ([rows[0][1:]] if rows[0][1:] else []) + rows[1:]
        vertices, faces = (whole_text(word, 'a count') for word in rows[0][:2])
        if len(rows) != 1 + vertices + faces or not faces:
            raise ValueError(f'it has {len(rows) - 1} lines for {vertices} vertices and {faces} '
                             'faces')
        return _surface(kind, rows[1:1 + vertices], rows[1 + vertices:])
    except (ValueError, IndexError) as error:
        raise MeshError(path, f'cannot be read: {error}', 'export it as OBJ or PLY') from error


def _surface(kind: str, vertices: Words, faces: Words) -> IndexedSurface:
    widths = (3,) if kind == 'OFF' else (6, 7)
    if {len(words) for words in vertices} - set(widths):
        raise ValueError(f'a vertex does not have {" or ".join(map(str, widths))} numbers')
    positions = numbers_of([words[:3] for words in vertices])
    sizes = [whole_text(words[0], 'the size of a face') for words in faces]
    corners = [whole_text(word, 'a corner') for words, size in zip(faces, sizes, strict=True)
               for word in words[1:1 + size]]
    if len(corners) != sum(sizes):
        raise ValueError('a face has fewer corners than its first number says')
    polygons = Polygons(np.array(sizes), np.array(corners))
    triangles, owners = polygons.triangles(positions)
    face_rgb = _rgb([words[1 + size:] for words, size in zip(faces, sizes, strict=True)])
    return IndexedSurface(
        positions, polygons.corners[triangles], (Paint(),), np.zeros(len(owners), np.int64),
        vertex_rgb=_rgb([words[3:] for words in vertices]),
        face_rgb=None if face_rgb is None else face_rgb[owners])


def _rgb(colours: Words) -> NDArray[np.uint8] | None:
    """Return colours, (R, 3): whole numbers from 0 to 255, or fractions from 0 to 1.

    Whole numbers of which none is above 1 are fractions too: a mesh with 1 of 255 is black.
    """
    given = [words for words in colours if words]
    if not given:
        return None
    if any(len(words) not in (3, 4) for words in given):
        raise ValueError('it has colours that are not three or four numbers')
    numbers = numbers_of([words[:3] for words in given])
    scale = 1.0 if numbers.max() > 1 and all(
        word.isdigit() for words in given for word in words) else 255.0
    low, high = numbers.min(), numbers.max()
    if not low >= 0 or high * scale > 255 * (1 + ROUNDING):
        raise ValueError(f'it has colours from {low:g} to {high:g}')
    values = np.full((len(colours), 3), float(NEUTRAL_GREY))
    values[[bool(words) for words in colours]] = np.minimum(numbers * scale, 255)
    return np.asarray(np.rint(values), np.uint8)
