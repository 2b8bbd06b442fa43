"""Whether a mesh looks the same after motions that are said to be its symmetries."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError

Array = NDArray[np.float64]

# How far a symmetry may move the outline of an object. BOP calls motions symmetries that move no
# point of the surface by more than 15 mm or a tenth of the diameter; a wrong axis moves far more.
LARGEST_M, LARGEST = 0.015, 0.15
DIRECTIONS = 64
# Of the hundreds of a continuous symmetry, and of the corners of a round hull, so many tell as
# much.
MOST_MOTIONS, MOST_POINTS = 24, 2000


def check_symmetries(path: Path | str, vertices: Array, transforms: Array,
                     diameter_m: float) -> None:
    """Check that symmetries leave the outline of a mesh about where it is.

    Colours are not looked at, nor what is within the convex hull.

    :param vertices: (V, 3) [m].
    :param transforms: (S, 4, 4) [m], in the frame of the vertices.
    :raises MeshError: when one does not.
    """
    if len(transforms) < 2:
        return
    chosen = transforms[np.unique(np.linspace(0, len(transforms) - 1, MOST_MOTIONS).astype(int))]
    points, directions = _hull(vertices), _directions()
    reach = (points @ directions.T).max(axis=0)
    turned = np.einsum('di,sij->sdj', directions, chosen[:, :3, :3])
    moved = np.stack([(points @ d.T).max(axis=0) for d in turned]) + np.einsum(
        'di,si->sd', directions, chosen[:, :3, 3])
    off_m = float(np.abs(moved - reach).max())
    if off_m > max(LARGEST_M, LARGEST * diameter_m):
        raise MeshError(
            path, f'is not as symmetric as it is said to be: a symmetry moves its outline by '
            f'{off_m:.3g} m, its diameter is {diameter_m:.3g} m',
            'give axis, offset and matrices in the frame and the unit of the mesh file')


def _hull(vertices: Array) -> Array:
    """Return points that reach as far as all vertices do, or nearly so."""
    from scipy.spatial import ConvexHull, QhullError

    points = vertices
    with contextlib.suppress(QhullError):  # flat meshes have no hull
        points = vertices[ConvexHull(vertices).vertices]
    return points[::len(points) // MOST_POINTS + 1]


def _directions() -> Array:
    """Return unit vectors to all sides, (D, 3), on a spiral from pole to pole."""
    n = np.arange(DIRECTIONS) + 0.5
    z, turn = 1.0 - 2.0 * n / DIRECTIONS, np.pi * (1.0 + 5.0**0.5) * n
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)
