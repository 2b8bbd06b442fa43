"""What became of frames and detections: counters that two threads share."""

from __future__ import annotations

import statistics
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable

FRAME_REASONS = ('busy', 'late', 'unpaired', 'bad_message', 'bad_image', 'bad_camera_info',
                 'failed', 'stopped', 'no_depth')
DETECTION_REASONS = ('no_label', 'unknown_label', 'low_score', 'low_pose_score', 'outranked',
                     'box_outside', 'non_finite', 'too_many', 'no_frame_id', 'frame_taken',
                     'repeated')
# Depth images that were not used; their frames are answered unless depth is required.
DEPTH_REASONS = ('depth_late', 'depth_bad', 'depth_unregistered', 'depth_scale', 'depth_empty')
# Frames whose support plane is not known; they are answered without it.
PLANE_REASONS = ('plane_missing',)
DEPTH_USES = ('pose', 'distance', 'none')
# What instances are recognised or followed without; their frames are answered.
TRACK_REASONS = ('no_camera_motion', 'track_gap')
_REASONS = (FRAME_REASONS + DETECTION_REASONS + DEPTH_REASONS + PLANE_REASONS + TRACK_REASONS)
MOST_TEXT = 1000  # characters of a message in /diagnostics and the log
_RESIDUALS = 500  # of the last poses, for a median: seconds to a minute
_MOMENTS = 300  # drops of the last frames; the node looks again only at frames of the last second


class DropCounters:
    """Counts answers, and drops by reason.

    :param on_first: told reason and message of the first drop of each reason.
    """

    def __init__(self, on_first: Callable[[str, str], None]) -> None:
        self._on_first = on_first
        self._lock = threading.Lock()
        self.followed_now = 0
        self._counts: Counter[str] = Counter()
        self._last_message: dict[str, str] = {}
        self._told: Counter[str] = Counter()
        self._residuals_m: deque[float] = deque(maxlen=_RESIDUALS)
        self._of_moments: deque[tuple[str, tuple[int, int]]] = deque(maxlen=_MOMENTS)

    def drop_once(self, reason: str, message: str, moment: tuple[int, int]) -> None:
        """Count a drop, but only once for each frame.

        The node looks at a frame again when the detections of that frame or of an earlier one
        come late.

        :param moment: of the frame.
        """
        with self._lock:
            told = (reason, moment) in self._of_moments
            self._of_moments.append((reason, moment))
        self.drop(reason, message, 0 if told else 1)

    def drop(self, reason: str, message: str = '', count: int = 1) -> None:
        """Count a drop.

        :param reason: one of ``FRAME_REASONS``, ``DETECTION_REASONS``, ``DEPTH_REASONS``,
            ``PLANE_REASONS`` or ``TRACK_REASONS``.
        :param message: what exactly was wrong; of a very long one the middle is left out.
        :param count: how many at once; 0 counts nothing.
        :raises KeyError: for a reason that is not known.
        """
        if reason not in _REASONS:
            raise KeyError(reason)
        message = shortened(message)
        with self._lock:
            first = count > 0 and not self._counts[reason]
            self._counts[reason] += count
            if message and count:
                self._last_message[reason] = message
        if first:
            self._on_first(reason, message)

    def fault(self, message: str) -> None:
        """Count a fault of the node itself, which is neither a frame nor a detection."""
        with self._lock:
            self._counts['faults'] += 1
            self._last_message['faults'] = shortened(message)

    def answer(self, poses: int, detections: int = 0, *, frames: int = 1, hits: int = 0,
               misses: int = 0) -> None:
        """Count an answered frame with its poses and detections.

        :param frames: 0 for one that was answered already, before its detections came.
        :param hits: templates whose features were in memory.
        :param misses: templates whose features had to be computed.
        """
        with self._lock:
            self._counts.update(frames=frames, poses=poses, detections=detections, cache_hits=hits,
                                cache_misses=misses)

    def follow(self, instances: int, poses: int, lost: Iterable[str]) -> None:
        """Count what was followed through an image.

        :param poses: that were found without a detection.
        :param lost: why each instance that was given up was.
        """
        with self._lock:
            self.followed_now = instances
            self._counts['followed'] += poses
            for reason in lost:
                self._counts['lost'] += 1
                self._counts[f'lost {reason}'] += 1

    def depth(self, fits: Iterable[tuple[str, float]]) -> None:
        """Count what depth did for poses.

        :param fits: for each pose one of ``DEPTH_USES`` and its residual [m].
        """
        with self._lock:
            for used, residual_m in fits:
                self._counts[f'depth_{used}'] += 1
                if used != 'none':
                    self._residuals_m.append(residual_m)

    def plane(self, stands: Iterable[bool], *, found: bool) -> None:
        """Count which poses of a frame a plane has corrected.

        :param found: whether it is the one that objects stand on together, not a known one.
        """
        name = 'plane_found' if found else 'plane_stands'
        with self._lock:
            self._counts.update(name if one else 'plane_left' for one in stands)

    def depth_residual_m(self) -> float | None:
        """Return the median residual of the last corrected poses, None without any."""
        with self._lock:
            return statistics.median(self._residuals_m) if self._residuals_m else None

    def reasons(self) -> dict[str, str]:
        """Return the last message of each reason that had one."""
        with self._lock:
            return dict(self._last_message)

    def counts(self) -> dict[str, int]:
        """Return all counts that are not zero."""
        with self._lock:
            return {name: count for name, count in self._counts.items() if count}

    def summary(self) -> str:
        """Return one line for the log."""
        counts = self.counts()
        drops = [f'{reason} {counts[reason]}' for reason in _REASONS if reason in counts]
        return (f'answered {counts.get("frames", 0)} frames with {counts.get("poses", 0)} poses; '
                f'dropped: {", ".join(drops) or "none"}')

    def news(self) -> str:
        """Return a line about drops that have doubled in number since they were told, else ''.

        Some drops are daily business, and a log of weeks has no room for each.
        """
        with self._lock:
            news = [reason for reason in _REASONS if self._counts[reason] > 2 * self._told[reason]]
            self._told.update({r: self._counts[r] - self._told[r] for r in news})
            details = [f'{r}: {self._last_message[r]}' for r in news if r in self._last_message]
        return '\n  '.join([self.summary(), *details]) if news else ''


def shortened(text: str) -> str:
    """Return a text that fits into a log, its beginning and end kept."""
    half = MOST_TEXT // 2
    return text if len(text) <= MOST_TEXT else f'{text[:half]} ... {text[-half:]}'
