"""What happened in the last seconds, and the percentiles of durations."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

import numpy as np

T = TypeVar('T')

# Time that /diagnostics is about [s]: a longer one shows a fault later and keeps it longer.
WINDOW_S = 10.0
PERCENTILES = (50, 95, 99)  # the usual, a bad and the worst moments
_MOST_SAMPLES = 2000  # 200 a second fill the window; of more, the last are kept


class Recent(Generic[T]):
    """Things of the last ``WINDOW_S`` seconds; threads may share it.

    :param most: how many are kept; the oldest are forgotten first.
    :param clock: seconds that only grow.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._entries: deque[tuple[float, T]] = deque(maxlen=most)

    def add(self, things: Iterable[T]) -> None:
        """Take in what happened now."""
        now = self._clock()
        with self._lock:
            self._entries.extend((now, thing) for thing in things)

    def things(self) -> list[T]:
        """Return those that are recent, the oldest first."""
        since = self._clock() - WINDOW_S
        with self._lock:
            return [thing for at_s, thing in self._entries if at_s >= since]


class Timings:
    """Durations of the last ``WINDOW_S`` seconds by name; two threads share it.

    :param clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._samples: dict[str, Recent[float]] = {}

    def add(self, durations_s: Mapping[str, float]) -> None:
        """Remember one duration of each name."""
        with self._lock:
            for name, duration in durations_s.items():
                if name not in self._samples:
                    self._samples[name] = Recent(_MOST_SAMPLES, self._clock)
                self._samples[name].add([duration])

    def percentiles(self) -> dict[str, tuple[float, ...]]:
        """Return ``PERCENTILES`` [s] of each name that had a duration in the window."""
        with self._lock:
            recent = {name: samples.things() for name, samples in self._samples.items()}
        return {name: tuple(float(p) for p in np.percentile(durations, PERCENTILES))
                for name, durations in recent.items() if durations}
