"""How near the stamps of one input come to those of another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def distances_ns(stamps: Iterable[int], others: Iterable[int]) -> NDArray[np.int64]:
    """Return how near [ns] each stamp comes to one of some others."""
    given, known = (np.array(list(s), dtype=np.int64) for s in (stamps, others))
    known.sort()
    after = np.searchsorted(known, given)
    above, below = known[np.minimum(after, len(known) - 1)], known[np.maximum(after - 1, 0)]
    nearest: NDArray[np.int64] = np.minimum(np.abs(above - given), np.abs(given - below))
    return nearest


def misfit_ns(image: Sequence[int], stamps: Sequence[int], slop_ns: float) -> int:
    """Return how near [ns] stamps come to those of images when most fit none, else 0.

    Stamps from before the first image or after the last are not judged, when there are others.
    """
    low, high = min(image), max(image)
    distances = distances_ns([s for s in stamps if low <= s <= high] or stamps, image)
    misfits = distances[distances > slop_ns]
    return int(misfits.min()) if 2 * len(misfits) > len(distances) else 0
