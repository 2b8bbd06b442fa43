"""One pose on which several frames agree; no topics here."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UnknownLabelError
from ..geometry.se3 import Array, exp_so3, log_so3, make_transform, moved_covariance
from ..inference.poses import PoseEstimate
from ..objects import ObjectModel
from .params import NodeParameters
from .tracks import instance_name

_MEAN_STEPS = 10  # of the mean rotation; it converges in a few for poses near one another


@dataclass(frozen=True, eq=False)
class Spread:
    """How far poses lie apart.

    :param T_mean: (4, 4) [m] their mean.
    :param covariance: (6, 6) of position [m] and rotation vector [rad], both along the axes of
        the frame that the poses are in.
    :param position_m: largest distance from the mean.
    :param rotation_rad: largest angle from the mean.
    """

    T_mean: Array
    covariance: Array
    position_m: float
    rotation_rad: float


def spread(T: Array) -> Spread:
    """Return mean and spread of poses.

    :param T: (N, 4, 4) [m], N >= 2, rotations less than half a turn apart.
    """
    R_mean = T[0, :3, :3]
    for _ in range(_MEAN_STEPS):
        R_mean = R_mean @ exp_so3(log_so3(R_mean.T @ T[:, :3, :3]).mean(axis=0))
    t_mean = T[:, :3, 3].mean(axis=0)
    offsets = np.hstack([T[:, :3, 3] - t_mean, log_so3(T[:, :3, :3] @ R_mean.T)])
    return Spread(
        make_transform(R_mean, t_mean), offsets.T @ offsets / (len(T) - 1),
        float(np.linalg.norm(offsets[:, :3], axis=1).max()),
        float(np.linalg.norm(offsets[:, 3:], axis=1).max()))


@dataclass(frozen=True, eq=False)
class Confirmed:
    """An instance on whose pose several frames agree.

    :param name: of the instance, as in /tf.
    :param estimate: of the newest frame, but with the mean pose. Its covariance is the one of the
        newest frame plus the spread, None if the model is not calibrated.
    :param spread: of the poses in the centred frame of the object.
    """

    name: str
    estimate: PoseEstimate
    spread: Spread


class Confirmation:
    """Looks for an instance whose poses agree in as many frames in a row as are wanted.

    Positions are those of the middle of the object. The origin of a mesh may lie far outside of
    it, where each small rotation would move it far. Equivalent poses of a symmetric object agree.
    A frame without the instance, or with a score of it below ``confirm_min_score``, does not
    count, and frames of one stamp count once; a gap longer than ``track_gap_s``, or time that runs
    backwards, begins anew.

    :param wanted: label for any of its instances, or name of an instance.
    :param not_before_ns: frames with an earlier stamp do not count.
    :param objects: by label.
    :param exactly: whether a label means its first instance only, whose name it is.
    :raises UnknownLabelError: when there is no such object.
    """

    def __init__(self, wanted: str, not_before_ns: int, objects: Mapping[str, ObjectModel], *,
                 exactly: bool = False) -> None:
        self._wanted, self._not_before_ns, self._exactly = wanted, not_before_ns, exactly
        label = label_of(wanted, objects)
        if not label:
            raise UnknownLabelError(wanted, objects)
        self._model = objects[label]
        self._poses: dict[str, deque[tuple[int, Array]]] = {}
        self._frames, self._early, self._nearest = 0, 0, ''

    def see(self, stamp_ns: int, names: Sequence[str], estimates: Sequence[PoseEstimate],
            parameters: NodeParameters) -> Confirmed | None:
        """Take in a frame.

        :param estimates: in the same order, with finite poses that have not been smoothed.
        :return: the instance with the best score of those that are confirmed by this frame.
        """
        if stamp_ns < self._not_before_ns:
            self._early += 1
            self._nearest = (f'{self._early} frames came with stamps before source_time, the last '
                             f'by {(self._not_before_ns - stamp_ns) * 1e-9:.3g} s')
            return None
        if not self._frames:
            self._nearest = ''
        self._frames += 1
        found = []
        for name, estimate in self._candidates(names, estimates):
            if estimate.score < parameters.confirm_min_score:
                self._nearest = (f'the last pose has score {estimate.score:.2g}, below '
                                 f'confirm_min_score, which is {parameters.confirm_min_score:g}')
                continue
            poses = self._joined(name, stamp_ns, estimate, parameters)
            if len(poses) < parameters.confirm_frames:
                continue
            apart = spread(self._model.to_centred(poses))
            self._nearest = (f'the last {len(poses)} poses lie up to {apart.position_m:.2g} m '
                             f'and {apart.rotation_rad:.2g} rad from their mean')
            if (apart.position_m <= parameters.confirm_spread_m
                    and apart.rotation_rad <= parameters.confirm_spread_rad):
                found.append(self._confirmed(name, estimate, poses[-1], apart))
        return max(found, key=lambda c: c.estimate.score, default=None)

    def _confirmed(self, name: str, estimate: PoseEstimate, T_newest: Array, apart: Spread
                   ) -> Confirmed:
        """Return the newest estimate with the mean pose and what is known of its errors.

        Frames of one scene err alike, so that their mean is no better than one of them: the
        covariance is that of a frame, and their spread on top. A spread alone has no full rank.

        :param T_newest: (4, 4) [m] the symmetric equivalent of the estimate that was averaged.
        """
        T, covariance = self._model.from_centred(apart.T_mean), estimate.covariance
        if covariance is not None:
            shift_m = T_newest[:3, 3] - estimate.T_camera_object[:3, 3]
            lever_m = T[:3, 3] - apart.T_mean[:3, 3]
            covariance = (moved_covariance(covariance, shift_m)
                          + moved_covariance(apart.covariance, lever_m))
        return Confirmed(name, dataclasses.replace(
            estimate, T_camera_object=T, covariance=covariance), apart)

    def account(self) -> str:
        """Return what was seen so far, for one who asks why that is not enough."""
        seen = max((len(poses) for poses in self._poses.values()), default=0)
        return self._nearest or f'{self._frames} frames came, and {seen} poses in a row'

    def _candidates(self, names: Sequence[str], estimates: Sequence[PoseEstimate]
                    ) -> Iterator[tuple[str, PoseEstimate]]:
        for name, estimate in zip(names, estimates, strict=True):
            any_counts = self._wanted == estimate.label and not self._exactly
            if estimate.label == self._model.label and (any_counts or name == self._wanted):
                yield name, estimate

    def _joined(self, name: str, stamp_ns: int, estimate: PoseEstimate, parameters: NodeParameters
                ) -> Array:
        """Return the recent poses of an instance, (N, 4, 4) [m], this one included."""
        poses = self._poses.setdefault(name, deque())
        gap_ns = parameters.track_gap_s * 1e9
        if poses and not 0 <= stamp_ns - poses[-1][0] <= gap_ns:
            self._nearest = (f'the last two poses are {(stamp_ns - poses[-1][0]) * 1e-9:.3g} s '
                             f'apart; track_gap_s is {parameters.track_gap_s:g}')
            poses.clear()
        if poses and stamp_ns == poses[-1][0]:  # the same image once more
            poses.pop()
        T = estimate.T_camera_object
        if poses:
            T = self._model.real_symmetries.nearest(T[:3, :3], T[:3, 3], poses[-1][1][:3, :3])
        poses.append((stamp_ns, T))
        while len(poses) > parameters.confirm_frames:
            poses.popleft()
        return np.stack([T for _, T in poses])


def label_of(wanted: str, known: Collection[str]) -> str:
    """Return the label of what is a known label or the name of an instance of one, else ''."""
    if wanted in known:
        return wanted
    label, _, number = wanted.rpartition('_')
    named = (label in known and number.isdecimal() and int(number) > 1
             and wanted == instance_name(label, int(number)))
    return label if named else ''
