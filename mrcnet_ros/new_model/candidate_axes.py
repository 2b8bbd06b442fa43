"""Axes that an object could be symmetric about, and the point that they all pass through."""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from ..geometry.se3 import Array

# Moments of inertia that differ by less count as equal: the axes between them are open.
EQUAL = 0.03
# directions tried between axes of equal moments, 3 degrees apart
FAN = 60
# corners and faces of the hull that are tried; objects with more are round
MOST_FEATURES = 150
# Candidates nearer than 1.5 degrees are one; they are refined later.
SAME_AXIS = np.cos(np.radians(1.5))
THIN = 1e-4  # half the thickness that a flat object is given, of its size: a hull needs a volume


def hull_of(points: Array) -> ConvexHull:
    """Return the convex hull; a flat object is made a little thick.

    :param points: (N, 3).
    """
    try:
        return ConvexHull(points)
    except QhullError:
        normal = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][2]
        size = float(np.ptp(points, axis=0).max())
        return ConvexHull(np.concatenate([points + THIN * size * normal,
                                          points - THIN * size * normal]))


def centre_and_axes(points: Array) -> tuple[Array, Array]:
    """Return the point that all symmetries keep, and directions to try.

    :param points: (N, 3) vertices of the object.
    :return: (3,), and (A, 3) of unit length.
    """
    hull = hull_of(points)
    centre, covariance = _moments(hull)
    values, vectors = np.linalg.eigh(covariance)
    axes = [*np.eye(3), *vectors.T]
    equal = [(i, j) for i, j in ((0, 1), (1, 2), (0, 2))
             if abs(values[i] - values[j]) < EQUAL * values[2]]
    angles = np.pi * np.arange(FAN) / FAN
    for i, j in equal if len(equal) == 1 else ():
        axes += [np.cos(a) * vectors[:, i] + np.sin(a) * vectors[:, j] for a in angles]
    features = _features(hull, centre)
    if len(equal) > 1 or len(features) <= MOST_FEATURES:
        axes += list(features[:MOST_FEATURES])
    return centre, distinct(np.array(axes))


def _moments(hull: ConvexHull) -> tuple[Array, Array]:
    """Return the centroid of a hull, (3,), and the second moments about it, (3, 3)."""
    inside = hull.points[hull.vertices].mean(axis=0)
    corners = hull.points[hull.simplices] - inside
    volumes = np.abs(np.linalg.det(corners)) / 6.0
    total = volumes.sum()
    offset = np.einsum('n,nij->j', volumes, corners) / (4.0 * total)
    sums = corners.sum(axis=1)
    second = (np.einsum('n,ni,nj->ij', volumes, sums, sums)
              + np.einsum('n,nki,nkj->ij', volumes, corners, corners)) / 20.0
    return inside + offset, second / total - np.outer(offset, offset)


def _features(hull: ConvexHull, centre: Array) -> Array:
    """Return the directions of faces, of corners and of middles between corners, (N, 3)."""
    areas = np.linalg.norm(np.cross(*np.moveaxis(
        hull.points[hull.simplices][:, 1:] - hull.points[hull.simplices][:, :1], 1, 0)), axis=1)
    normals = distinct(hull.equations[np.argsort(-areas), :3])
    corners = hull.points[hull.vertices] - centre
    far = corners[np.argsort(-np.linalg.norm(corners, axis=1))][:24]
    middles = (far[:, None] + far[None]).reshape(-1, 3)
    found = np.concatenate([normals, far, middles])
    length = np.linalg.norm(found, axis=1, keepdims=True)
    long = length[:, 0] > 0.05 * length.max()
    return distinct(found[long] / length[long])


def distinct(axes: Array) -> Array:
    """Return axes of which no two point the same way or opposite ways, the first of each."""
    kept: list[Array] = []
    for axis in axes:
        if not kept or np.abs(np.array(kept) @ axis).max() < SAME_AXIS:
            kept.append(axis)
    return np.array(kept)
