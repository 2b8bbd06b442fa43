"""Plain bodies that lie around and hide objects: boxes, bars, cans, cones, lumps, vessels.

Some are joined of several of these, as tools, toys and cups with handles are.
"""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.typing import NDArray

from ..geometry.se3 import Array
from ..objects import Mesh

# Raise it when the bodies of a seed change, so that their views are rendered again.
SHAPES_VERSION = 3
PLAIN = ('box', 'bar', 'cylinder', 'cone', 'ring', 'lump', 'bowl', 'bottle')
KINDS = (*PLAIN, 'joined')
# How many plain bodies a joined one has, and how large all but the first are against their usual
# size.
JOINED, SMALLER = (2, 4), (0.3, 1.0)
ONE_COLOUR = 0.5  # part of the joined bodies whose parts have the same colours


def draw_shapes(count: int, seed: int) -> list[Mesh]:
    """Draw bodies of all kinds in turn.

    :return: meshes around their origin, 4 to 50 cm large [m], of one colour or of a few.
    """
    rng = np.random.default_rng([seed, 7])
    return [_body(KINDS[i % len(KINDS)], rng) for i in range(count)]


def _body(kind: str, rng: np.random.Generator) -> Mesh:
    parts = _joined(rng) if kind == 'joined' else [_plain(kind, rng)]
    whole = trimesh.util.concatenate(parts)
    vertices = np.asarray(whole.vertices - whole.bounding_box.centroid, np.float64)
    counts = [len(p.vertices) for p in parts]
    if rng.random() < ONE_COLOUR:
        counts = [sum(counts)]
    ends = np.cumsum(counts)[:-1]
    colours = [_colours(some, rng) for some in np.split(vertices, ends)]
    return Mesh(vertices, np.asarray(whole.faces, np.int32),
                np.concatenate([p.vertex_normals for p in parts]), np.concatenate(colours))


def _plain(kind: str, rng: np.random.Generator) -> trimesh.Trimesh:
    shape = _shape(kind, rng)
    if kind in ('box', 'bar', 'lump', 'ring'):
        shape.unmerge_vertices()  # every face its own normal, so that edges stay sharp
    return shape


def _joined(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    """Draw plain bodies, each but the first around a point of the surface of the first."""
    parts = [_plain(str(rng.choice(PLAIN)), rng)
             for _ in range(int(rng.integers(*JOINED, endpoint=True)))]
    first = np.asarray(parts[0].vertices)
    for part in parts[1:]:
        T = trimesh.transformations.random_rotation_matrix(rng.random(3))
        T[:3, :3] *= rng.uniform(*SMALLER)
        part.apply_translation(-part.bounding_box.centroid)
        part.apply_transform(T)
        part.apply_translation(first[int(rng.integers(len(first)))])
    return parts


def _shape(kind: str, rng: np.random.Generator) -> trimesh.Trimesh:
    size = rng.uniform(0.03, 0.15, 3)
    if kind == 'box':
        return trimesh.creation.box(extents=size)
    if kind == 'bar':
        return trimesh.creation.box(extents=size * [0.15, 0.15, 2.0])
    if kind == 'cylinder':
        return trimesh.creation.cylinder(radius=size[0] / 2, height=size[1], sections=24)
    if kind == 'cone':
        return trimesh.creation.cone(radius=size[0] / 2, height=size[1], sections=24)
    if kind == 'ring':
        return trimesh.creation.torus(size[0] / 2 + 0.01, rng.uniform(0.2, 0.45) * size[0] / 2,
                                      major_sections=24, minor_sections=10)
    if kind == 'bowl':
        return _turned(_bowl_profile(rng, size))
    if kind == 'bottle':
        return _turned(_bottle_profile(rng, size))
    return trimesh.Trimesh(rng.normal(size=(14, 3)) * size / 2).convex_hull


def _turned(profile: Array) -> trimesh.Trimesh:
    """Turn a closed profile (P, 2) of radii and heights [m] around the z axis."""
    return trimesh.creation.revolve(profile, sections=28)


def _bowl_profile(rng: np.random.Generator, size: Array) -> Array:
    """Return a bowl, cup or pot: outside from the foot to the rim, back inside."""
    foot, rim, height = size[0] * rng.uniform(0.2, 0.5), size[0] / 2, size[1] * rng.uniform(0.4, 1)
    wall = rng.uniform(0.03, 0.1) * size[0]
    at = np.linspace(0, 1, 7)
    outer = foot + (rim - foot) * at ** rng.uniform(0.3, 2.0)
    outside = np.column_stack([outer, at * height])
    inside = np.column_stack([np.maximum(outer - wall, 0.3 * foot),
                              wall + at * (height - wall)])[::-1]
    return np.concatenate([[[0.0, 0.0]], outside, inside, [[0.0, wall]]])


def _bottle_profile(rng: np.random.Generator, size: Array) -> Array:
    """Return a bottle, vase, ball or turned leg: a smooth random outline."""
    height = size[1] * rng.uniform(0.8, 2.0)
    at = np.linspace(0, 1, 14)
    rough = np.interp(at, np.linspace(0, 1, 5), rng.uniform(0.3, 1.0, 5))
    if rng.random() < 0.3:
        rough = np.sqrt(np.maximum(1e-3, 1 - (2 * at - 1) ** 2))  # a ball
    radius = size[0] / 2 * rough
    middle = np.column_stack([radius, at * height])
    return np.concatenate([[[0.0, 0.0]], middle, [[0.0, height]]])


def _colours(vertices: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one colour, or two that meet at a plane, of every vertex, (V, 3) uint8."""
    first, second = rng.integers(20, 236, (2, 3))
    if rng.random() < 0.3:
        first = np.full(3, first[0])
    upper = vertices @ rng.normal(size=3) > 0
    chosen = np.where(upper[:, None] & (rng.random() < 0.5), second, first)
    return np.asarray(chosen, np.uint8)
