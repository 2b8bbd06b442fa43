"""Industrial parts made by formula, in millimetres."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from scipy.spatial import Delaunay

from mrcnet_ros.meshes import Mesh

MM = 0.001
RED = (220, 30, 30)
BRICK = trimesh.creation.box((84, 52, 30))
# of mrcnet new, as little of everything as there can be, so that a test is over in seconds
SMALL = ('--set', 'views=8', '--set', 'patches=8', '--set', 'bodies=2', '--set', 'processes=1',
         '--set', 'minutes=0.01', '--set', 'batch_size=8', '--images', '3')


def cylinder(radius: float = 30.0, height: float = 100.0) -> Any:
    """Return a cylinder about z."""
    return trimesh.creation.cylinder(radius, height, sections=48)


def mug() -> Any:
    """Return an open cup with a handle."""
    wall = trimesh.creation.annulus(36.0, 40.0, 90.0, sections=48)
    bottom = trimesh.creation.cylinder(38.0, 4.0, sections=48)
    bottom.apply_translation([0, 0, -43.0])
    handle = trimesh.creation.torus(20.0, 5.0)
    handle.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    handle.apply_translation([45.0, 0, 0])
    return trimesh.util.concatenate([wall, bottom, handle])


def flange(holes: int = 4, first_rad: float = 0.3) -> Any:
    """Return a round plate with holes on a circle, the first of them not on the x axis."""
    angles = first_rad + 2 * np.pi * np.arange(holes) / holes
    centres = 30.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    grid = np.stack(np.meshgrid(*[np.linspace(-40, 40, 41)] * 2), -1).reshape(-1, 2)
    grid = grid[np.linalg.norm(grid, axis=1) < 38.5]
    apart = np.linalg.norm(grid[:, None] - centres, axis=2).min(axis=1)
    points = np.concatenate([circle(40.0, 96), *(c + circle(4.0, 24) for c in centres),
                             grid[apart > 4.6]])
    faces = Delaunay(points).simplices
    middles = points[faces].mean(axis=1)
    faces = faces[np.linalg.norm(middles[:, None] - centres, axis=2).min(axis=1) > 4.0]
    return extruded(points, faces, 10.0)


def circle(radius: float, corners: int) -> np.ndarray:
    """Return points on a circle, (N, 2)."""
    angles = 2 * np.pi * np.arange(corners) / corners
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def extruded(points: np.ndarray, faces: np.ndarray, height: float) -> Any:
    """Return a plane figure made thick along z."""
    a, b, c = np.moveaxis(points[faces], 1, 0)
    u, v = b - a, c - a
    faces = np.where((u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0] < 0)[:, None], faces[:, ::-1], faces)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = set(map(tuple, edges.tolist()))
    rim = np.array([e for e in known if (e[1], e[0]) not in known])
    n, half = len(points), np.full((len(points), 1), height / 2)
    walls = np.concatenate([np.stack([rim[:, 0], rim[:, 0] + n, rim[:, 1]], 1),
                            np.stack([rim[:, 1], rim[:, 0] + n, rim[:, 1] + n], 1)])
    return trimesh.Trimesh(
        np.concatenate([np.hstack([points, half]), np.hstack([points, -half])]),
        np.concatenate([faces, faces[:, ::-1] + n, walls]), process=False)


def grey(shape: Any) -> Mesh:
    """Return a shape as the package has meshes [m], in one colour."""
    return painted(shape, np.full((len(shape.faces), 3), 160, np.uint8))


def painted(shape: Any, colors: np.ndarray) -> Mesh:
    """Return a shape with a colour for each face."""
    vertices = np.asarray(shape.triangles).reshape(-1, 3) * MM
    return Mesh(vertices, np.arange(len(vertices), dtype=np.int32).reshape(-1, 3),
                np.repeat(shape.face_normals, 3, axis=0), np.repeat(colors, 3, axis=0))


def marked_cylinder() -> Mesh:
    """Return a grey cylinder with a red mark on its side, some two percent of the surface."""
    shape = cylinder().subdivide().subdivide()
    x, y, z = shape.triangles_center.T
    colors = np.full((len(shape.faces), 3), 160, np.uint8)
    colors[(x > 25) & (np.abs(y) < 12) & (np.abs(z - 10) < 12)] = RED
    return painted(shape, colors)


def turned(shape: Any, rotation: Any, offset: tuple[float, float, float]) -> Any:
    """Return a copy of a shape elsewhere."""
    moved = shape.copy()
    moved.apply_transform(rotation)
    moved.apply_translation(offset)
    return moved


def write(path: Path, shape: Any, scale: float = 1.0) -> Path:
    """Write a shape as a file of the kind of its name."""
    moved = shape.copy()
    moved.apply_scale(scale)
    moved.export(path)
    return path
