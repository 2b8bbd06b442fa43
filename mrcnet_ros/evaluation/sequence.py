"""How well instances are followed through a sequence, compared with an estimate in each image."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..datasets.bop import MIN_VISIBLE_FRACTION, BopFrame, GroundTruth
from ..datasets.bop_scene import BopScene
from ..datasets.boxes import BoxSpec, TargetBox, target_boxes
from ..errors import DatasetError, SpecError
from ..geometry.se3 import Array, inverse
from ..inference.followed import Followed, Lost, TrackLimits, View
from ..inference.poses import Detection, Estimator, PoseEstimate
from ..inference.tracking import Follows, Tracker
from .sequence_figures import SequenceError, SequenceRow, sequence_error
from .withdrawals import Withdrawals

# Of a sequence; milliseconds at 30 Hz are 33 apart.
LONGEST_GAP_S = 10.0
# Detectors rarely find an object of which less is visible.
DETECTABLE = 0.3
PER_IMAGE, FOLLOWED = 'in each image', 'followed'


@dataclass(frozen=True, eq=False)
class Step:
    """One image of a sequence.

    :param time_s: when it was taken.
    :param T_fixed_camera: (4, 4) [m]; the identity where the dataset does not tell.
    """

    frame: BopFrame
    time_s: float
    T_fixed_camera: Array


def steps_in_time(frames: Iterable[BopFrame]) -> list[Step]:
    """Return the images of a dataset as steps in time, scene after scene.

    :param frames: in the order of scenes and images.
    :raises DatasetError: when an image has no timestamp or one that is not after the last, or the
        images of a scene do not list the same instances.
    """
    found: list[Step] = []
    scene: BopScene | None = None
    for frame in frames:
        before = found[-1] if found and found[-1].frame.scene_id == frame.scene_id else None
        if scene is None or before is None:
            scene = BopScene(frame.image_path.parents[1], None)
        time_s, T = scene.timestamp_s(frame.image_id), scene.T_camera_world(frame.image_id)
        if time_s is None:
            raise DatasetError(f'{scene.camera_path}: image {frame.image_id} has no timestamp; '
                               'give a sequence, such as one made by mrcnet synth --sequence')
        if before is not None:
            _check_order(scene, before, frame, time_s)
        found.append(Step(frame, time_s, np.eye(4) if T is None else inverse(T)))
    return found


def _check_order(scene: BopScene, before: Step, frame: BopFrame, time_s: float) -> None:
    if time_s <= before.time_s:
        raise DatasetError(f'{scene.camera_path}: image {frame.image_id} has timestamp '
                           f'{time_s:g}, which is not after {before.time_s:g} of image '
                           f'{before.frame.image_id}; number the images in the order of time')
    if time_s - before.time_s > LONGEST_GAP_S:
        raise DatasetError(f'{scene.camera_path}: image {frame.image_id} is '
                           f'{time_s - before.time_s:g} s after image {before.frame.image_id}; '
                           'timestamps are in seconds, and those of a sequence at most '
                           f'{LONGEST_GAP_S:g} s apart')
    first, second = ([g.object_id for g in f.ground_truth] for f in (before.frame, frame))
    if first != second:
        raise DatasetError(f'{scene.gt_path}: image {frame.image_id} lists the objects {second}, '
                           f'image {before.frame.image_id} {first}; each image of a sequence must '
                           'list the same instances in the same order, also hidden ones')


class FollowingEstimator(Estimator, Follows, Protocol):
    """An estimator that answers detections and also follows."""


@dataclass(eq=False)
class _Traced:
    """An instance that is followed, as the truth has it.

    :param instance: of the ground truth, that its poses are of.
    :param gone: whether it was hidden or its pose wrong since its last good pose.
    """

    instance: int
    gone: bool


@dataclass(frozen=True, eq=False)
class _Detected:
    """The answers to the detections of an image."""

    view: View
    frame: BopFrame
    poses: Sequence[PoseEstimate]
    targets: Sequence[TargetBox]


@dataclass(eq=False)
class _Scene:
    """What is followed in a scene.

    :param recent: the last images, as many as answers to detections are late.
    :param waiting: answers that have not come yet, with the position of the image that they come
        after.
    :param traced: by number of track.
    :param position: of the next image, from 0.
    """

    scene_id: int
    tracker: Tracker
    recent: deque[View]
    waiting: deque[tuple[int, _Detected]] = field(default_factory=deque)
    traced: dict[int, _Traced] = field(default_factory=dict)
    position: int = 0

    def instances(self) -> dict[int, int]:
        """Return the instances that are followed, by number of track."""
        return {number: traced.instance for number, traced in self.traced.items()}


class SequenceScores:
    """Follows instances through sequences and compares with an estimate in every image.

    Detections are boxes of the ground truth. The tracker gets those of every ``every``-th image
    of a scene; the figures are of the images between.

    :param every: images from one with detections to the next, at least 2.
    :param late: how many images later the tracker gets detections than their image.
    :raises SpecError: when there would be no image to follow in.
    """

    def __init__(self, estimator: FollowingEstimator, boxes: BoxSpec, every: int,
                 limits: TrackLimits | None = None, late: int = 0) -> None:
        if every < 2:
            raise SpecError(f'with detections in every image nothing is followed; give --every 2 '
                            f'or more, got {every}')
        self._estimator, self._boxes, self._every, self._late = estimator, boxes, every, late
        self._limits = TrackLimits() if limits is None else limits
        self._labels = {item.object_id: label for label, item in estimator.objects.items()}
        self._scene: _Scene | None = None
        self._rows = {PER_IMAGE: SequenceRow(), FOLLOWED: SequenceRow()}
        self._losses: dict[str, Counter[str]] = {}
        self._images = self._visible = self._switches = self._of_hidden = 0
        self._withdrawals = Withdrawals()

    def add(self, step: Step) -> None:
        """Estimate and follow in the next image.

        :raises MrcnetError: when the image cannot be read.
        """
        frame, scene = step.frame, self._scene_of(step.frame.scene_id)
        view = View(frame.load_image(), frame.camera, step.time_s, step.T_fixed_camera)
        targets = self._targets(frame)
        start_s = time.process_time()
        result = self._estimator.estimate(view.image_rgb, view.camera, [
            Detection(self._labels[t.ground_truth.object_id], t.box_xyxy) for t in targets])
        estimate_s = time.process_time() - start_s
        detected, before = scene.position % self._every == 0, scene.instances()
        if detected:
            scene.waiting.append((scene.position + self._late,
                                  _Detected(view, frame, result.poses, targets)))
        if not self._late:
            self._observe_what_came(scene)
        start_s = time.process_time()
        followed = scene.tracker.follow(view, self._limits)
        follow_s = time.process_time() - start_s
        found = self._trace(scene, frame, followed)
        scene.recent.append(view)
        if self._late and self._observe_what_came(scene):
            for since in scene.recent:  # what is new catches up
                self._lose(scene, scene.tracker.follow(since, self._limits).lost)
        scene.position += 1
        gone = {g.instance for g in frame.ground_truth if not g.visible_fraction}
        self._withdrawals.see(step.time_s, gone, before, scene.instances(), followed.tracks)
        if not detected:
            own = {targets[p.detection_index].ground_truth.instance:
                   self._error(p, targets[p.detection_index].ground_truth) for p in result.poses}
            visible = {t.ground_truth.instance for t in targets}
            self._rows[PER_IMAGE].add(result, own, visible, estimate_s)
            self._rows[FOLLOWED].add(followed.result, found, visible, follow_s)
            self._compare(frame, own, found, visible)

    def _scene_of(self, scene_id: int) -> _Scene:
        """Return the scene of an image, a new one where it is the first image of a scene."""
        if self._scene is None or self._scene.scene_id != scene_id:
            self._scene = _Scene(scene_id, Tracker(self._estimator), deque(maxlen=self._late))
            self._withdrawals.begin_scene()
        return self._scene

    def _compare(self, frame: BopFrame, own: Mapping[int, SequenceError],
                 found: Mapping[int, SequenceError], visible: set[int]) -> None:
        """Keep the errors of instances that both ways have a pose of."""
        self._images += 1
        self._visible += len(visible)
        self._of_hidden += sum(g.visible_fraction < MIN_VISIBLE_FRACTION and g.instance in found
                               for g in frame.ground_truth)
        for instance in sorted(set(own) & set(found) & visible):
            self._rows[PER_IMAGE].compared.append(own[instance])
            self._rows[FOLLOWED].compared.append(found[instance])

    def figures(self) -> dict[str, Any]:
        """Return all figures of the images so far.

        Of the losses, ``right`` are those of instances that were hidden, or whose pose was wrong.
        """
        return {
            'every': self._every, 'late': self._late,
            'images': self._images, 'visible': self._visible,
            'compared': len(self._rows[FOLLOWED].compared),
            'rows': {n: row.figures(self._images, self._visible)
                     for n, row in self._rows.items()},
            'losses': {reason: {'right': n['right'], 'needless': n['needless']}
                       for reason, n in sorted(self._losses.items())},
            'id_switches': self._switches, 'poses_of_hidden': self._of_hidden,
            'withdrawals': {**self._withdrawals.figures(), 'visible_given_up': sum(
                n['needless'] for n in self._losses.values())}}

    def _targets(self, frame: BopFrame) -> list[TargetBox]:
        return [t for t in target_boxes(frame, self._boxes)
                if t.ground_truth.object_id in self._labels
                and t.ground_truth.visible_fraction >= DETECTABLE]

    def _error(self, pose: PoseEstimate, truth: GroundTruth) -> SequenceError:
        return sequence_error(pose.T_camera_object, truth.T_camera_object,
                              self._estimator.objects[pose.label])

    def _observe_what_came(self, scene: _Scene) -> bool:
        """Give the tracker the answers to detections that have come, and tell whether any have."""
        if not scene.waiting or scene.waiting[0][0] > scene.position:
            return False
        came = scene.waiting.popleft()[1]
        numbers, lost = scene.tracker.observe(came.view, came.poses, self._limits)
        for number, pose in zip(numbers, came.poses, strict=True):
            if number is None or not self._limits.are_met(pose):
                continue
            instance = came.targets[pose.detection_index].ground_truth.instance
            traced = scene.traced.setdefault(number, _Traced(instance, False))
            traced.gone = self._at(traced, pose, came.frame).wrong
        self._lose(scene, lost)
        return True

    def _trace(self, scene: _Scene, frame: BopFrame, followed: Followed
               ) -> dict[int, SequenceError]:
        """Return the errors of poses by instance, and note what happened to the others."""
        found = {}
        for number, pose in zip(followed.tracks, followed.poses, strict=True):
            traced = scene.traced[number]
            error = self._at(traced, pose, frame)
            found[traced.instance], traced.gone = error, error.wrong
        hidden = {g.instance for g in frame.ground_truth
                  if g.visible_fraction < MIN_VISIBLE_FRACTION}
        for number, traced in scene.traced.items():
            if number not in followed.tracks and traced.instance in hidden:
                traced.gone = True
        self._lose(scene, followed.lost)
        return found

    def _at(self, traced: _Traced, pose: PoseEstimate, frame: BopFrame) -> SequenceError:
        """Return the error of a pose, after noting whether it is at another instance now."""
        of = {g.instance: self._error(pose, g) for g in frame.ground_truth
              if g.object_id == pose.object_id}
        nearest = min(of, key=lambda i: of[i].position_percent)
        if of[traced.instance].wrong and not of[nearest].wrong:
            self._switches += 1
            traced.instance = nearest
        return of[traced.instance]

    def _lose(self, scene: _Scene, lost: Sequence[Lost]) -> None:
        for loss in lost:
            kind = 'right' if scene.traced.pop(loss.track).gone else 'needless'
            self._losses.setdefault(loss.reason, Counter())[kind] += 1
