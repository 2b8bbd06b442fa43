"""Notices scores and boxes of a detector that look wrong although they can be used."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from ..inference.poses import Detection
from .diagnostics import Level, Problem
from .timings import WINDOW_S

# Rounding; a percentage or a logit is far beyond.
LARGEST_SCORE = 1.001
# Boxes of one label that overlap so much are of one object; in so many frames it is no accident.
SAME_OBJECT, FEWEST_FRAMES = 0.9, 10
# More detections of a frame are not compared with one another.
MOST_COMPARED, MOST_FRAMES = 100, 600


class DetectionWatch:
    """Remembers what recent frames had; may be asked by another thread.

    :param clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._seen: deque[tuple[float, float, bool]] = deque(maxlen=MOST_FRAMES)

    def see(self, detections: Sequence[Detection]) -> None:
        """Note the detections of a frame, whose numbers are finite."""
        best = max((d.score for d in detections), default=0.0)
        doubled = _are_doubled(detections[:MOST_COMPARED])
        with self._lock:
            self._seen.append((self._clock(), float(best), doubled))

    def problems(self) -> list[Problem]:
        """Return what is wrong with the detections of the last ``WINDOW_S`` seconds."""
        with self._lock:
            since_s = self._clock() - WINDOW_S
            seen = [entry for entry in self._seen if entry[0] >= since_s]
        best = max((score for _, score, _ in seen), default=0.0)
        doubled = sum(doubled for _, _, doubled in seen)
        found = []
        if best > LARGEST_SCORE:
            found.append(f'scores of detections reach {best:.3g}; expected 0 to 1, so that '
                         'min_detection_score and max_detections mean what they say')
        if doubled >= FEWEST_FRAMES:
            found.append(f'in {doubled} of {len(seen)} frames boxes of one label lie on one '
                         'another, and each gets a pose; use non-maximum suppression in the '
                         'detector')
        return [Problem(Level.WARN, text) for text in found]


def _are_doubled(detections: Sequence[Detection]) -> bool:
    """Tell whether two boxes of one label are nearly the same."""
    if len(detections) < 2:
        return False
    boxes = np.array([d.box_xyxy for d in detections])
    labels = np.array([d.label for d in detections])
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    with np.errstate(all='ignore'):  # boxes without an area, or absurdly large ones
        both = np.clip(high - low, 0, None).prod(axis=2)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        overlap = both / (areas[:, None] + areas[None, :] - both)
    same = (labels[:, None] == labels[None, :]) & ~np.eye(len(boxes), dtype=bool)
    return bool((same & (overlap > SAME_OBJECT)).any())
