"""Follows instances from image to image, between the frames that a detector has looked at."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array, inverse, moved_covariance
from ..objects import ObjectModel
from .detection_choice import contested, same_place
from .followed import Followed, Lost, Track, TrackLimits, View
from .known_start import KnownPose
from .motion import ACCELERATION_RAD_S2, Motion
from .poses import FrameResult, PoseEstimate

# An answer that is farther from the expected pose than this is rejected [standard deviations].
GATE = 5.0
# Added to the covariances, which do not contain sudden motion and the largest errors.
GATE_DIAMETERS, GATE_RAD = 0.05, np.radians(6.0)
# Deviations of a pose if the model has no covariance model.
UNKNOWN_DIAMETERS, UNKNOWN_RAD = 0.05, 0.15
# A detection belongs to an instance if its pose is this near to the expected one, or farther along
# the ray in the same place.
SAME_DIAMETERS = 0.6


class Follows(Protocol):
    """What is needed of :class:`.estimator.PoseEstimator`."""

    @property
    def objects(self) -> Mapping[str, ObjectModel]:
        """Return the known objects by label."""

    def follow(self, image_rgb: NDArray[np.uint8], camera: Camera, starts: Sequence[KnownPose],
               depth_m: NDArray[np.float32] | None = None,
               support_plane: Array | None = None) -> FrameResult:
        """Return the poses of objects that are expected at about known poses."""


class Tracker:
    """Follows instances that were answered well; used by one thread.

    Times only grow, but for :meth:`observe`, which also takes what a slow detector found in an
    earlier image: :meth:`follow` then catches up with such instances, best in a few images of the
    time between.
    """

    def __init__(self, estimator: Follows) -> None:
        self._estimator = estimator
        self._tracks: dict[int, Track] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._tracks)

    def __contains__(self, number: object) -> bool:
        return number in self._tracks

    def __iter__(self) -> Iterator[int]:
        return iter(self._tracks)

    def clear(self) -> None:
        """Follow nothing any more."""
        self._tracks.clear()

    def pause(self) -> list[Lost]:
        """Give up all instances, because no image was looked at for too long.

        They may have moved anywhere since, so that an answer far from where they were would count.
        """
        return [self._drop(track, 'gap') for track in list(self._tracks.values())]

    def behind(self, time_s: float) -> bool:
        """Tell whether an instance has not been looked for in the image of a time."""
        return any(track.motion.time_s < time_s for track in self._tracks.values())

    def observe(self, view: View, estimates: Sequence[PoseEstimate], limits: TrackLimits,
                ) -> tuple[list[int | None], list[Lost]]:
        """Take over the answers to the detections of an image, which may be an earlier one.

        An answer to an instance that is followed corrects it, unless it is far from where that
        was expected and scores less. What an answer of an earlier image corrects is corrected in
        all images since. Other answers begin to be followed. Where a label then has more
        instances than there can be, those that were detected last stay, and of these those with
        the best scores.

        :return: for each the number of its instance; None for one that is not followed, which is
            poor, the same object as a better one, or one too many. And what was given up. A poor
            answer has the number of the instance that its box is of, changes nothing, and is no
            sighting.
        """
        before = set(self._tracks)
        numbers: list[int | None] = [None] * len(estimates)
        good = [i for i in np.argsort([-e.presence for e in estimates], kind='stable')
                if limits.are_met(estimates[i])]
        T = {i: self._centred(estimates[i]) for i in good}
        good = self._distinct(good, estimates, T)
        for i, track in self._matches(good, estimates, T, view):
            numbers[i] = track.number
            self._confirm(track, view, estimates[i], T[i])
        for i in good:
            if numbers[i] is None and self._has_room(estimates[i].label, limits):
                numbers[i] = self._begin(view, estimates[i], T[i])
        seen = {number for number in numbers if number is not None}
        poor = [i for i, estimate in enumerate(estimates) if not limits.are_met(estimate)]
        for i, number in self._boxed(poor, estimates, view, seen):
            numbers[i] = number
        lost, surplus = self._unseen(view, seen, limits), self._surplus(limits)
        gone = {loss.track for loss in (*lost, *surplus)}
        lost += [loss for loss in surplus if loss.track in before]
        return [None if number in gone else number for number in numbers], lost

    def _has_room(self, label: str, limits: TrackLimits) -> bool:
        """Tell whether an instance may begin; one too many of a label replaces another one."""
        own = sum(track.label == label for track in self._tracks.values())
        return len(self._tracks) < limits.most or 0 < limits.instances <= own

    def _boxed(self, poor: Sequence[int], estimates: Sequence[PoseEstimate], view: View,
               seen: set[int]) -> list[tuple[int, int]]:
        """Return answers and instances whose middle is expected in their boxes, all different.

        :param seen: instances that have a good answer already.
        """
        T_camera_fixed, found = inverse(view.T_fixed_camera), dict[int, int]()
        for track in [t for t in self._tracks.values() if t.number not in seen] if poor else []:
            t = (T_camera_fixed @ track.at(view.time_s).T_fixed_object)[:3, 3]
            uv = view.camera.project(t) if t[2] > 0.0 else np.full(2, np.nan)
            for i in poor:
                low, high = estimates[i].box_xyxy[:2], estimates[i].box_xyxy[2:]
                if i not in found and estimates[i].label == track.label and (
                        (low <= uv) & (uv <= high)).all():
                    found[i] = track.number
                    break
        return list(found.items())

    def follow(self, view: View, limits: TrackLimits) -> Followed:
        """Look for the instances that have not been looked for in an image yet."""
        surplus = self._surplus(limits)
        tracks = [t for t in self._tracks.values() if t.motion.time_s < view.time_s]
        if not tracks:
            return Followed([], [], surplus, FrameResult([], []))
        T_camera_fixed = inverse(view.T_fixed_camera)
        expected = [track.motion.ahead(view.time_s) for track in tracks]
        starts = [KnownPose(t.label, self._object_frame(t.label, T_camera_fixed
                                                        @ m.T_fixed_object), t.detection_id,
                            t.detected.share, t.detected.spread)
                  for t, m in zip(tracks, expected, strict=True)]
        result = self._estimator.follow(view.image_rgb, view.camera, starts, view.depth_m,
                                        view.support_plane)
        answers: list[PoseEstimate | None] = [None] * len(tracks)
        for pose in result.poses:
            answers[pose.detection_index] = pose
        moved: dict[int, Motion] = {}
        for i, track in enumerate(tracks):
            motion, track.refused = self._judged(track, expected[i], answers[i], view, limits)
            if motion is not None:
                moved[track.number] = motion
        self._settle(tracks, expected, answers, moved, view)
        lost = surplus + self._give_up(tracks, moved, view, limits)
        return self._taken_over(tracks, expected, answers, moved, lost, result)

    def _taken_over(self, tracks: list[Track], expected: list[Motion],
                    answers: list[PoseEstimate | None], moved: Mapping[int, Motion],
                    lost: list[Lost], result: FrameResult) -> Followed:
        """Move the instances, those without an answer as they moved before."""
        poses: list[PoseEstimate] = []
        numbers: list[int] = []
        for i, track in enumerate(tracks):
            answer, motion = answers[i], moved.get(track.number)
            if answer is None or motion is None:
                track.motion = expected[i]
                continue
            track.go_on(motion, answer.presence)
            poses.append(dataclasses.replace(answer, detection_index=len(poses)))
            numbers.append(track.number)
        return Followed(poses, numbers, lost, result)

    def _judged(self, track: Track, expected: Motion, pose: PoseEstimate | None, view: View,
                limits: TrackLimits) -> tuple[Motion | None, str]:
        """Return the motion that an answer leads to, or why it does not count."""
        if pose is None:
            return None, 'outside'
        if not np.isfinite(pose.T_camera_object).all():
            return None, 'score'
        T, C = self._fixed(view, pose, self._centred(pose))
        turn_rad = float(np.linalg.norm(expected.innovation(T)[3:]))
        sudden_rad = 0.5 * ACCELERATION_RAD_S2 * (view.time_s - track.motion.time_s)**2
        turn_rad = max(turn_rad - sudden_rad, 0.0)
        if not limits.are_met_by_next(pose, track.best_presence, turn_rad):
            return None, 'score'
        if max(expected.surprises(T, self._loose(track.label, C))) > GATE:
            return None, 'gate'
        return expected.corrected(T, C), ''

    def _settle(self, tracks: list[Track], expected: list[Motion],
                answers: list[PoseEstimate | None], moved: dict[int, Motion], view: View) -> None:
        """Of instances of a label that have come to the same place leave one."""
        T_camera_fixed = inverse(view.T_fixed_camera)
        others = [t for t in self._tracks.values() if t not in tracks]
        labels = [t.label for t in tracks if t.number in moved] + [t.label for t in others]
        numbers = [t.number for t in tracks if t.number in moved]
        places, cost = [], []
        for i, track in enumerate(tracks):
            if track.number in moved:
                answer = answers[i]
                assert answer is not None
                T = self._centred(answer)
                places.append(T)
                before = T_camera_fixed @ expected[i].T_fixed_object
                cost.append((self._strayed(track.label, before, T), -answer.presence))
        places += [T_camera_fixed @ t.at(view.time_s).T_fixed_object for t in others]
        cost += [(0.0, -t.presence) for t in others]
        for loser in contested(labels, places, cost, self._estimator.objects):
            if loser < len(numbers):
                del moved[numbers[loser]]
                next(t for t in tracks if t.number == numbers[loser]).refused = 'contested'

    def _strayed(self, label: str, T_before: Array, T_after: Array) -> float:
        """Return how far an answer is from where it was expected, in tenths of a diameter."""
        diameter_m = self._estimator.objects[label].diameter_m
        return float(round(10.0 * np.linalg.norm(T_after[:3, 3] - T_before[:3, 3]) / diameter_m))

    def _distinct(self, good: list[int], estimates: Sequence[PoseEstimate],
                  T: Mapping[int, Array]) -> list[int]:
        """Leave out answers that are the same object as one with a better score."""
        rows = contested([estimates[i].label for i in good], [T[i] for i in good],
                         [(0.0, -estimates[i].presence) for i in good], self._estimator.objects)
        return [i for row, i in enumerate(good) if row not in rows]

    def _matches(self, good: list[int], estimates: Sequence[PoseEstimate],
                 T: Mapping[int, Array], view: View) -> list[tuple[int, Track]]:
        """Return answers and the instances that they are of, the nearest pairs first."""
        T_camera_fixed = inverse(view.T_fixed_camera)
        pairs = []
        for track in self._tracks.values():
            T_expected = T_camera_fixed @ track.at(view.time_s).T_fixed_object
            diameter_m = self._estimator.objects[track.label].diameter_m
            for i in good:
                if estimates[i].label == track.label:
                    apart_m = float(np.linalg.norm(T[i][:3, 3] - T_expected[:3, 3]))
                    if (apart_m <= SAME_DIAMETERS * diameter_m
                            or same_place(T[i], T_expected, diameter_m)):
                        pairs.append((apart_m, i, track.number))
        found: list[tuple[int, Track]] = []
        for _, i, number in sorted(pairs):
            if all(i != j and number != track.number for j, track in found):
                found.append((i, self._tracks[number]))
        return found

    def _confirm(self, track: Track, view: View, estimate: PoseEstimate, T: Array) -> None:
        """Correct an instance by the answer to a detection of it."""
        track.unseen, track.detection_id = 0, estimate.detection_id or track.detection_id
        track.seen_s = max(track.seen_s, view.time_s)
        expected = track.at(view.time_s)
        T_fixed, C = self._fixed(view, estimate, self._near(track.label, T, view, expected))
        far = max(expected.surprises(T_fixed, self._loose(track.label, C))) > GATE
        if estimate.presence > track.presence or not far:
            track.best_presence, track.detected = estimate.presence, estimate
        if far and estimate.presence > track.presence:
            track.go_on(Motion.begin(view.time_s, T_fixed, C), estimate.presence)
        elif not far and view.time_s > track.motion.time_s:
            track.go_on(expected.corrected(T_fixed, C), estimate.presence)
        elif not far:
            track.mend(expected, expected.corrected(T_fixed, C))

    def _begin(self, view: View, estimate: PoseEstimate, T: Array) -> int:
        T_fixed, C = self._fixed(view, estimate, T)
        motion, number = Motion.begin(view.time_s, T_fixed, C), next(self._numbers)
        track = Track(number, estimate.label, estimate.detection_id, motion, estimate.presence,
                      view.time_s, estimate.presence, view.time_s, estimate)
        track.history.append(motion)
        self._tracks[number] = track
        return number

    def _unseen(self, view: View, seen: set[int], limits: TrackLimits) -> list[Lost]:
        """Count instances that an image has no detection of, and give up those that are lost."""
        lost = []
        for track in [t for t in self._tracks.values() if t.number not in seen]:
            track.unseen += 1
            if limits.unseen and track.unseen >= limits.unseen:
                lost.append(self._drop(track, 'unseen'))
        return lost

    def _surplus(self, limits: TrackLimits) -> list[Lost]:
        """Give up instances beyond the largest number of their label, and of all.

        Detections may come out of order, so that one of an earlier image does not count more than
        one of a later image.
        """
        worst_first = sorted(self._tracks.values(), key=lambda t: (t.seen_s, t.presence))
        kept, counts = 0, Counter[str]()
        lost = []
        for track in reversed(worst_first):
            if kept < limits.most and not 0 < limits.instances <= counts[track.label]:
                kept += 1
                counts[track.label] += 1
            else:
                lost.append(self._drop(track, 'contested'))
        return lost

    def _give_up(self, tracks: list[Track], moved: Mapping[int, Motion], view: View,
                 limits: TrackLimits) -> list[Lost]:
        late = [t for t in tracks
                if t.number not in moved and view.time_s - t.found_s > limits.lost_s]
        return [self._drop(track, track.refused) for track in late]

    def _drop(self, track: Track, reason: str) -> Lost:
        del self._tracks[track.number]
        return Lost(track.number, track.label, reason)

    def _centred(self, pose: PoseEstimate) -> Array:
        T: Array = self._estimator.objects[pose.label].to_centred(pose.T_camera_object)
        return T

    def _object_frame(self, label: str, T_camera_centred: Array) -> Array:
        T: Array = self._estimator.objects[label].from_centred(T_camera_centred)
        return T

    def _near(self, label: str, T_camera_object: Array, view: View, expected: Motion) -> Array:
        """Return the equivalent of a pose that is nearest to the expected one."""
        R = (inverse(view.T_fixed_camera) @ expected.T_fixed_object)[:3, :3]
        item = self._estimator.objects[label].centred()
        nearest: Array = item.real_symmetries.nearest(
            T_camera_object[:3, :3], T_camera_object[:3, 3], R)
        return nearest

    def _fixed(self, view: View, pose: PoseEstimate, T_camera_object: Array
               ) -> tuple[Array, Array]:
        """Return a pose and its covariance in the fixed frame.

        :param T_camera_object: of the centred frame, or an equivalent of it.
        """
        C = pose.covariance  # one that is not finite would make the expected pose no pose
        if C is None or not np.isfinite(C).all():
            diameter_m = self._estimator.objects[pose.label].diameter_m
            C = np.diag([(UNKNOWN_DIAMETERS * diameter_m)**2] * 3 + [UNKNOWN_RAD**2] * 3)
        else:  # it is of the origin of the mesh
            C = moved_covariance(C, T_camera_object[:3, 3] - pose.T_camera_object[:3, 3])
        turn = np.kron(np.eye(2), view.T_fixed_camera[:3, :3])
        T: Array = view.T_fixed_camera @ T_camera_object
        return T, turn @ C @ turn.T

    def _loose(self, label: str, covariance: Array) -> Array:
        """Return a covariance with room for what it leaves out."""
        diameter_m = self._estimator.objects[label].diameter_m
        room: Array = np.diag([(GATE_DIAMETERS * diameter_m)**2] * 3 + [GATE_RAD**2] * 3)
        return covariance + room
