"""How a learning rate falls."""

from __future__ import annotations

import math


def half_cosine(part: float, highest: float, lowest: float = 0.0) -> float:
    """Return the rate after a part of the way (0 to 1) from the highest to the lowest."""
    return lowest + (highest - lowest) * 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))
