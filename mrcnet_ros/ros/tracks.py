"""Instances of objects from frame to frame: names that stay, poses that do not flip."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry.se3 import Array, displaced, displacement, inverse, moved_covariance
from ..inference.poses import PoseEstimate
from ..objects import ObjectModel
from .params import NodeParameters
from .remembered_ids import RememberedIds

# A pose that has turned further since the last frame is not smoothed.
JUMP_RAD = np.deg2rad(45.0)

# label and number of an instance
Key = tuple[str, int]


def instance_name(label: str, number: int) -> str:
    """Return ``<label>``, ``<label>_2``, ``<label>_3`` and so on."""
    return label if number == 1 else f'{label}_{number}'


def object_frame(prefix: str, name: str) -> str:
    """Return the frame of an instance in /tf, whose names have no slash in front."""
    return (prefix + name).lstrip('/')


@dataclass(frozen=True, eq=False)
class _Track:
    """Where an instance was last.

    :param T_world_centred: (4, 4) [m], the published pose in the centred frame.
    :param stays: whether it was at about the same place in the frame before.
    """

    stamp_ns: int
    T_world_centred: Array
    stays: bool


class Tracks:
    """Follows instances; used by one thread.

    An instance is recognised by its detection id, else by its place. It is followed until it is
    gone for longer than ``track_gap_s``, time runs backwards by more than that, or it moves at
    once by more than ``track_jump`` diameters; then it starts anew. A pose that is late by less
    gets the name of its instance and changes nothing; :meth:`names` is for late frames that only
    correct what is followed.

    Places are in a world in which the camera may move, see :meth:`camera_at`. They are those of
    the middles of objects. The origin of a mesh may lie far outside of it,
    where each small rotation would move it far.

    :param objects: by label.
    """

    def __init__(self, objects: Mapping[str, ObjectModel]) -> None:
        self._objects = objects
        self._numbers = InstanceNumbers(objects)
        self._tracks: dict[Key, _Track] = {}
        self._T_world_camera = np.eye(4)
        self._last_ns: int | None = None
        self._slow = False
        # Time to the last frame from the one before [s], where it is too long to recognise
        # instances, and not for the first time: that was a pause. Otherwise 0.
        self.gap_s = 0.0

    def camera_at(self, T_world_camera: Array) -> None:
        """Take note of where the camera is in the next frame, (4, 4) [m]; at first it rests."""
        self._T_world_camera = T_world_camera

    def update(self, stamp_ns: int, estimates: Sequence[PoseEstimate], parameters: NodeParameters,
               keys: Sequence[str] = (), others: Collection[str] = ()
               ) -> tuple[list[str], list[PoseEstimate]]:
        """Return names, all different, and poses of the instances of a frame.

        :param estimates: of the frame, in the order of detection.
        :param keys: of the estimates, identity of a followed instance, '' for others.
        :param others: identities of followed instances without a pose here; they keep their names.
        """
        gap_ns = parameters.track_gap_s * 1e9
        self._watch_gap(stamp_ns, gap_ns)
        self._tracks = {key: track for key, track in self._tracks.items()
                        if abs(stamp_ns - track.stamp_ns) <= gap_ns}
        numbers = self._assigned(estimates, parameters, keys, others)
        joined = []
        for estimate, number in zip(estimates, numbers, strict=True):
            key = estimate.label, number
            last = self._tracks.get(key)
            if last is not None and stamp_ns < last.stamp_ns:  # a late frame changes no track
                joined.append(estimate)
                continue
            pose = self._joined(last, stamp_ns, estimate, parameters)
            T_centred = self._centred(pose)
            stays = last is not None and not self._has_jumped(
                last, T_centred, estimate.label, parameters)
            self._tracks[key] = _Track(stamp_ns, self._T_world_camera @ T_centred, stays)
            joined.append(pose)
        return _names(estimates, numbers), joined

    def _watch_gap(self, stamp_ns: int, gap_ns: float) -> None:
        """Note whether frames come so slowly that no instance is recognised in the next one."""
        passed_ns = 0 if self._last_ns is None else stamp_ns - self._last_ns
        slow = passed_ns > gap_ns
        self.gap_s = passed_ns * 1e-9 if slow and self._slow and self._tracks else 0.0
        self._slow, self._last_ns = slow, stamp_ns

    def names(self, estimates: Sequence[PoseEstimate], parameters: NodeParameters,
              keys: Sequence[str] = (), others: Collection[str] = ()) -> list[str]:
        """Return names, all different, of the instances of a late frame.

        Nothing changes, but that a followed instance without a name keeps the one it gets here.

        :param estimates: of the frame, in the order of detection.
        :param keys: of the estimates, identity of a followed instance, '' for others.
        :param others: identities of followed instances without a pose here; they keep their names.
        """
        return _names(estimates, self._assigned(
            estimates, parameters, keys, others, late=True))

    def _assigned(self, estimates: Sequence[PoseEstimate], parameters: NodeParameters,
                  keys: Sequence[str], others: Collection[str], *, late: bool = False
                  ) -> list[int]:
        reach_m = {e.label: parameters.track_jump * self._objects[e.label].diameter_m
                   for e in estimates}
        places = {key: self._in_camera(track)[:3, 3] for key, track in self._tracks.items()}
        centred = [dataclasses.replace(e, T_camera_object=self._centred(e)) for e in estimates]
        held = {key for key, track in self._tracks.items() if track.stays}
        return self._numbers.assign(centred, places, reach_m, keys, others, held=held, late=late,
                                    most=parameters.max_instances)

    def _in_camera(self, track: _Track) -> Array:
        """Return where the camera would see an instance now, (4, 4) [m], centred frame."""
        return inverse(self._T_world_camera) @ track.T_world_centred

    def _centred(self, estimate: PoseEstimate) -> Array:
        return self._objects[estimate.label].to_centred(estimate.T_camera_object)

    def forget_places(self) -> None:
        """Begin all tracks anew; ids keep their instances."""
        self._tracks = {}

    def _joined(self, last: _Track | None, stamp_ns: int, estimate: PoseEstimate,
                parameters: NodeParameters) -> PoseEstimate:
        """Return the pose that continues a track.

        Its covariance is that of the frame's own pose, also where that is smoothed.
        """
        T, model = estimate.T_camera_object, self._objects[estimate.label]
        covariance = estimate.covariance
        if last is None:
            return estimate
        before = self._in_camera(last)
        if parameters.stable_symmetry:
            T = model.real_symmetries.nearest(T[:3, :3], T[:3, 3], before[:3, :3])
            if covariance is not None:
                shift_m = T[:3, 3] - estimate.T_camera_object[:3, 3]
                covariance = moved_covariance(covariance, shift_m)
        T_centred = model.to_centred(T)
        if self._has_jumped(last, T_centred, estimate.label, parameters):
            return estimate
        if parameters.smoothing_s > 0.0:
            weight = 1.0 - np.exp((last.stamp_ns - stamp_ns) * 1e-9 / parameters.smoothing_s)
            T = model.from_centred(blend(before, T_centred, float(weight)))
        return dataclasses.replace(estimate, T_camera_object=T, covariance=covariance)

    def _has_jumped(self, last: _Track, T_centred: Array, label: str, parameters: NodeParameters
                    ) -> bool:
        """Tell whether an instance has moved at once farther than it can be followed."""
        moved_m = np.linalg.norm(T_centred[:3, 3] - self._in_camera(last)[:3, 3])
        return bool(moved_m > parameters.track_jump * self._objects[label].diameter_m)


def _names(estimates: Sequence[PoseEstimate], numbers: Sequence[int]) -> list[str]:
    return [instance_name(e.label, n) for e, n in zip(estimates, numbers, strict=True)]


def blend(T_old: Array, T_new: Array, weight: float) -> Array:
    """Return a pose between two, the new one when they differ by more than ``JUMP_RAD``.

    :param weight: 0 the old, 1 the new.
    :return: (4, 4).
    """
    motion = displacement(T_old, T_new)
    if np.linalg.norm(motion[3:]) > JUMP_RAD:
        return T_new
    return displaced(T_old, weight * motion)


class InstanceNumbers:
    """Numbers the instances of each label from 1.

    An instance that is followed keeps its number. One with a detection id gets the number it had
    before, when it is still free and the id has not come to the place of another one; others get
    that of the nearest place; the rest are numbered in the order of detection. They get no number
    that is held for a missing instance: it may be back in the next frame. But they do where no
    other instance of the label is recognised either, as when the only one or the camera has
    jumped, and where there can be no more instances. An id that several instances
    of a label have in a frame tells nothing, as when a detector writes the class there. A number
    that would give an instance the name of another object is left out.
    """

    def __init__(self, labels: Collection[str]) -> None:
        self._labels = labels
        self._known = RememberedIds[tuple[str, str], int]()

    def assign(self, estimates: Sequence[PoseEstimate], places: Mapping[Key, Array],
               reach_m: Mapping[str, float], keys: Sequence[str] = (),
               others: Collection[str] = (), *, held: Collection[Key] = (), late: bool = False,
               most: int = 0) -> list[int]:
        """Return the numbers of the instances of one frame, different for each label.

        :param estimates: poses of the centred frames.
        :param places: where the middles of instances were, (3,) [m] in the camera frame.
        :param reach_m: by label, how far from its place an instance can be.
        :param keys: of the estimates, which count more than ids and places; '' tells nothing.
        :param others: keys of followed instances that the frame lacks.
        :param held: labels and numbers that are kept for missing instances: of those that stayed
            at a place. What moves fast would leave a number behind in each frame.
        :param late: whether later frames are to know nothing of this one, but the numbers of
            followed instances that had none.
        :param most: largest number of instances of each label; 0: any.
        """
        numbers: dict[int, int] = {}
        taken: set[Key] = {(label, number) for key in others for label in self._labels
                           if (number := self._known.get((label, f'\0{key}')))}

        def take(index: int, number: int | None) -> None:
            if number is None or index in numbers:
                return
            key = estimates[index].label, number
            if key not in taken:
                numbers[index] = number
                taken.add(key)

        followed = {i: (estimates[i].label, f'\0{key}') for i, key in enumerate(keys) if key}
        for index, identity in followed.items():
            take(index, self._known.get(identity))
        identities = _identities(estimates)
        for index, identity in identities.items():
            number = self._known.get(identity)
            if not _is_another_place(estimates[index], number, places, reach_m):
                take(index, number)
        for index, number in _nearest_first(estimates, places, reach_m):
            take(index, number)
        recognised = {estimates[index].label for index in numbers}
        kept = taken.union(held)
        known_of = Counter(label for label, _ in kept)
        for index, estimate in enumerate(estimates):
            if index in numbers:
                continue
            label = estimate.label
            full = most and known_of[label] >= most
            avoided = kept if label in recognised and not full else taken
            number = next(self._free(label, avoided))
            take(index, number)
            known_of[label] += (label, number) not in kept
            kept.add((label, number))
        known = {identity: numbers[index] for index, identity in [
            *identities.items(), *followed.items()]}
        if not late:
            self._known.see(known)
        else:
            for index, identity in followed.items():
                self._known.add(identity, numbers[index])
        return [numbers[index] for index in range(len(estimates))]

    def _free(self, label: str, avoided: Collection[Key]) -> Iterator[int]:
        """Yield the numbers that a new instance may have."""
        for number in itertools.count(1):
            if (label, number) not in avoided and (
                    number == 1 or instance_name(label, number) not in self._labels):
                yield number


def _identities(estimates: Sequence[PoseEstimate]) -> dict[int, tuple[str, str]]:
    """Return label and detection id by index, where the frame has them once."""
    named = {i: (e.label, e.detection_id) for i, e in enumerate(estimates) if e.detection_id}
    times = Counter(named.values())
    return {index: identity for index, identity in named.items() if times[identity] == 1}


def _is_another_place(estimate: PoseEstimate, number: int | None, places: Mapping[Key, Array],
                      reach_m: Mapping[str, float]) -> bool:
    """Tell whether an id that was that of one instance has come to the place of another one.

    A detector may number the boxes of each image; two that change their order have not changed
    their places.
    """
    away_m = {key: float(np.linalg.norm(estimate.T_camera_object[:3, 3] - place))
              for key, place in places.items() if key[0] == estimate.label}
    own_m = away_m.pop((estimate.label, number), None) if number is not None else None
    return own_m is not None and bool(away_m) and (
        own_m - min(away_m.values()) > reach_m[estimate.label] / 2)


def _nearest_first(estimates: Sequence[PoseEstimate], places: Mapping[Key, Array],
                   reach_m: Mapping[str, float]) -> list[tuple[int, int]]:
    """Return indices of estimates and numbers of places within reach, the closest pair first."""
    if not estimates or not places:
        return []
    keys = sorted(places)
    t = np.array([e.T_camera_object[:3, 3] for e in estimates])
    distances_m = np.linalg.norm(t[:, None] - [places[key] for key in keys], axis=2)
    same = np.array([[e.label == label for label, _ in keys] for e in estimates])
    within = distances_m <= np.array([[reach_m[e.label]] for e in estimates])
    rows, columns = np.nonzero(same & within)
    order = np.argsort(distances_m[rows, columns], kind='stable')
    return [(int(rows[i]), keys[columns[i]][1]) for i in order]
