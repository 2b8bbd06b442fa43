"""Convex hulls of points."""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from .se3 import Array


def hull_vertices(vertices: Array) -> Array:
    """Return the vertices on the convex hull; all of them when the points lie in a plane.

    :param vertices: (V, 3).
    :return: (H, 3).
    """
    try:
        return np.asarray(vertices[np.sort(ConvexHull(vertices).vertices)], dtype=np.float64)
    except QhullError:
        return vertices
