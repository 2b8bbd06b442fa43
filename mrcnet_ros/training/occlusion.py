"""How open a surface is to light from all around, baked into a mesh before views are drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import trimesh
from numpy.typing import NDArray

from ..errors import MeshError
from ..geometry.se3 import Array
from ..objects import Mesh

# Rays of each vertex. 128 leave a noise of at most 0.045, which the drawing averages over its
# neighbours; LM-O's largest mesh takes 2 s.
RAYS = 128
# Longest edge in diameters: openness is interpolated between vertices, and CAD meshes have edges
# as long as the object.
LONGEST_EDGE = 0.06
# Where rays start, in diameters above the surface, so that they do not meet their own triangle.
LIFT = 1e-3


def bake_openness(mesh: Mesh, diameter_m: float) -> Mesh:
    """Return a mesh of the same shape whose grey level says how open each place is.

    A place is as open as the cosine-weighted part of its hemisphere from which it can be seen:
    255 on a convex surface, towards 0 at the bottom of a narrow hole.

    :return: with grey vertex colours, without texture; its edges are at most
        ``LONGEST_EDGE * diameter_m`` long.
    :raises MeshError: when the ray tracer is not installed.
    """
    if not trimesh.ray.has_embree:
        raise MeshError('ambient occlusion', 'needs the ray tracer embreex',
                        "pip install 'mrcnet_ros[train]'")
    vertices, faces = trimesh.remesh.subdivide_to_size(
        mesh.vertices, mesh.faces, LONGEST_EDGE * diameter_m, max_iter=30)
    shape = trimesh.Trimesh(vertices, faces, process=False)
    openness = _openness(shape, mesh, LIFT * diameter_m)
    grey = np.rint(255 * openness).astype(np.uint8)
    return dataclasses.replace(
        mesh, vertices=shape.vertices.astype(np.float64), faces=shape.faces.astype(np.int32),
        normals=np.asarray(shape.vertex_normals, np.float64),
        colors=np.repeat(grey[:, None], 3, 1), textures=(), uv=None, face_textures=None)


def _openness(shape: trimesh.Trimesh, original: Mesh, lift_m: float) -> Array:
    """Return the open part of every vertex's hemisphere, (V,) in 0..1."""
    tracer = trimesh.ray.ray_pyembree.RayMeshIntersector(
        trimesh.Trimesh(original.vertices, original.faces, process=False))
    normals = np.asarray(shape.vertex_normals, np.float64)
    starts = shape.vertices + lift_m * normals
    rng = np.random.default_rng(0)
    open_rays = np.zeros(len(starts))
    for _ in range(RAYS):
        # a point on the unit sphere added to the normal is cosine distributed about it
        ball = rng.normal(size=normals.shape)
        ball /= np.linalg.norm(ball, axis=1, keepdims=True)
        toward: NDArray[np.float64] = normals + 0.999 * ball
        open_rays += ~tracer.intersects_any(starts, toward)
    return np.asarray(open_rays / RAYS)
