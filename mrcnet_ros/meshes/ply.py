"""Reads PLY files, with the colours and textures that the common programs write."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError
from .files import find_file
from .ply_elements import HEADER_BYTES, Column, Header, Lists, read_elements, read_ply_header
from .surface import ROUNDING, IndexedSurface, Paint, Polygons, Rows

INDICES = ('vertex_indices', 'vertex_index')
# what programs call texture coordinates of vertices
COORDINATES = (('texture_u', 'texture_v'), ('u', 'v'), ('s', 't'))
# and what their other names have in common
LIKE_COORDINATES = re.compile('(?<!ver)tex(?!number)|uv|coord', re.IGNORECASE)
# and colours
COLOURS = (('red', 'green', 'blue'), ('diffuse_red', 'diffuse_green', 'diffuse_blue'),
           ('r', 'g', 'b'))
BAD_FILE = 'export it again as PLY or OBJ'
Table = dict[str, Column]


def read_ply(path: Path) -> IndexedSurface:
    """Read a PLY file.

    :raises MeshError: when it cannot be read, has no faces, or its textures cannot be told apart.
    :raises OSError: when it cannot be read.
    """
    data = path.read_bytes()
    try:
        tables = read_elements(data)
        vertices, faces = tables.get('vertex', {}), tables.get('face', {})
        positions = np.stack([_values(vertices, axis) for axis in 'xyz'], axis=1)
        listed = next((faces[name] for name in INDICES if name in faces), None)
        if not isinstance(listed, Lists) or not len(listed.counts):
            strips = ' but strips of triangles' if 'tristrips' in tables else ''
            raise ValueError(f'it has {len(positions)} vertices and no faces{strips}')
        polygons = Polygons(listed.counts, listed.values.astype(np.int64))
        triangles, owners = polygons.triangles(positions)
        corners = polygons.corners[triangles]
        uv, uv_rows = _coordinates(vertices, faces, polygons, triangles)
        normals = _columns(vertices, ('nx', 'ny', 'nz'))
        if 'material_index' in faces and 'material' in tables:
            raise ValueError('its faces have materials ("element material"), which are not read')
        paints, face_paints = _paints(path, read_ply_header(data), faces, owners)
        if uv_rows is not None:  # faces without coordinates have no texture
            face_paints = np.where((uv_rows < 0).any(axis=1), 0, face_paints)
        face_rgb = _rgb(faces)
        return IndexedSurface(
            positions, corners, paints, face_paints, normals, None if normals is None else corners,
            uv, corners if uv_rows is None else uv_rows, _rgb(vertices),
            None if face_rgb is None else face_rgb[owners],
            smooth=True)  # as models have learned those of T-LESS that have no normals
    except ValueError as error:
        raise MeshError(path, f'cannot be read: {error}', BAD_FILE) from error


def ply_textures(path: Path) -> list[Path]:
    """Return the textures a PLY file uses; only its header is read.

    :raises MeshError: when one is missing or the header cannot be read.
    :raises OSError: when the file cannot be read.
    """
    return _textures(path, _header_of(path))


def ply_lacks_picture(path: Path) -> bool:
    """Tell whether a PLY file has texture coordinates, and neither a texture nor colours.

    :raises MeshError: when the header cannot be read.
    :raises OSError: when the file cannot be read.
    """
    header = _header_of(path)
    return _has_coordinates(header) and not _has_colours(header) and not _textures(path, header)


def _header_of(path: Path) -> Header:
    with path.open('rb') as file:
        data = file.read(HEADER_BYTES)
    try:
        return read_ply_header(data)
    except ValueError as error:
        raise MeshError(path, f'cannot be read: {error}', BAD_FILE) from error


def _properties(header: Header) -> set[tuple[str, str]]:
    return {(element.name, p.name) for element in header.elements for p in element.properties}


def _has_coordinates(header: Header) -> bool:
    names = _properties(header)
    return ('face', 'texcoord') in names or any(
        {('vertex', u), ('vertex', v)} <= names for u, v in COORDINATES)


def _has_colours(header: Header) -> bool:
    names = _properties(header)
    return any({(element, c) for c in colours} <= names
               for element in ('vertex', 'face') for colours in COLOURS)


def _textures(path: Path, header: Header) -> list[Path]:
    """Return the pictures that the surface shows.

    A file with coordinates that names no picture and has no colours gets the PNG of its own name,
    if there is one: some programs write it so.

    Meshes that were reduced for evaluation name a picture and have no coordinates at all: they do
    not use it.

    :raises MeshError: when one is missing, or coordinates are under names that are not known.
    """
    if not _has_coordinates(header):
        unknown = sorted(name for element, name in _properties(header)
                         if element in ('vertex', 'face') and LIKE_COORDINATES.search(name))
        if header.textures and unknown and not _has_colours(header):
            raise MeshError(
                path, f'names the texture {header.textures[0]}, but its coordinates '
                f'({", ".join(unknown)}) have no name that is known: ' + ', '.join(
                    f'{u} and {v}' for u, v in COORDINATES) + ', or texcoord of faces',
                'export it with these names, or remove the line of the texture')
        return []
    if not header.textures and not _has_colours(header):
        namesake = path.with_suffix('.png')
        return [namesake] if namesake.is_file() else []
    found = []
    for name in header.textures:
        image = find_file(name, path.parent)
        if image is None:
            raise MeshError(path, f'its texture {path.parent / name} is missing',
                            'put it beside the mesh')
        found.append(image)
    return found


def _paints(path: Path, header: Header, faces: Table, owners: Rows
            ) -> tuple[tuple[Paint, ...], Rows]:
    """Return how faces are painted, and a row of it for each triangle.

    :raises ValueError: when there are several textures and faces do not say which they use.
    """
    images = _textures(path, header)
    paints = (Paint(), *(Paint(image=image) for image in images))
    if not images:
        return paints, np.zeros(len(owners), np.int64)
    if 'texnumber' not in faces:
        if len(set(images)) > 1:
            raise ValueError(f'it names {len(images)} textures ({", ".join(header.textures)}), '
                             'but its faces do not say, by texnumber, which they use')
        return paints, np.ones(len(owners), np.int64)
    numbers = _values(faces, 'texnumber').astype(np.int64)[owners]
    if len(numbers) and numbers.max() >= len(images):
        raise ValueError(f'a face has the texture {numbers.max()}, but there are {len(images)} '
                         'textures, counted from 0')
    return paints, np.maximum(numbers, -1) + 1


def _coordinates(vertices: Table, faces: Table, polygons: Polygons, triangles: Rows
                 ) -> tuple[NDArray[np.float64] | None, Rows | None]:
    """Return texture coordinates and the rows of corners, None where they are the vertices'."""
    listed = faces.get('texcoord')
    if isinstance(listed, Lists):
        complete = listed.counts == 2 * polygons.sizes
        if listed.counts[~complete].any():
            raise ValueError('it has faces without two texture coordinates for each corner')
        per_corner = np.repeat(complete, polygons.sizes)
        rows = np.where(per_corner, np.cumsum(per_corner) - 1, -1)
        return listed.values.astype(np.float64).reshape(-1, 2), rows[triangles]
    for names in COORDINATES:
        found = _columns(vertices, names)
        if found is not None:
            return found, None
    return None, None


