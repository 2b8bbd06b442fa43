"""Makes the mesh that is drawn from the content of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError
from .mesh import NEUTRAL_GREY, Mesh, sample_texture
from .normals import normals_of, unit
from .opacity import check_opaque
from .pictures import read_picture
from .polygons import areas
from .surface import ROUNDING, IndexedSurface, Rows

# of the bounding box with loose vertices over that without them; sizes may be off by 3 % elsewhere
STRAY = 1.03


@dataclass(frozen=True, eq=False)
class _Vertices:
    """Where each vertex of the mesh has its values in the tables of the surface.

    :param positions: (V,) rows; the same for ``normals``, ``uv`` and ``paints``.
    :param faces: (V,) rows of the faces that give their colours.
    :param corners: (F, 3) the vertices of each face.
    """

    positions: Rows
    normals: Rows
    uv: Rows
    paints: Rows
    faces: Rows
    corners: Rows


def build_mesh(path: Path, surface: IndexedSurface, unit_m: float) -> Mesh:
    """Return the mesh of a file.

    A vertex of the file becomes several where its corners differ in normal, texture coordinates
    or colour. Otherwise the vertices stay as they are, also those that no face uses.

    :param path: of the file, for messages.
    :param unit_m: length of the file's unit [m].
    :raises MeshError: when something is not finite, or a texture cannot be read.
    """
    if not np.isfinite(surface.positions).all():
        raise MeshError(path, 'has vertices that are not finite')
    if not len(surface.corners):
        raise MeshError(path, f'has {len(surface.positions)} vertices and no usable triangles')
    _check_strays(path, surface)
    table, normal_rows = normals_of(surface)
    rows = _vertices(surface, normal_rows)
    mesh = Mesh(surface.positions[rows.positions] * unit_m, rows.corners.astype(np.int32),
                unit(table[rows.normals]), _plain_colors(surface, rows))
    return _textured(path, surface, rows, mesh)


def _check_strays(path: Path, surface: IndexedSurface) -> None:
    """Refuse vertices that no face uses where they make the object larger than its surface is."""
    used = np.unique(surface.corners)
    if len(used) == len(surface.positions):
        return
    whole, seen = (float(np.linalg.norm(np.ptp(p, axis=0)))
                   for p in (surface.positions, surface.positions[used]))
    if whole > STRAY * seen:
        raise MeshError(
            path, f'has {len(surface.positions) - len(used)} vertices that no face uses, and '
            f'they make its bounding box {whole / seen:.3g} times as large', 'remove them')


def _vertices(surface: IndexedSurface, normal_rows: Rows) -> _Vertices:
    corners, count = surface.corners, len(surface.positions)
    drawn = surface.uv_rows if surface.uv is not None and surface.images() else None
    given = [rows for rows in (normal_rows, drawn) if rows is not None]
    paints = np.unique(surface.face_paints)
    if surface.face_rgb is None and len(paints) == 1 and all(rows is corners for rows in given):
        each = np.arange(count)
        return _Vertices(each, each, each, np.full(count, paints[0]), each * 0, corners)
    faces = np.repeat(np.arange(len(corners)), 3)
    columns = [corners.ravel(), *(rows.ravel() for rows in given), surface.face_paints[faces]]
    if surface.face_rgb is not None:
        r, g, b = surface.face_rgb.astype(np.int64).T
        columns.append(((r << 16) + (g << 8) + b)[faces])
    _, first, inverse = np.unique(np.stack(columns, axis=1), axis=0, return_index=True,
                                  return_inverse=True)
    uv_rows = corners * 0 if drawn is None else drawn
    return _Vertices(corners.ravel()[first], normal_rows.ravel()[first], uv_rows.ravel()[first],
                     surface.face_paints[faces[first]], faces[first], inverse.reshape(-1, 3))


def _plain_colors(surface: IndexedSurface, rows: _Vertices) -> NDArray[np.uint8]:
    """Return the colours of vertices, faces or materials, in this order, without textures."""
    if surface.vertex_rgb is not None:
        return surface.vertex_rgb[rows.positions]
    if surface.face_rgb is not None:
        return surface.face_rgb[rows.faces]
    grey = (NEUTRAL_GREY,) * 3
    plain = np.array([grey if p.rgb is None else p.rgb for p in surface.paints], np.uint8)
    return np.asarray(plain[rows.paints])


def _textured(path: Path, surface: IndexedSurface, rows: _Vertices, mesh: Mesh) -> Mesh:
    """Return the mesh with the textures that its faces use."""
    images = surface.images()
    if surface.uv is None or not images:
        return mesh
    scale, offset = (np.array([getattr(p, name) for p in surface.paints], np.float64)
                     for name in ('scale', 'offset'))
    uv = surface.uv[rows.uv] * scale[rows.paints] + offset[rows.paints]
    image_rows = np.array([-1 if p.image is None else images.index(p.image)
                           for p in surface.paints], np.int32)
    here = image_rows[rows.paints]
    _check_coordinates(path, surface, uv[here >= 0], rows.paints[here >= 0])
    textures = tuple(read_picture(path, image) for image in images)
    corner_uv, area = uv[rows.corners], areas(mesh.vertices[rows.corners])
    for row in np.unique(surface.face_paints):
        own = surface.face_paints == row
        check_opaque(path, surface.paints[row], corner_uv[own], area[own])
    for row, texture in enumerate(textures):
        mesh.colors[here == row] = sample_texture(texture, uv[here == row])
    return Mesh(mesh.vertices, mesh.faces, mesh.normals, mesh.colors, textures,
                np.where((here >= 0)[:, None], uv, 0.0), image_rows[surface.face_paints])


def _check_coordinates(path: Path, surface: IndexedSurface, uv: NDArray[np.float64],
                       paints: Rows) -> None:
    if not np.isfinite(uv).all():
        raise MeshError(path, 'has texture coordinates that are not finite')
    clamped = np.array([p.clamped for p in surface.paints])[paints]
    if clamped.any() and (uv[clamped].min() < -ROUNDING or uv[clamped].max() > 1 + ROUNDING):
        raise MeshError(path, 'has a texture that does not repeat ("-clamp on", or a sampler of '
                        'glTF), which is not supported where it ends inside a face',
                        'let the texture repeat, or keep its coordinates within 0 to 1')
