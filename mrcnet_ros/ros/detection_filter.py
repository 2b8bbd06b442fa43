"""Which detections are estimated and which poses are published; the others are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..inference.detection_choice import Choice, candidates
from ..inference.poses import Detection, FrameResult, PoseEstimate
from ..objects import ObjectModel
from .box_watch import BoxWatch
from .detection_reading import DetectionSettings, detections_from_message, label_hint
from .detection_watch import DetectionWatch, ScoreWatch
from .diagnostics import Problem
from .drop_counters import DropCounters
from .message_types import DetectionsMessage
from .params import NodeParameters


class DetectionFilter:
    """Leaves out what cannot be used or is not wanted; used by one thread.

    :param drops: counts what is left out.
    :param objects: those of the model, by label.
    :param own_detector: whether the node finds the objects itself, in pixels of the image.
    """

    def __init__(self, drops: DropCounters, objects: Mapping[str, ObjectModel], *,
                 own_detector: bool, probable: bool = False) -> None:
        self._drops, self._objects, self._own_detector = drops, objects, own_detector
        self._box_watch, self._score_watch = BoxWatch(), ScoreWatch() if probable else None
        self._detection_watch = DetectionWatch()

    def doubts(self) -> list[Problem]:
        """Return what looks wrong of recent boxes and poses; may be asked by another thread."""
        watches = self._box_watch, self._score_watch
        found = [watch.problem() for watch in watches if watch is not None]
        return [*(problem for problem in found if problem is not None),
                *self._detection_watch.problems()]

    def detections(self, message: DetectionsMessage, image_size: tuple[int, int],
                   parameters: NodeParameters) -> list[Detection]:
        good = []
        settings = parameters.reading() if not self._own_detector else DetectionSettings()
        detections, unlabelled = detections_from_message(
            message, settings, known=self._objects, image_size=image_size)
        if not self._own_detector:
            self._box_watch.see(
                [d.box_xyxy for d in detections if np.isfinite(d.box_xyxy).all()],
                image_size, settings, nameless=not message.header.frame_id)
        for detection in detections:
            if not np.isfinite([*detection.box_xyxy, detection.score]).all():
                self._drops.drop(
                    'non_finite', f'detection of {detection.label!r} is not finite, or its theta '
                                  'is beyond a full turn; theta is in radians')
            elif detection.score < parameters.min_detection_score:
                self._drops.drop('low_score', f'{detection.label!r} has score {detection.score}')
            else:
                good.append(detection)
        self._detection_watch.see([d for d in good if d.label in self._objects])
        self._drops.drop('no_label', 'a detection without results', unlabelled)
        kept = candidates(good, self.most(parameters) or {})
        self._outranked(len(good) - len(kept))
        return self._best([good[i] for i in kept], parameters.max_detections,
                          self.most(parameters))

    def most(self, parameters: NodeParameters) -> dict[str, int] | None:
        """Return how often each known object is there at most; None for any number."""
        most = parameters.max_instances
        return dict.fromkeys(self._objects, most) if most else None

    def _outranked(self, count: int) -> None:
        self._drops.drop('outranked', 'more detections of an object than max_instances; those '
                                      'with the best scores count', count)

    def _best(self, detections: list[Detection], most: int, instances: Mapping[str, int] | None
              ) -> list[Detection]:
        """Leave out boxes of known objects beyond a number, those with the lowest scores.

        :param instances: how often each object is there at most; boxes beyond them go first, and
            are outranked, not too many.
        """
        known = [i for i, d in enumerate(detections) if d.label in self._objects]
        if len(known) <= most:
            return detections
        first = set(Choice(detections, instances or {}, self._objects).first()) & set(known)
        known.sort(key=lambda i: (i not in first, -detections[i].score))
        left_out = set(known[most:])
        self._drops.drop('too_many', f'{len(first)} boxes of known objects in a frame; '
                                     f'max_detections is {most}', len(left_out & first))
        self._outranked(len(left_out - first))
        return [d for i, d in enumerate(detections) if i not in left_out]

    def tell_skipped(self, result: FrameResult, detections: list[Detection]) -> None:
        for skipped in result.skipped:
            if skipped.reason == 'outranked':
                self._outranked(1)
                continue
            text = skipped.message
            if skipped.reason == 'unknown_label':
                label = detections[skipped.detection_index].label
                text += f'; {label_hint(label, self._objects)}'
            self._drops.drop(skipped.reason, text)

    def good_poses(self, result: FrameResult, parameters: NodeParameters) -> list[PoseEstimate]:
        min_score = parameters.min_pose_score
        finite = [p for p in result.poses
                  if np.isfinite(p.T_camera_object).all() and np.isfinite(p.score)]
        self._drops.drop('non_finite', 'an estimated pose is not finite',
                         len(result.poses) - len(finite))
        for poor in (p for p in finite if p.score < min_score):
            self._drops.drop(
                'low_pose_score', f'the pose of {poor.label!r} has score {poor.score:.2g}')
        good = [p for p in finite if p.score >= min_score]
        if self._score_watch is not None:
            self._score_watch.see([p.presence for p in good])
        return good

    def see_answers(self, poses: Sequence[PoseEstimate]) -> None:
        """Note the poses that are published of the detections of a frame."""
        self._detection_watch.see_answers(poses)