def _rgb(table: Table) -> NDArray[np.uint8] | None:
    """Return colours, (R, 3); floats are from 0 to 1, or to 255; two bytes to 65535, or to 255."""
    for names in COLOURS:
        values = _columns(table, names)
        if values is None or not len(values):
            continue
        kind = np.asarray(table[names[0]]).dtype
        scale = 255.0 if kind.kind == 'f' and values.max() <= 1 + ROUNDING else 1.0
        if kind.kind == 'u' and kind.itemsize == 2 and values.max() > 255:
            scale = 255.0 / 65535.0
        limit = 255 * (1 + ROUNDING)
        if not np.isfinite(values).all() or values.min() < -ROUNDING or (
                values * scale).max() > limit:
            raise ValueError(f'it has colours from {values.min():g} to {values.max():g}')
        return np.rint(np.clip(values * scale, 0, 255)).astype(np.uint8)
    return None


def _columns(table: Table, names: tuple[str, ...]) -> NDArray[np.float64] | None:
    if not all(name in table for name in names):
        return None
    return np.stack([_values(table, name) for name in names], axis=1)


def _values(table: Table, name: str) -> NDArray[np.float64]:
    column = table.get(name)
    if column is None or isinstance(column, Lists):
        raise ValueError(f'it has no values "{name}"')
    return column.astype(np.float64)
