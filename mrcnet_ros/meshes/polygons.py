"""Polygons as triangles, also those that are not convex."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array

Rows = NDArray[np.int64]

NO_TRIANGLES: Rows = np.empty((0, 3), np.int64)
# of the sine of a corner, below which it counts as straight
STRAIGHT = 1e-9
# Width of a polygon, relative to its coordinates, below which it is a line with the rounding of
# float32 or of a few decimals.
SLIVER = 3e-6
# of a polygon that is not convex: cutting it takes a time in proportion to their square
MOST_CORNERS = 3000
# Of the area of all triangles: what may fill outlines that cross themselves. Files have such
# slivers where a quad is not flat, or where rounding moves a corner past its neighbour.
MOST_TANGLED = 0.005


def triangulate(points: Array, sizes: Rows) -> tuple[Rows, Rows]:
    """Cut polygons into triangles.

    Polygons of fewer than three corners have no surface and are left out. Where an outline
    crosses itself, a fan fills the part that cannot be cut otherwise. It has the same border, so
    that a closed surface stays closed.

    :param points: (N, 3), the corners of all polygons, one polygon after the other.
    :param sizes: (P,) number of corners of each.
    :return: (T, 3) rows of ``points`` and (T,) the polygon of each triangle, ascending.
    :raises ValueError: when such fans are more than ``MOST_TANGLED`` of the area, or a polygon
        has too many corners.
    """
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    triangles, owners = [NO_TRIANGLES], [np.empty(0, np.int64)]
    tangled: dict[int, float] = {}  # area of the fan of each polygon that has one
    for size in np.unique(sizes[sizes >= 3]):
        polygons = np.flatnonzero(sizes == size)
        corners = starts[polygons, None] + np.arange(size)
        convex = np.ones(len(polygons), bool) if size == 3 else _convex(points[corners])
        fan = np.stack([np.zeros(size - 2, int), np.arange(1, size - 1), np.arange(2, size)], 1)
        triangles.append(corners[convex][:, fan].reshape(-1, 3))
        owners.append(np.repeat(polygons[convex], size - 2))
        for polygon, rows in zip(polygons[~convex], corners[~convex], strict=True):
            ears, rest = _clip_ears(points[rows], int(polygon))
            triangles += [rows[ears], rows[rest]]
            owners.append(np.full(len(ears) + len(rest), polygon))
            if len(rest):
                tangled[int(polygon)] = float(areas(points[rows[rest]]).sum())
    owner, found = np.concatenate(owners), np.concatenate(triangles)
    if tangled:
        _check_tangled(tangled, float(areas(points[found]).sum()))
    order = np.argsort(owner, kind='stable')
    return found[order], owner[order]


def areas(corners: Array) -> Array:
    """Return the areas of triangles, (F,), of their corners (F, 3, 3)."""
    sides = corners[:, 1:] - corners[:, :1]
    return np.asarray(np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2)


def _check_tangled(tangled: dict[int, float], whole: float) -> None:
    """Refuse outlines that cross themselves where they are a part of the surface that counts.

    :param tangled: area of the fan of each polygon that has one.
    :param whole: area of all triangles.
    """
    part = sum(tangled.values()) / whole if whole > 0 else 1.0
    if not part <= MOST_TANGLED:
        worst = max(tangled, key=lambda polygon: tangled[polygon]) + 1
        what = (f'the outline of face {worst} crosses itself in' if len(tangled) == 1 else
                f'the outlines of {len(tangled)} faces, such as face {worst}, cross themselves in')
        raise ValueError(f'{what} {100 * part:.3g} % of the surface, expected at most '
                         f'{100 * MOST_TANGLED:g} %: have your program cut them into triangles')


def _convex(polygons: Array) -> NDArray[np.bool_]:
    """Tell which polygons, (P, N, 3), a fan around the first corner covers exactly."""
    normals = _newell(polygons)
    edges = np.roll(polygons, -1, axis=1) - polygons
    turns = np.cross(np.roll(edges, 1, axis=1), edges)
    along = np.einsum('pni,pi->pn', turns, normals)
    scale = (edges**2).sum(axis=2).max(axis=1, keepdims=True)
    bends_one_way = (along >= -STRAIGHT * scale).all(axis=1)
    spokes = polygons[:, 1:] - polygons[:, :1]
    parts = np.einsum('pni,pi->pn', np.cross(spokes[:, :-1], spokes[:, 1:]), normals)
    # an outline that goes around twice bends one way as well, but not as seen from a corner
    opening = np.einsum('pni,pni->pn', spokes[:, :-1], spokes[:, 1:])
    swept = np.arctan2(parts, opening).sum(axis=1)
    goes_around_once = (parts >= -STRAIGHT * scale).all(axis=1) & (swept <= np.pi + 1e-6)
    return np.asarray(normals.any(axis=1) & bends_one_way & goes_around_once)


def _newell(polygons: Array) -> Array:
    """Return unit normals, (P, 3), of polygons, (P, N, 3); zero without an area."""
    normals = _area_vectors(polygons)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.where(length > 0, length, 1.0))


def _area_vectors(polygons: Array) -> Array:
    """Return normals, (P, 3), of polygons, (P, N, 3), as long as twice their area."""
    following = np.roll(polygons, -1, axis=1)
    middle = polygons.mean(axis=1, keepdims=True)
    return np.asarray(np.cross(polygons - middle, following - middle).sum(axis=1))


def _clip_ears(points: Array, polygon: int) -> tuple[Rows, Rows]:
    """Cut off one corner after the other that holds no other corner.

    Where an outline crosses itself, a part is left that has no such corner. Outside of the fan of
    that part, the other triangles hold exactly what the outline goes around.

    :param points: (N, 3) corners.
    :return: rows of ``points``: (E, 3) the triangles cut off, and (R, 3) a fan of what is left.
    """
    if _is_sliver(points):  # corners in line have no surface
        return NO_TRIANGLES, NO_TRIANGLES
    if len(points) > MOST_CORNERS:
        raise ValueError(f'face {polygon + 1} has {len(points)} corners and is not convex')
    left, triangles = list(range(len(points))), []
    if np.linalg.norm(_area_vectors(points[None])) <= STRAIGHT * np.ptp(points, axis=0).max()**2:
        return NO_TRIANGLES, _fan(left)  # as much of it is turned as is not
    flat = _flattened(points)
    while len(left) > 3:
        for place in range(len(left)):
            ear = [left[place - 1], left[place], left[(place + 1) % len(left)]]
            area = _cross(flat[ear[1]] - flat[ear[0]], flat[ear[2]] - flat[ear[1]])
            if area >= 0 and (area == 0 or not _holds(flat, ear, left)):
                break
        else:
            break
        if area > 0:
            triangles.append(ear)
        del left[place]
    ears, rest = np.array(triangles, np.int64).reshape(-1, 3), _fan(left)
    a, b, c = flat[left[:3]]
    if len(left) == 3 and _cross(b - a, c - b) >= 0:
        return np.concatenate([ears, rest]), NO_TRIANGLES
    return ears, rest


def _fan(rows: list[int]) -> Rows:
    """Return the triangles, (N - 2, 3), of a fan around the first of N rows."""
    return np.array([[rows[0], *pair] for pair in itertools.pairwise(rows[1:])], np.int64)


def _is_sliver(points: Array) -> bool:
    """Tell whether corners, (N, 3), lie in a line as far as their file says it."""
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(spread[1] <= SLIVER * max(float(spread[0]), float(np.abs(points).max())))


def _flattened(points: Array) -> Array:
    """Return corners, (N, 2), in the plane that fits them, anticlockwise."""
    normal = _newell(points[None])[0]
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
