"""Polygons as triangles, also those that are not convex."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

# of the sine of a corner, below which it counts as straight
STRAIGHT = 1e-9
# Width of a polygon, relative to its coordinates, below which it is a line with the rounding of
# float32 or of a few decimals.
SLIVER = 3e-6
# of a polygon that is not convex: cutting it takes a time in proportion to their square
MOST_CORNERS = 3000


def triangulate(points: Array, sizes: Rows) -> tuple[Rows, Rows]:
    """Cut polygons into triangles.

    Polygons of fewer than three corners have no surface and are left out.

    :param points: (N, 3), the corners of all polygons, one polygon after the other.
    :param sizes: (P,) number of corners of each.
    :return: (T, 3) rows of ``points`` and (T,) the polygon of each triangle, ascending.
    :raises ValueError: when the outline of a polygon crosses itself, or has too many corners.
    """
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    triangles, owners = [np.empty((0, 3), np.int64)], [np.empty(0, np.int64)]
    for size in np.unique(sizes[sizes >= 3]):
        polygons = np.flatnonzero(sizes == size)
        corners = starts[polygons, None] + np.arange(size)
        convex = np.ones(len(polygons), bool) if size == 3 else _convex(points[corners])
        fan = np.stack([np.zeros(size - 2, int), np.arange(1, size - 1), np.arange(2, size)], 1)
        triangles.append(corners[convex][:, fan].reshape(-1, 3))
        owners.append(np.repeat(polygons[convex], size - 2))
        for polygon, rows in zip(polygons[~convex], corners[~convex], strict=True):
            cut = _clip_ears(points[rows], int(polygon))
            triangles.append(rows[cut])
            owners.append(np.full(len(cut), polygon))
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind='stable')
    return np.concatenate(triangles)[order], owner[order]


def _convex(polygons: Array) -> NDArray[np.bool_]:
    """Tell which polygons, (P, N, 3), a fan around the first corner covers exactly."""
    normals = _newell(polygons)
    edges = np.roll(polygons, -1, axis=1) - polygons
    turns = np.cross(np.roll(edges, 1, axis=1), edges)
    along = np.einsum('pni,pi->pn', turns, normals)
    scale = (edges**2).sum(axis=2).max(axis=1, keepdims=True)
    bends_one_way = (along >= -STRAIGHT * scale).all(axis=1)
    spokes = polygons[:, 1:] - polygons[:, :1]
    areas = np.einsum('pni,pi->pn', np.cross(spokes[:, :-1], spokes[:, 1:]), normals)
    # an outline that goes around twice bends one way as well, but not as seen from a corner
    opening = np.einsum('pni,pni->pn', spokes[:, :-1], spokes[:, 1:])
    swept = np.arctan2(areas, opening).sum(axis=1)
    goes_around_once = (areas >= -STRAIGHT * scale).all(axis=1) & (swept <= np.pi + 1e-6)
    return np.asarray(normals.any(axis=1) & bends_one_way & goes_around_once)


def _newell(polygons: Array) -> Array:
    """Return unit normals, (P, 3), of polygons, (P, N, 3); zero without an area."""
    following = np.roll(polygons, -1, axis=1)
    middle = polygons.mean(axis=1, keepdims=True)
    normals = np.cross(polygons - middle, following - middle).sum(axis=1)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.where(length > 0, length, 1.0))


def _clip_ears(points: Array, polygon: int) -> Rows:
    """Cut off one corner after the other that holds no other corner.

    :param points: (N, 3) corners.
    :return: (N - 2, 3) or fewer rows of ``points``.
    """
    if _is_sliver(points):  # corners in line have no surface
        return np.empty((0, 3), np.int64)
    if len(points) > MOST_CORNERS:
        raise ValueError(f'face {polygon + 1} has {len(points)} corners and is not convex')
    flat = _flattened(points, polygon)
    left, triangles = list(range(len(points))), []
    while len(left) > 3:
        for place in range(len(left)):
            ear = [left[place - 1], left[place], left[(place + 1) % len(left)]]
            area = _cross(flat[ear[1]] - flat[ear[0]], flat[ear[2]] - flat[ear[1]])
            if area >= 0 and (area == 0 or not _holds(flat, ear, left)):
                break
        else:
            raise ValueError(f'the outline of face {polygon + 1} crosses itself')
        if area > 0:
            triangles.append(ear)
        del left[place]
    if _cross(flat[left[1]] - flat[left[0]], flat[left[2]] - flat[left[1]]) < 0:
        raise ValueError(f'the outline of face {polygon + 1} crosses itself')
    return np.array([*triangles, left], np.int64)


def _is_sliver(points: Array) -> bool:
    """Tell whether corners, (N, 3), lie in a line as far as their file says it."""
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(spread[1] <= SLIVER * max(float(spread[0]), float(np.abs(points).max())))


def _flattened(points: Array, polygon: int) -> Array:
    """Return corners, (N, 2), in the plane that fits them, anticlockwise."""
    normal = _newell(points[None])[0]
    if not normal.any():
        raise ValueError(f'the outline of face {polygon + 1} crosses itself')
    first = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    first /= np.linalg.norm(first)
    return np.stack([points @ first, points @ np.cross(normal, first)], axis=1)


def _holds(flat: Array, ear: list[int], others: list[int]) -> bool:
    """Tell whether a triangle holds a corner other than its own, or one at their place."""
    a, b, c = flat[ear]
    rest = flat[[o for o in others if o not in ear]]
    rest = rest[~(rest[:, None] == flat[ear]).all(axis=2).any(axis=1)]
    inside = np.ones(len(rest), bool)
    for start, end in ((a, b), (b, c), (c, a)):
        edge, to = end - start, rest - start
        inside &= edge[0] * to[:, 1] - edge[1] * to[:, 0] >= 0
    return bool(inside.any())


def _cross(u: Array, v: Array) -> float:
    return float(u[0] * v[1] - u[1] * v[0])
