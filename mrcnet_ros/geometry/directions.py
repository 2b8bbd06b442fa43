"""Directions that are spread evenly over a sphere."""

from __future__ import annotations

import numpy as np

from .se3 import Array


def even_directions(count: int) -> Array:
    """Return unit vectors on a Fibonacci spiral from pole to pole, (count, 3)."""
    n = np.arange(count) + 0.5
    z, turn = 1.0 - 2.0 * n / count, np.pi * (1.0 + 5.0**0.5) * n
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)
