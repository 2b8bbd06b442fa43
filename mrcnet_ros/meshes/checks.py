"""Whether a mesh has the size, the origin and the symmetries that it should have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError
from ..geometry.directions import even_directions
from ..geometry.se3 import Array
from .mesh import Mesh
from .polygons import areas

# Diameters in files are rounded or measured on other meshes; a wrong unit is off by a factor of
# 2.5 at least.
DIAMETER_TOLERANCE = 0.03
# Of vertices from the origin, in diameters. Templates and training views reach about 0.6; around
# the middle of its bounding box hardly any object reaches further, around that of its ball none.
FARTHEST = 0.65
BALL_STEPS = 1000  # leave its radius within a thousandth
# Part of the diameter. A middle that is nearer to the origin than this counts as being there.
OFF_CENTRE = 0.01
BLOCK = 1000  # points whose distances to all others are in memory at once
UNITS_M = {'mm': 0.001, 'm': 1.0, 'cm': 0.01, 'inch': 0.0254}
UNIT_NAMES = {'mm': 'millimetres', 'm': 'metres', 'cm': 'centimetres', 'inch': 'inches'}
# How far a symmetry may move the outline of an object. BOP calls motions symmetries that move no
# point of the surface by more than 15 mm or a tenth of the diameter; a wrong axis moves far more.
LARGEST_M, LARGEST = 0.015, 0.15
DIRECTIONS = 64  # in which the outline is measured, even on a sphere
# Of the hundreds of a continuous symmetry, and of the corners of a round hull, so many tell as
# much.
MOST_MOTIONS, MOST_POINTS = 24, 2000
# How far a symmetry may move the surface, in diameters and on average. Those that T-LESS and LM-O
# declare move theirs by up to 0.009; a quarter or half turn that is none by 0.014 to 0.1. The
# outline of a small object alone would let all turns of less than 15 mm pass.
LARGEST_MEAN = 0.02
# Points of the surface, points that are moved and compared with them, and motions: more of them
# take longer and measure the mean more finely than LARGEST_MEAN needs.
SURFACE_POINTS, MOVED_POINTS, SURFACE_MOTIONS = 10_000, 1000, 12


def measure_diameter(vertices: NDArray[np.float64]) -> float:
    """Return the largest distance between two vertices.

    :param vertices: (V, 3).
    :return: in the unit of ``vertices``.
    """
    from scipy.spatial.distance import cdist

    from ..geometry.hull import hull_vertices

    points = hull_vertices(np.unique(vertices, axis=0))
    return max(float(cdist(points[row:row + BLOCK], points[row:]).max())
               for row in range(0, len(points), BLOCK))


def find_middle(vertices: NDArray[np.float64], diameter: float) -> NDArray[np.float64]:
    """Return the middle of an object, (3,), or the origin if it is near enough.

    :param vertices: (V, 3).
    :param diameter: in the unit of ``vertices``.
    """
    middle = middle_of(vertices, diameter)
    return middle if np.linalg.norm(middle) > OFF_CENTRE * diameter else np.zeros(3)


def fits_diameter(size: NDArray[np.float64], diameter: float) -> bool:
    """Tell whether what has a bounding box can have a diameter.

    It lies between the longest side and the diagonal.

    :param size: (3,) of the bounding box, in the unit of the diameter.
    """
    low, high = size.max(), float(np.linalg.norm(size))
    return bool(low * (1 - DIAMETER_TOLERANCE) <= diameter <= high * (1 + DIAMETER_TOLERANCE))


def check_size(path: Path | str, vertices: NDArray[np.float64], diameter_m: float, unit_m: float
               ) -> None:
    """Check that a mesh can have the stated diameter.

    :param vertices: (V, 3) [m].
    :param unit_m: the unit the vertices were read in, for the message.
    :raises MeshError: when it cannot.
    """
    size = np.ptp(vertices, axis=0)
    if fits_diameter(size, diameter_m):
        return
    likely = [UNIT_NAMES[name] for name, unit in UNITS_M.items()
              if unit != unit_m and fits_diameter(size * unit / unit_m, diameter_m)]
    raise MeshError(
        path,
        f'read in units of {unit_m:g} m its bounding box has a diagonal of '
        f'{np.linalg.norm(size):.4g} m, but the object has a diameter of {diameter_m:.4g} m',
        f'it looks like the mesh is in {likely[0]}' if likely else
        'give the right mesh, unit or diameter',
    )


def middle_of(vertices: NDArray[np.float64], diameter: float) -> NDArray[np.float64]:
    """Return a point about which an object can be drawn whole, (3,).

    It is the middle of the bounding box. Triangles and pyramids may reach too far from there:
    theirs is the centre of the smallest ball around them, whose radius is 0.612 diameters or less.

    :param vertices: (V, 3), in the unit of the diameter.
    """
    from ..geometry.hull import hull_vertices

    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    if np.linalg.norm(vertices - middle, axis=1).max() <= FARTHEST * diameter:
        return np.asarray(middle)
    points = hull_vertices(vertices)
    for step in range(1, BALL_STEPS):  # Badoiu and Clarkson 2003
        farthest = points[np.linalg.norm(points - middle, axis=1).argmax()]
        middle = middle + (farthest - middle) / (step + 1)
    return np.asarray(middle)


def check_origin(path: Path | str, vertices: NDArray[np.float64], diameter_m: float,
                 unit_m: float) -> None:
    """Check that an object can be drawn whole with its origin on the optical axis.

    :param vertices: (V, 3) [m].
    :param unit_m: the unit the vertices were read in, for the message.
    :raises MeshError: when its origin is far from its middle.
    """
    reach = float(np.linalg.norm(vertices, axis=1).max()) / diameter_m
    if reach <= FARTHEST:
        return
    x, y, z = (f'{value:.4g}' for value in middle_of(vertices, diameter_m) / unit_m)
    raise MeshError(
        path,
        f'has its origin far from its middle: it reaches {reach:.2f} diameters from the origin, '
        f'expected at most {FARTHEST}, and would be cut off in training images and templates',
        f'give its middle in an object list, or subtract ({x}, {y}, {z}) from the vertices in '
        'the file, state the symmetries about the new origin, and train with that mesh')


def check_symmetries(path: Path | str, mesh: Mesh, transforms: Array, diameter_m: float) -> None:
    """Check that symmetries leave the outline and the surface of a mesh about where they are.

    Colours are not looked at.

    :param transforms: (S, 4, 4) [m], in the frame of the vertices.
    :raises MeshError: when one does not.
    """
    if len(transforms) < 2:
        return
    vertices = mesh.vertices
    chosen = transforms[np.unique(np.linspace(0, len(transforms) - 1, MOST_MOTIONS).astype(int))]
    points, directions = _hull(vertices), even_directions(DIRECTIONS)
    reach = (points @ directions.T).max(axis=0)
    turned = np.einsum('di,sij->sdj', directions, chosen[:, :3, :3])
    moved = np.stack([(points @ d.T).max(axis=0) for d in turned]) + np.einsum(
        'di,si->sd', directions, chosen[:, :3, 3])
    off_m = float(np.abs(moved - reach).max())
    if off_m > max(LARGEST_M, LARGEST * diameter_m):
        raise MeshError(
            path, f'does not have the given symmetries: one of them moves its outline by '
            f'{off_m:.3g} m, its diameter is {diameter_m:.3g} m',
            'give axis, offset and matrices in the frame and the unit of the mesh file')

    mean = surface_moves_by(mesh, transforms) / diameter_m
    if mean > LARGEST_MEAN:
        raise MeshError(
            path, f'does not have the given symmetries: they move its surface by '
            f'{mean:.1%} of the diameter on average, expected at most {LARGEST_MEAN:.1%}',
            'give axis, offset and matrices in the frame and the unit of the mesh file, and '
            'remove wrong ones')


def surface_moves_by(mesh: Mesh, transforms: Array) -> float:
    """Return how far from the surface the worst symmetry puts it, on average over the surface.

    :return: [m], less what the distance between the points that stand for the surface makes.
    """
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(0)
    tree = cKDTree(_on_surface(mesh, SURFACE_POINTS, rng))
    points = _on_surface(mesh, MOVED_POINTS, rng)
    chosen = np.unique(np.linspace(0, len(transforms) - 1, SURFACE_MOTIONS).astype(int))
    moved = np.concatenate([points[None], points @ transforms[chosen, :3, :3].transpose(0, 2, 1)
                            + transforms[chosen, None, :3, 3]])
    still, *means = tree.query(moved)[0].mean(axis=1).tolist()
    return float(max(means) - still)


def _on_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> Array:
    """Return points that are spread evenly over the faces, (count, 3)."""
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    area = areas(mesh.vertices[mesh.faces])
    row = np.searchsorted(np.cumsum(area), rng.uniform(0.0, area.sum(), count))
    row = row.clip(max=len(a) - 1)
    s, t = rng.random((2, count, 1))
    s, t = np.where(s + t > 1.0, 1.0 - s, s), np.where(s + t > 1.0, 1.0 - t, t)
    return np.asarray(a[row] + s * (b - a)[row] + t * (c - a)[row], np.float64)


def _hull(vertices: Array) -> Array:
    """Return points that reach as far as all vertices do, or nearly so."""
    from ..geometry.hull import hull_vertices

    points = hull_vertices(vertices)
    return points[::len(points) // MOST_POINTS + 1]
