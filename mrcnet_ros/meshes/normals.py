"""Normals of vertices, from the file where it has them, else from the faces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .surface import IndexedSurface, Rows

Array = NDArray[np.float64]
SHORTEST = 1e-9  # a shorter normal is a rounding error and points nowhere


def normals_of(surface: IndexedSurface) -> tuple[Array, Rows]:
    """Return the normals of all corners; where the file has none that can be used, computed ones.

    :return: (N, 3) normals of any length, and (F, 3) their rows.
    """
    if surface.normals is None or surface.normal_rows is None:
        return corner_normals(surface.positions, surface.corners)
    rows = surface.normal_rows
    usable = (rows >= 0) & _usable(surface.normals)[rows]
    if usable.all():
        return surface.normals, rows
    computed, others = corner_normals(surface.positions, surface.corners)
    return (np.concatenate([surface.normals, computed]),
            np.where(usable, rows, others + len(surface.normals)))


def unit(normals: Array) -> Array:
    """Return normals, (N, 3), of unit length; without any length, some direction."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > SHORTEST, normals / np.maximum(length, SHORTEST), [0.0, 0.0, 1.0])


def corner_normals(positions: Array, corners: Rows) -> tuple[Array, Rows]:
    """Compute normals of faces that have none.

    Where the faces are wound alike they are shared by the corners at a vertex; else each face has
    its own. Those of a closed surface point outwards. Of two faces at the same three vertices,
    which show both sides, the first counts: together they would cancel out.

    :param positions: (P, 3).
    :param corners: (F, 3) rows of ``positions``.
    :return: (N, 3) normals, and (F, 3) their rows.
    """
    import trimesh

    _, first = np.unique(np.sort(corners, axis=1), axis=0, return_index=True)
    single = corners[np.sort(first)]
    joined = trimesh.Trimesh(positions, single, process=True)
    if not joined.is_winding_consistent:
        a, b, c = np.moveaxis(positions[corners], 1, 0)
        return np.cross(b - a, c - a), np.repeat(np.arange(len(corners))[:, None], 3, axis=1)
    inward = joined.is_watertight and joined.volume < 0
    smooth = trimesh.Trimesh(positions, single, process=False).vertex_normals
    return np.asarray(-smooth if inward else smooth, np.float64), corners


def _usable(normals: Array) -> NDArray[np.bool_]:
    with np.errstate(invalid='ignore', over='ignore'):
        length = np.linalg.norm(normals, axis=1)
    return np.asarray((length > SHORTEST) & np.isfinite(length))
