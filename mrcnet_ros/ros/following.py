"""Follows instances between detections, and decides what to publish."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from ..inference.followed import Followed, Lost, TrackLimits, View
from ..inference.poses import FrameResult, PoseEstimate, joined
from ..inference.tracking import Follows, Tracker
from .frames import Frame
from .messages import seconds
from .params import NodeParameters

# Images of the last second are kept: if a slow detector finds something in an earlier image, the
# node looks at this many of the images since.
KEPT_NS, CATCH_UP = 1_000_000_000, 6
MOST_KEPT = 40  # the images of one second at 30 Hz and some more; they bound the memory


@dataclass(frozen=True, eq=False)
class Instances:
    """What is to be published of one image.

    :param poses: of detected instances, then of those that were followed.
    :param keys: identity of each instance while it is followed; '' for one that is not.
    :param detected: how many were detected in this image.
    :param lost: instances that were given up.
    :param result: of the estimator, with the time that following took.
    :param others: identities of followed instances that have no pose here.
    """

    poses: list[PoseEstimate]
    keys: list[str]
    detected: int
    lost: list[Lost]
    result: FrameResult
    others: list[str] = field(default_factory=list)


class Following:
    """Follows the instances of one camera; used by one thread.

    :param late: whether :meth:`correct` will be used; only then images are kept.
    """

    def __init__(self, estimator: Follows, *, late: bool = True) -> None:
        self._late = late
        self.tracker = Tracker(estimator)
        self._recent: deque[Frame] = deque(maxlen=MOST_KEPT)
        self._lost_by_gap: list[Lost] = []  # and not told yet
        # until when images were looked at, or there was nothing to look for
        self._era, self._looked_s = -1, 0.0
        self._detected_ns: int | None = None
        self._found: tuple[float, dict[int, PoseEstimate]] = (0.0, {})

    def begin(self, frame: Frame, gap_s: float) -> None:
        """Take note of a frame; what was followed before time began anew is forgotten.

        :param gap_s: what was followed is lost if no image was looked at for longer.
        """
        era, stamp = frame.moment
        if era != self._era:
            self.tracker.clear()
            self._recent.clear()
            self._era, self._looked_s, self._detected_ns = era, seconds(stamp), None
        if seconds(stamp) - self._looked_s > gap_s:
            self._lost_by_gap += self.tracker.pause()
        if not self.tracker:
            self._looked_s = max(self._looked_s, seconds(stamp))
        while self._recent and self._recent[0].moment[1] < stamp - KEPT_NS:
            self._recent.popleft()
        if self._late and not any(kept.moment == frame.moment for kept in self._recent):
            self._recent.append(frame)

    def wants(self, stamp_ns: int) -> bool:
        """Tell whether an image without detections has something to look for or to take back."""
        return bool(self._lost_by_gap) or self.tracker.behind(seconds(stamp_ns))

    def detector_is_due(self, stamp_ns: int, rate_hz: float) -> bool:
        """Tell whether the node's own detector should look at an image.

        While nothing is followed, it looks at each.
        """
        before = self._detected_ns
        due = (not len(self.tracker) or before is None or stamp_ns < before
               or seconds(stamp_ns - before) * rate_hz > 0.999)
        if due:
            self._detected_ns = stamp_ns
        return due

    def answer(self, view: View, estimated: tuple[FrameResult, Sequence[PoseEstimate]] | None,
               limits: TrackLimits) -> Instances:
        """Return what to publish of an image.

        :param estimated: what the estimator says of the detections of the image, and which of
            its poses are good; None without detections.
        """
        if estimated is None:
            return self._join(Instances([], [], 0, [], FrameResult([], [])),
                              self._follow(view, limits, set()))
        result, good = estimated
        numbers, lost = self.tracker.observe(view, good, limits)
        followed = self._follow(view, limits, {
            number for pose, number in zip(good, numbers, strict=True)
            if number is not None and limits.are_met(pose)})
        kept = [(pose, number) for pose, number in zip(good, numbers, strict=True)
                if (not limits.are_met(pose) if number is None
                    else number not in followed.tracks)]
        kept = _allowed(kept, followed.poses, limits.instances)
        poses = [pose for pose, _ in kept]
        return self._join(Instances(poses, [_key(n) for _, n in kept], len(poses), lost, result),
                          followed)

    def _follow(self, view: View, limits: TrackLimits, detected: set[int]) -> Followed:
        """Look for instances; those that this image was answered with already are found again.

        The detections of an image may come just after it was answered.

        :param detected: instances with a good answer to a detection in this image.
        """
        followed = self.tracker.follow(view, limits)
        self._looked_s = max(self._looked_s, view.time_s)
        time_s, before = self._found
        again = {number: pose for number, pose in before.items() if time_s == view.time_s
                 and number in self.tracker and number not in detected}
        followed = replace(followed, poses=[*followed.poses, *again.values()],
                           tracks=[*followed.tracks, *again])
        self._found = view.time_s, dict(zip(followed.tracks, followed.poses, strict=True))
        return followed

    def correct(self, view: View, good: Sequence[PoseEstimate], limits: TrackLimits,
                look: Callable[[Frame], View | None], until: int) -> Instances:
        """Take over what a slow detector found in an earlier image, and catch up with it.

        :param look: makes a view of a frame.
        :param until: stamp of the newest image that was answered [ns].
        """
        numbers, lost = self.tracker.observe(view, good, limits)
        between = sorted((frame for frame in self._recent  # some came late themselves
                          if view.time_s < seconds(frame.moment[1]) <= seconds(until)),
                         key=attrgetter('moment'))
        step = max(1, -(-len(between) // CATCH_UP))
        for frame in between[::-1][::step][::-1]:
            if self.tracker.behind(seconds(frame.moment[1])):
                later = look(frame)
                if later is not None:
                    lost += self.tracker.follow(later, limits).lost
        keys = [_key(n) for n in numbers]
        return Instances(list(good), keys, len(good), lost, FrameResult([], []),
                         self._others(keys))

    def _others(self, keys: Sequence[str]) -> list[str]:
        return [key for key in map(_key, self.tracker) if key not in keys]

    def _join(self, own: Instances, followed: Followed) -> Instances:
        result = joined(own.result.poses, own.result.skipped, own.result, followed.result)
        keys = own.keys + [_key(n) for n in followed.tracks]
        lost, self._lost_by_gap = self._lost_by_gap, []
        return Instances(own.poses + followed.poses, keys, own.detected,
                         lost + own.lost + followed.lost, result, self._others(keys))


def limits_of(parameters: NodeParameters) -> TrackLimits:
    """Return when an instance counts as lost."""
    return TrackLimits(
        min_presence=parameters.track_min_score, min_score=parameters.min_pose_score,
        lost_s=parameters.track_lost_s, unseen=parameters.track_unseen,
        most=parameters.max_detections, instances=parameters.max_instances)


def _allowed(kept: list[tuple[PoseEstimate, int | None]], followed: Sequence[PoseEstimate],
             most: int) -> list[tuple[PoseEstimate, int | None]]:
    """Leave out answers to detections that are more than the instances that there can be.

    Those of no instance that is followed go first, then those that are there least surely.

    :param kept: with their instances.
    :param followed: poses of other instances in the same image.
    :param most: of each label, 0 for any number.
    """
    counts, surplus = Counter(pose.label for pose in followed), set()
    ranked = sorted(kept, key=lambda one: (one[1] is None, -one[0].presence))
    for pose, _ in ranked if most else ():
        counts[pose.label] += 1
        if counts[pose.label] > most:
            surplus.add(id(pose))
    return [one for one in kept if id(one[0]) not in surplus]


def _key(number: int | None) -> str:
    return '' if number is None else f'track {number}'
