"""Notices poses that are probably wrong, by their scores."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from .diagnostics import Level, Problem
from .timings import WINDOW_S

# Fewer poses are no evidence.
FEWEST_POSES, MOST_POSES = 20, 1000
# Boxes that are half a size off, or turned upside down, give poses whose median score is 0.07 to
# 0.13 with models/demo, boxes that are right 0.78.
LOW_SCORE = 0.15


class ScoreWatch:
    """Remembers recent scores that are probabilities; may be asked by another thread.

    :param clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._seen: deque[tuple[float, float]] = deque(maxlen=MOST_POSES)

    def see(self, scores: Sequence[float]) -> None:
        """Note the scores of the poses of a frame."""
        with self._lock:
            self._seen.extend((self._clock(), float(score)) for score in scores)

    def problem(self) -> Problem | None:
        """Return what is wrong with the poses of the last ``WINDOW_S`` seconds."""
        with self._lock:
            since_s = self._clock() - WINDOW_S
            scores = [score for at_s, score in self._seen if at_s >= since_s]
        if len(scores) < FEWEST_POSES or (median := float(np.median(scores))) >= LOW_SCORE:
            return None
        return Problem(Level.WARN, f'most poses are probably wrong: half of {len(scores)} have a '
                       f'score below {median:.2g}; see that boxes (centre and size, in pixels of '
                       'the image), image, camera_info and model belong together, and that the '
                       'objects are neither hidden nor missing')
