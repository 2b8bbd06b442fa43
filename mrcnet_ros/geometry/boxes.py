"""How far boxes in an image cover one another."""

import numpy as np

from .se3 import Array


def ious(boxes: Array, other: Array) -> Array:
    """Return the intersection over union of boxes (..., 4) with others (..., 4) [px]."""
    # a side at a time: a product along an axis of two numbers takes twice as long
    width, height = (
        np.minimum(boxes[..., side + 2], other[..., side + 2])
        - np.maximum(boxes[..., side], other[..., side]) for side in (0, 1))
    common = np.maximum(width, 0) * np.maximum(height, 0)
    return np.asarray(common / np.maximum(_areas(boxes) + _areas(other) - common, 1e-9))


def _areas(boxes: Array) -> Array:
    return np.asarray((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))
