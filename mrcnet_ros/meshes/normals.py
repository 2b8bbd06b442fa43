"""Normals of faces: those of the file where they can be used, computed ones elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array
from .surface import IndexedSurface, Rows
from .winding import bodies, joined, to_turn_outward

SHORTEST = 1e-9  # a shorter normal is a rounding error and points nowhere
# Part of a closed body's surface on which normals of a file may point the other way than the rest:
# 0.04 on T-LESS, where sharp edges share them. Where more do, they are computed.
MIXED = 0.1
CREASE = np.radians(30.0)  # the angle between two faces from which their edge is a sharp one


def normals_of(surface: IndexedSurface) -> tuple[Array, Rows]:
    """Return the normals of all corners; where the file has none that can be used, computed ones.

    Those of a closed body that point into it, as in mirrored copies, are turned.

    :return: (N, 3) normals of any length, and (F, 3) their rows.
    """
    if surface.normals is None or surface.normal_rows is None:
        return corner_normals(surface.positions, surface.corners, smooth=surface.smooth)
    table, rows = surface.normals, surface.normal_rows
    good = _usable(table)
    usable, directions = (rows >= 0) & good[rows], unit(np.where(good[:, None], table, 0.0))
    inward = _inward(surface, np.where(usable[..., None], directions[rows], 0.0).sum(axis=1))
    if (inward > MIXED).any():
        usable &= ((inward <= MIXED) | (inward >= 1 - MIXED))[:, None]
        rows = np.where((inward > MIXED)[:, None], rows + len(table), rows)
        table = np.concatenate([table, -table])
    if usable.all():
        return table, rows
    computed, others = corner_normals(surface.positions, surface.corners, smooth=surface.smooth)
    return np.concatenate([table, computed]), np.where(usable, rows, others + len(table))


def _inward(surface: IndexedSurface, given: Array) -> Array:
    """Return the part of each face's body on which normals point into it, (F,); 0 if open.

    :param given: (F, 3) normals of the faces, of any length.
    """
    shape = joined(surface.positions, surface.corners)
    if not shape.is_watertight:
        return np.zeros(len(given))
    a, b, c = np.moveaxis(surface.positions[surface.corners], 1, 0)
    turned = to_turn_outward(shape)
    outward = np.cross(b - a, c - a) * np.where(turned, -1.0, 1.0)[:, None]
    area, body = np.linalg.norm(outward, axis=1), bodies(shape)
    wrong = np.einsum('fi,fi->f', outward, given) < 0
    parts = np.bincount(body, area * wrong) / np.maximum(np.bincount(body, area), 1e-300)
    return np.asarray(parts[body])


def unit(normals: Array) -> Array:
    """Return normals, (N, 3), of unit length; without any length, some direction."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > SHORTEST, normals / np.maximum(length, SHORTEST), [0.0, 0.0, 1.0])


def corner_normals(positions: Array, corners: Rows, *, smooth: bool = False
                   ) -> tuple[Array, Rows]:
    """Compute normals of faces that have none.

    Where the faces are wound alike they are shared by the corners at a vertex, but not across
    sharp edges; else each face has its own. Those of closed bodies point outwards, of a cavity
    into it. Of two faces at the same three vertices, which show both sides, the first counts:
    together they would cancel out.

    :param positions: (P, 3).
    :param corners: (F, 3) rows of ``positions``.
    :param smooth: whether they are shared across sharp edges, too.
    :return: (N, 3) normals, and (F, 3) their rows.
    """
    import trimesh

    _, first, copies = np.unique(np.sort(corners, axis=1), axis=0, return_index=True,
                                 return_inverse=True)
    rank = np.argsort(np.argsort(first))
    copies, first = rank[copies.ravel()], np.sort(first)
    single = corners[first]
    shape = joined(positions, single)
    turned = to_turn_outward(shape) if shape.is_watertight else np.zeros(len(single), bool)
    if not shape.is_winding_consistent:
        single[turned] = single[turned, ::-1]
        a, b, c = np.moveaxis(positions[single], 1, 0)
        return np.cross(b - a, c - a), np.repeat(copies[:, None], 3, axis=1)
    rows = corners if smooth else _apart(corners, _between_edges(shape)[copies])
    places = positions if rows is corners else np.zeros((rows.max() + 1, 3))
    if rows is not corners:
        places[rows] = positions[corners]
    single = rows[first]
    single[turned] = single[turned, ::-1]
    found = trimesh.Trimesh(places, single, process=False).vertex_normals
    return np.asarray(found, np.float64), rows


def _between_edges(shape: Any) -> Rows:
    """Return to which part between sharp edges each face of a surface of trimesh belongs, (F,)."""
    import trimesh

    return np.asarray(trimesh.graph.connected_component_labels(
        shape.face_adjacency[shape.face_adjacency_angles < CREASE],
        node_count=len(shape.faces)), np.int64)


def _apart(corners: Rows, part: Rows) -> Rows:
    """Return rows of corners, (F, 3), that differ where parts of faces, (F,), do."""
    apart = np.stack([corners.ravel(), np.repeat(part, 3)], axis=1)
    found, rows = np.unique(apart, axis=0, return_inverse=True)
    return corners if len(found) == len(np.unique(corners)) else rows.reshape(-1, 3)


def _usable(normals: Array) -> NDArray[np.bool_]:
    with np.errstate(invalid='ignore', over='ignore'):
        length = np.linalg.norm(normals, axis=1)
    return np.asarray((length > SHORTEST) & np.isfinite(length))
