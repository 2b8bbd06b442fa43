"""What can be seen of an object's surface: points, normals and colours, from renders all around.

Renders, and not the mesh, because a CAD part is full of faces that no camera sees, and because
textures and colours are then those that the network sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..geometry.crop import pinhole
from ..geometry.se3 import Array, make_transform
from ..geometry.view_prior import rotation_from_angles
from ..meshes import Mesh
from ..rendering.renderer import Renderer

# so many that a hole or a rib is seen by some of them
VIEWS = 48
VIEW_PX = 128  # a pixel is a little less than one percent of the diameter
# far away, so that perspective hides little
DISTANCE_DIAMETERS = 8.0
RELATIVE_SIZE = 0.85  # diameter over the side of the view: room for a border
# points that others are compared with; they lie about half a percent of the diameter apart
POINTS = 60000
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))  # steps of azimuth that spread views evenly over a sphere


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


def look_at(mesh: Mesh, middle_m: Array, diameter_m: float, seed: int = 0) -> SeenSurface:
    """Render a mesh from all around and gather what is seen of it.

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
    return _thinned(points, normals, colors, seed)


def _thinned(points: Array, normals: Array, colors: Array, seed: int) -> SeenSurface:
    """Return a surface of one point in each small cube, as evenly as that gets."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(points))
    side = 0.004
    rows = order
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
    """Return cameras spread evenly all around, (count, 3, 3) R_camera_object."""
    number = np.arange(count)
    elevation = np.arcsin(1 - (2 * number + 1) / count)
    return rotation_from_angles(GOLDEN_ANGLE * number % (2 * np.pi), elevation, 0.0)
