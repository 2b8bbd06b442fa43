"""Whether a mesh has the size and the origin that it should have."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError

# Diameters in files are rounded or measured on other meshes; a wrong unit is off by a factor of
# 2.5 at least.
DIAMETER_TOLERANCE = 0.03
# Of vertices from the origin, in diameters. Templates and training views reach about 0.6; around
# the middle of its bounding box hardly any object reaches further.
FARTHEST = 0.65
BLOCK = 1000  # points whose distances to all others are in memory at once
UNITS_M = {'metres': 1.0, 'centimetres': 0.01, 'millimetres': 0.001, 'inches': 0.0254}


def measure_diameter(vertices: NDArray[np.float64]) -> float:
    """Return the largest distance between two vertices.

    :param vertices: (V, 3).
    :return: in the unit of ``vertices``.
    """
    from scipy.spatial import ConvexHull, QhullError
    from scipy.spatial.distance import cdist

    points = np.unique(vertices, axis=0)
    with contextlib.suppress(QhullError):  # flat meshes have no hull
        points = points[ConvexHull(points).vertices]
    return max(float(cdist(points[row:row + BLOCK], points[row:]).max())
               for row in range(0, len(points), BLOCK))


def fits_diameter(size: NDArray[np.float64], diameter: float) -> bool:
    """Tell whether what has a bounding box can have a diameter.

    It lies between the longest side and the diagonal.

    :param size: (3,) of the bounding box, in the unit of the diameter.
    """
    low, high = size.max(), float(np.linalg.norm(size))
    return bool(low * (1 - DIAMETER_TOLERANCE) <= diameter <= high * (1 + DIAMETER_TOLERANCE))


def check_size(
    path: Path | str, vertices: NDArray[np.float64], diameter_m: float, unit_m: float
) -> None:
    """Check that a mesh can have the stated diameter.

    :param vertices: (V, 3) [m].
    :param unit_m: the unit the vertices were read in, for the message.
    :raises MeshError: when it cannot.
    """
    size = np.ptp(vertices, axis=0)
    if fits_diameter(size, diameter_m):
        return
    likely = [name for name, unit in UNITS_M.items()
              if unit != unit_m and fits_diameter(size * unit / unit_m, diameter_m)]
    raise MeshError(
        path,
        f'read in units of {unit_m:g} m its bounding box has a diagonal of '
        f'{np.linalg.norm(size):.4g} m, but the object has a diameter of {diameter_m:.4g} m',
        f'it looks like the mesh is in {likely[0]}' if likely else
        'give the right mesh, unit or diameter',
    )


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
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2 / unit_m
    x, y, z = (f'{value:.4g}' for value in middle)
    raise MeshError(
        path,
        f'its origin is far from its middle: it reaches {reach:.2f} diameters from the origin, '
        f'expected at most {FARTHEST}, and would be cut off in training images and templates',
        f'give its middle in an object list, or subtract ({x}, {y}, {z}) from the vertices in '
        'the file, state the symmetries about the new origin, and train with that mesh')
