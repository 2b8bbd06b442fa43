"""Which way the faces of a surface are wound: counterclockwise seen from outside is right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array
from .mesh import Mesh

Turned = NDArray[np.bool_]


def is_closed_outward(mesh: Mesh) -> bool:
    """Tell whether back faces can never be seen.

    That is so when all bodies are closed and wound outward, or inward as a cavity in another.
    """
    shape = joined(mesh.vertices, mesh.faces)
    return bool(shape.is_watertight and shape.is_winding_consistent and shape.volume > 0
                and not to_turn_outward(shape).any())


def joined(vertices: Array, faces: NDArray[np.integer[Any]]) -> Any:
    """Return a surface of trimesh with the same faces, vertices at one place being one.

    Meshes have several where normals or texture coordinates differ.
    """
    import trimesh

    return trimesh.Trimesh(vertices, faces, process=True)


def bodies(shape: Any) -> NDArray[np.int64]:
    """Return the connected body of each face of a surface of trimesh, (F,)."""
    import trimesh

    return np.asarray(trimesh.graph.connected_component_labels(
        shape.face_adjacency, node_count=len(shape.faces)), np.int64)


def to_turn_outward(shape: Any) -> Turned:
    """Return which faces of a closed surface to turn, (F,), so that all are wound outward.

    A body that is wound inward within another one is a cavity, and right as it is.

    :param shape: a watertight surface of trimesh, see :func:`joined`.
    """
    turned = to_turn_alike(shape)
    corners = shape.triangles - shape.triangles.mean(axis=(0, 1))
    corners = np.where(turned[:, None, None], corners[:, ::-1], corners)
    body = bodies(shape)
    a, b, c = np.moveaxis(corners, 1, 0)
    volumes = np.bincount(body, np.einsum('ij,ij->i', a, np.cross(b, c)))
    side = -1.0 if volumes.sum() < 0 else 1.0  # of all of them: a file may be inside out
    wrong = np.full(len(volumes), side < 0)
    for inward in np.flatnonzero(side * volumes < 0):
        around = _turns_around(corners[body == inward][0, 0], corners[body != inward])
        wrong[inward] ^= side * around <= 0.5
    return np.asarray(turned ^ wrong[body])


def to_turn_alike(shape: Any) -> Turned:
    """Return which faces of a surface of trimesh to turn, (F,), so that each body is wound alike.

    Where that is impossible, as on a Moebius strip, all faces stay.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(shape.faces)
    if shape.is_winding_consistent:
        return np.zeros(count, bool)
    one, other = shape.face_adjacency.T
    edges = shape.face_adjacency_edges
    against = _runs_along(shape.faces[one], edges) == _runs_along(shape.faces[other], edges)
    # Each face is there twice, as it is and turned. What is connected goes together.
    rows = np.concatenate([one, one + count])
    columns = np.concatenate([other + count * against, other + count * ~against])
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), (2 * count, 2 * count))
    group = connected_components(graph, directed=False)[1]
    return np.asarray(group[:count] > group[count:])


def _runs_along(faces: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell whether faces, (N, 3), have edges, (N, 2), in the order of their corners."""
    following = np.roll(faces, -1, axis=1)
    return np.asarray(((faces == edges[:, :1]) & (following == edges[:, 1:])).any(axis=1))


def _turns_around(point: Array, triangles: Array) -> float:
    """Return how often closed surfaces go around a point: 0 outside, 1 inside.

    :param triangles: (F, 3, 3).
    """
    a, b, c = np.moveaxis(triangles - point, 1, 0)
    (la, lb, lc), dot = (np.linalg.norm(v, axis=1) for v in (a, b, c)), np.einsum
    volume = dot('ij,ij->i', a, np.cross(b, c))
    spread = (la * lb * lc + dot('ij,ij->i', a, b) * lc + dot('ij,ij->i', b, c) * la
              + dot('ij,ij->i', c, a) * lb)
    return float(np.arctan2(volume, spread).sum() / (2 * np.pi))
