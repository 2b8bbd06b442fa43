"""Amounts of light, and the colours of a screen that show them (the curve of sRGB)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def linear(rgb: NDArray[np.uint8]) -> Array:
    """Return how much light colours of a screen are, 0 to 1."""
    part = np.asarray(rgb, np.float64) / 255.0
    return np.asarray(np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4))


def shown(light: Array) -> NDArray[np.uint8]:
    """Return the colours of a screen for amounts of light from 0 to 1; undoes :func:`linear`."""
    part = np.clip(light, 0.0, 1.0)
    curve = np.where(part <= 0.0031308, 12.92 * part, 1.055 * part ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255.0 * curve), np.uint8)
