"""How a learning rate rises and falls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scene_config import SceneConfig


def half_cosine(part: float, highest: float, lowest: float = 0.0) -> float:
    """Return the rate after a part of the way (0 to 1) from the highest to the lowest."""
    return lowest + (highest - lowest) * 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))


def learning_rate(config: SceneConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up, then half a cosine down to nothing."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    part = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return half_cosine(part, config.learning_rate)
