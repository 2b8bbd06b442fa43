"""Notices scores and boxes of a detector, and scores of poses, that look wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from ..geometry.boxes import ious
from ..inference.poses import Detection, PoseEstimate
from .diagnostics import Level, Problem
from .timings import Recent

# One, and some rounding; a percentage or a logit is far beyond.
LARGEST_SCORE = 1.001
# Two boxes of one label with this overlap are of one object. It is reported from this number of
# frames on.
SAME_OBJECT, FEWEST_FRAMES = 0.9, 10
# More poses of a frame are not compared with one another.
MOST_COMPARED, MOST_FRAMES = 100, 600
# Fewer poses are no evidence.
FEWEST_POSES, MOST_POSES = 20, 1000
# Boxes that are half a size off, or turned upside down, give poses whose median score is 0.07 to
# 0.13 with models/demo, boxes that are right 0.78.
LOW_SCORE = 0.15


class DetectionWatch:
    """Remembers what recent frames had; may be asked by another thread.

    :param clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # best score, and whether there was a detection; whether boxes lay on one another
        self._seen: Recent[tuple[float, bool]] = Recent(MOST_FRAMES, clock)
        self._answered: Recent[bool] = Recent(MOST_FRAMES, clock)

    def see(self, detections: Sequence[Detection]) -> None:
        """Note the detections of a frame, whose numbers are finite."""
        best = max((d.score for d in detections), default=0.0)
        self._seen.add([(float(best), bool(detections))])

    def see_answers(self, poses: Sequence[PoseEstimate]) -> None:
        """Note the poses that are published of the detections of a frame."""
        self._answered.add([_are_doubled(poses[:MOST_COMPARED])])

    def problems(self) -> list[Problem]:
        """Return what is wrong with the detections of the last ``WINDOW_S`` seconds."""
        seen, answers = self._seen.things(), self._answered.things()
        best = max((score for score, _ in seen), default=0.0)
        doubled = sum(answers)
        found = []
        if best > LARGEST_SCORE:
            found.append(f'scores of detections reach {best:.3g}; expected 0 to 1, '
                         'which min_detection_score and max_detections need')
        if best == 0.0 and sum(some for _, some in seen) >= FEWEST_FRAMES:
            found.append('all scores of detections are 0, so the best boxes are not known; '
                         'the detector must fill score, 0 to 1')
        if doubled >= FEWEST_FRAMES:
            found.append(f'in {doubled} of {len(answers)} frames boxes of one label lie on one '
                         'another, and each gets a pose; use non-maximum suppression in the '
                         'detector')
        return [Problem(Level.WARN, text) for text in found]


def _are_doubled(poses: Sequence[PoseEstimate]) -> bool:
    """Tell whether the boxes of two poses of one label are nearly the same."""
    if len(poses) < 2:
        return False
    boxes = np.array([pose.box_xyxy for pose in poses])
    labels = np.array([pose.label for pose in poses])
    with np.errstate(all='ignore'):  # boxes may be absurdly large
        overlap = ious(boxes[:, None], boxes[None])
    same = (labels[:, None] == labels[None, :]) & ~np.eye(len(boxes), dtype=bool)
    return bool((same & (overlap > SAME_OBJECT)).any())


class ScoreWatch:
    """Remembers recent scores that are probabilities; may be asked by another thread.

    :param clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._seen: Recent[float] = Recent(MOST_POSES, clock)

    def see(self, scores: Sequence[float]) -> None:
        """Note the scores of the poses of a frame that are good enough to be published."""
        self._seen.add(map(float, scores))

    def problem(self) -> Problem | None:
        """Return what is wrong with the poses of the last ``WINDOW_S`` seconds."""
        scores = self._seen.things()
        if len(scores) < FEWEST_POSES or (median := float(np.median(scores))) >= LOW_SCORE:
            return None
        return Problem(Level.WARN, f'most poses are probably wrong: half of {len(scores)} have a '
                       f'score below {median:.2g}; see that boxes (centre and size, in pixels of '
                       'the image), image, camera_info and model belong together, and that the '
                       'objects are neither hidden nor missing')
