"""How open each place of a surface is, for the soft light of the surroundings."""

from __future__ import annotations

import dataclasses

import numpy as np
import trimesh
from numpy.typing import NDArray

from ..errors import BackendError, with_extra
from ..geometry.se3 import Array
from ..meshes.winding import bodies, is_closed_outward, joined, to_turn_alike
from ..objects import Mesh

# Rays of each vertex. 128 leave a noise of at most 0.045, which the drawing averages over its
# neighbours; LM-O's largest mesh takes 2 s.
RAYS = 128
# A fine mesh gets fewer for each of its vertices, because the drawing averages more of them. With
# as many for all, a tree of 360 000 vertices would take four minutes.
MOST_RAYS, FEWEST_RAYS = RAYS * 40_000, 16
# Longest edge in diameters: openness is interpolated between vertices, and CAD meshes have edges
# as long as the object.
LONGEST_EDGE = 0.06
# Where rays start, in diameters above the surface, so that they do not meet their own triangle.
LIFT = 1e-3


def bake_openness(mesh: Mesh, diameter_m: float) -> Mesh:
    """Return a mesh of the same shape whose grey level says how open each place is.

    A place is as open as the cosine-weighted part of its hemisphere from which it can be seen:
    255 on a convex surface, towards 0 at the bottom of a narrow hole. Files may be wound inward,
    or their faces in both ways: of a surface that is not closed and wound outward, each body
    counts from the side that is more open.

    :return: with grey vertex colours, without texture; its edges are at most
        ``LONGEST_EDGE * diameter_m`` long.
    :raises BackendError: when the ray tracer is not installed.
    """
    check_ray_tracer()
    closed = is_closed_outward(mesh)
    faces, body = (mesh.faces, None) if closed else _wound_alike(mesh)
    vertices, faces, index = trimesh.remesh.subdivide_to_size(
        mesh.vertices, faces, LONGEST_EDGE * diameter_m, max_iter=30, return_index=True)
    shape = trimesh.Trimesh(vertices, faces, process=False)
    openness = _openness(shape, mesh, LIFT * diameter_m)
    if body is not None:
        behind = _openness(shape, mesh, -LIFT * diameter_m)
        of_vertex = np.zeros(len(openness), np.int64)
        of_vertex[shape.faces] = body[index][:, None]
        more = np.bincount(of_vertex, behind - openness) > 0
        openness = np.where(more[of_vertex], behind, openness)
    grey = np.rint(255 * openness).astype(np.uint8)
    return dataclasses.replace(
        mesh, vertices=shape.vertices.astype(np.float64), faces=shape.faces.astype(np.int32),
        normals=np.asarray(shape.vertex_normals, np.float64),
        colors=np.repeat(grey[:, None], 3, 1), textures=(), uv=None, face_textures=None)


def check_ray_tracer() -> None:
    """Refuse to render views without the ray tracer.

    :raises BackendError: when it is not installed.
    """
    if not trimesh.ray.has_embree:
        raise BackendError('rendering the views of a training needs the ray tracer embreex, which '
                           f'is not installed; {with_extra("train")}')


def _wound_alike(mesh: Mesh) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return faces so that each body is wound alike, one at the same vertices, and their bodies.

    :return: (F', 3) and (F',).
    """
    first = np.sort(np.unique(np.sort(mesh.faces, axis=1), axis=0, return_index=True)[1])
    faces = mesh.faces[first]
    surface = joined(mesh.vertices, faces)
    turned = to_turn_alike(surface)
    faces[turned] = faces[turned, ::-1]
    return faces, bodies(surface)


def _openness(shape: trimesh.Trimesh, original: Mesh, lift_m: float) -> Array:
    """Return the open part of every vertex's hemisphere, (V,) in 0..1.

    :param lift_m: where rays start above the surface; below 0 for the hemisphere behind it [m].
    """
    tracer = trimesh.ray.ray_pyembree.RayMeshIntersector(
        trimesh.Trimesh(original.vertices, original.faces, process=False))
    normals = np.asarray(shape.vertex_normals, np.float64)
    starts = shape.vertices + lift_m * normals
    rng = np.random.default_rng(0)
    open_rays = np.zeros(len(starts))
    rays = int(np.clip(MOST_RAYS // max(1, len(starts)), FEWEST_RAYS, RAYS))
    for _ in range(rays):
        # a point on the unit sphere added to the normal is cosine distributed about it
        ball = rng.normal(size=normals.shape)
        ball /= np.linalg.norm(ball, axis=1, keepdims=True)
        toward: NDArray[np.float64] = np.sign(lift_m) * normals + 0.999 * ball
        open_rays += ~tracer.intersects_any(starts, toward)
    return np.asarray(open_rays / rays)
