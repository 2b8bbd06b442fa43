"""How far boxes in an image cover one another."""

import numpy as np

from .se3 import Array


def ious(boxes: Array, other: Array) -> Array:
    """Return the intersection over union of boxes (..., 4) with others (..., 4) [px]."""
    low = np.maximum(boxes[..., :2], other[..., :2])
    high = np.minimum(boxes[..., 2:], other[..., 2:])
    common = np.prod(np.maximum(high - low, 0), -1)
    areas = sum(np.prod(b[..., 2:] - b[..., :2], -1) for b in (boxes, other))
    return np.asarray(common / np.maximum(areas - common, 1e-9))
