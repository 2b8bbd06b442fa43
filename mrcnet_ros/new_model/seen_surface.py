"""The visible surface of an object, and axes of its possible symmetries.

The surface comes from renders, not from the mesh: CAD parts have many faces that no camera sees,
and renders have the colours that the network sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError, cKDTree

from ..geometry.crop import pinhole
from ..geometry.se3 import Array, make_transform
from ..geometry.view_prior import rotation_from_angles
from ..meshes import Mesh
from ..rendering.renderer import Renderer

# enough that some of them show each hole or rib
VIEWS = 48
VIEW_PX = 128  # a pixel is a little less than one percent of the diameter
# far away, so that perspective hides little
DISTANCE_DIAMETERS = 8.0
RELATIVE_SIZE = 0.85  # diameter over the side of the view: room for a border
# points of the surface; they are about half a percent of the diameter apart
POINTS = 60000
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))  # steps of azimuth that spread views evenly over a sphere
# Moments of inertia that differ by less count as equal: the axes between them are open.
EQUAL = 0.03
# directions tried between axes of equal moments, 3 degrees apart
FAN = 60
# corners and faces of the hull that are tried; objects with more are round
MOST_FEATURES = 150
# Candidates nearer than 1.5 degrees are one; they are refined later.
SAME_AXIS = np.cos(np.radians(1.5))
THIN = 1e-4  # half the thickness that a flat object is given, of its size: a hull needs a volume


@dataclass(frozen=True, eq=False)
class SeenSurface:
    """Points of a surface, in diameters from the middle of the object.

    :param points: (N, 3).
    :param normals: (N, 3) unit length.
    :param colors: (N, 3) float64 RGB, 0 to 255.
    """

    points: Array
    normals: Array
    colors: Array
    spacing: float
    tree: cKDTree

    def some(self, count: int, seed: int = 0) -> NDArray[np.int64]:
        """Return rows of a few points, drawn evenly over the surface."""
        count = min(count, len(self.points))
        rng = np.random.default_rng(seed)
        return np.asarray(rng.choice(len(self.points), count, replace=False), np.int64)


def look_at(mesh: Mesh, middle_m: Array, diameter_m: float) -> SeenSurface:
    """Render a mesh from all directions and gather its visible surface.

    :param mesh: in metres.
    :param middle_m: (3,) of the object, in the frame of the mesh.
    :raises BackendError: when there is no headless OpenGL.
    """
    distance_m = DISTANCE_DIAMETERS * diameter_m
    K = pinhole(RELATIVE_SIZE * VIEW_PX * DISTANCE_DIAMETERS, VIEW_PX)
    found: list[tuple[Array, Array, Array]] = []
    with Renderer(VIEW_PX, VIEW_PX) as renderer:
        renderer.add_mesh('object', mesh)
        for R in view_rotations(VIEWS):
            T = make_transform(R, [0.0, 0.0, distance_m] - R @ middle_m)
            flat = renderer.render('object', T, K, shading='flat')
            normals = renderer.render('object', T, K, shading='normals').rgb / 127.5 - 1.0
            rows, columns = np.nonzero(flat.mask)
            depth = flat.depth_m[rows, columns].astype(np.float64)
            rays = np.stack([columns, rows, np.ones_like(rows)], 1) @ np.linalg.inv(K).T
            points = (rays * depth[:, None] - T[:3, 3]) @ T[:3, :3] - middle_m
            found.append((points / diameter_m,
                          np.asarray(normals[rows, columns], np.float64),
                          flat.rgb[rows, columns].astype(np.float64)))
    points, normals, colors = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return _thinned(points, normals, colors)


def _thinned(points: Array, normals: Array, colors: Array) -> SeenSurface:
    """Return a surface with one point in each small cube."""
    order = np.random.default_rng(0).permutation(len(points))
    side = 0.004
    while True:
        cells = np.floor(points[order] / side).astype(np.int64)
        _, first = np.unique(cells, axis=0, return_index=True)
        rows = order[first]
        if len(rows) <= POINTS:
            break
        side *= 1.2
    length = np.linalg.norm(normals[rows], axis=1, keepdims=True)
    return SeenSurface(points[rows], normals[rows] / np.maximum(length, 1e-9), colors[rows], side,
                       cKDTree(points[rows]))


def view_rotations(count: int) -> Array:
    """Return cameras spread evenly over all directions, (count, 3, 3) R_camera_object."""
    number = np.arange(count)
    elevation = np.arcsin(1 - (2 * number + 1) / count)
    return rotation_from_angles(GOLDEN_ANGLE * number % (2 * np.pi), elevation, 0.0)


def hull_of(points: Array) -> ConvexHull:
    """Return the convex hull; a flat object gets a small thickness.

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
    """Return the first of all axes with the same or the opposite direction."""
    kept: list[Array] = []
    for axis in axes:
        if not kept or np.abs(np.array(kept) @ axis).max() < SAME_AXIS:
            kept.append(axis)
    return np.array(kept)
