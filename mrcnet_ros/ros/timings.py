"""Recent durations and their percentiles."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping

import numpy as np

# Time that /diagnostics is about [s]: a longer one shows a fault later and keeps it longer.
WINDOW_S = 10.0
PERCENTILES = (50, 95, 99)  # the usual, a bad and the worst moments
_MOST_SAMPLES = 2000  # 200 a second fill the window; of more, the last are kept


class Timings:
    """Durations of the last ``WINDOW_S`` seconds by name; two threads share it.

    :param clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._samples: defaultdict[str, deque[tuple[float, float]]] = defaultdict(
            lambda: deque(maxlen=_MOST_SAMPLES))

    def add(self, durations_s: Mapping[str, float]) -> None:
        """Remember one duration of each name."""
        now = self._clock()
        with self._lock:
            for name, duration in durations_s.items():
                self._samples[name].append((now, duration))

    def percentiles(self) -> dict[str, tuple[float, ...]]:
        """Return ``PERCENTILES`` [s] of each name that had a duration in the window."""
        oldest = self._clock() - WINDOW_S
        with self._lock:
            for samples in self._samples.values():
                while samples and samples[0][0] < oldest:
                    samples.popleft()
            recent = {name: [duration for _, duration in samples]
                      for name, samples in self._samples.items() if samples}
        return {name: tuple(float(p) for p in np.percentile(durations, PERCENTILES))
                for name, durations in recent.items()}
