"""Errors of poses in the terms of their covariance: across the ray, along it, and rotation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

from ..datasets.bop import BopFrame, GroundTruth, ResultRow
from ..errors import DatasetError
from ..geometry.se3 import Array, log_so3
from ..geometry.symmetry import Symmetries
from ..inference.poses import PoseEstimate
from ..inference.uncertainty import CovarianceLaw, PoseSpread, score_odds
from ..objects import ObjectModel
from .compared_object import ComparedObject
from .runner import Run

# Of several objects of a kind the truth of an estimate is the one whose ray is nearest, if the
# angle to it is below this part of the angle to the next: others are mistaken or in one line.
CLEARLY = 0.5


@dataclass(frozen=True, eq=False)
class PoseError:
    """The truth against an estimate.

    :param image: scene and image.
    :param t_error_m: (3,) from the estimated position to the true one, camera frame.
    :param rotation_error_rad: (3,) rotation vector about the camera's axes that turns the estimate
        into the nearest symmetric equivalent of the truth.
    :param seen: (3, 3) projection of rotation vectors about the camera's axes onto those that
        change how the object looks.
    """

    image: tuple[int, int]
    spread: PoseSpread
    t_error_m: Array
    rotation_error_rad: Array
    seen: Array

    @property
    def rotation_is_seen(self) -> bool:
        """Tell whether any rotation changes how the object looks."""
        return bool(np.trace(self.seen) > 0.5)


@dataclass(frozen=True, eq=False)
class SeenErrors:
    """Errors of which only a part can be seen.

    :param errors: (N, D).
    :param seen: (N, D, D) projection onto what can be seen.
    """

    errors: Array
    seen: Array

    @property
    def dimensions(self) -> Array:
        """Return in how many dimensions each error can be seen, (N,)."""
        return np.asarray(np.round(np.trace(self.seen, axis1=1, axis2=2)), np.float64)

    @property
    def sizes(self) -> Array:
        """Return the length of each error, (N,)."""
        return np.asarray(np.linalg.norm(self.errors, axis=1), np.float64)

    def squares(self, covariance: Array) -> tuple[Array, Array]:
        """Return squared Mahalanobis distances and logarithms of determinants, both (N,).

        :param covariance: (N, D, D); what cannot be seen of it does not count.
        """
        hidden = np.eye(self.seen.shape[-1]) - self.seen
        C = self.seen @ covariance @ self.seen + hidden
        solved = np.linalg.solve(C, self.errors[..., None])[..., 0]
        return np.einsum('nd,nd->n', self.errors, solved), np.linalg.slogdet(C)[1]

    def typical(self) -> float:
        """Return the median error in one dimension."""
        return float(np.median(self.sizes / np.sqrt(chi2.ppf(0.5, self.dimensions)))) + 1e-9


@dataclass(frozen=True, eq=False)
class GroupErrors(SeenErrors):
    """Errors of one group: across the ray [crop widths], along it [part of distance], rotation.

    :param name: of the group, as in the covariance model.
    :param spread: (N, D, D) of stage 1.
    :param odds: (N,) of the scores.
    :param unit: (N,) how many metres or radians the unit of each error is.
    """

    name: str
    spread: Array
    odds: Array
    unit: Array

    def covariance(self, law: CovarianceLaw) -> Array:
        """Return the covariances by the covariance model, (N, D, D)."""
        return law.group(self.name, self.spread, self.odds[:, None, None])


def group_errors(errors: Sequence[PoseError]) -> list[GroupErrors]:
    """Return the errors by group; invisible rotations are not in the group of rotations."""
    def array(get: Callable[[PoseError], Any], *shape: int) -> Array:
        return np.array([get(e) for e in errors], dtype=np.float64).reshape(-1, *shape)

    axes_m = array(lambda e: e.spread.axes_m, 3, 3)
    odds = array(lambda e: score_odds(e.spread.score))
    t = np.asarray(np.linalg.solve(axes_m, array(lambda e: e.t_error_m, 3, 1))[..., 0], np.float64)
    unit_m = np.sqrt((axes_m**2).sum(axis=1))
    seen = array(lambda e: e.seen, 3, 3)
    turned = np.array([e.rotation_is_seen for e in errors], bool)
    rotation = array(lambda e: e.seen @ e.rotation_error_rad, 3)
    return [
        GroupErrors(t[:, :2], array(lambda e: np.eye(2), 2, 2), 'lateral',
                    array(lambda e: e.spread.cells, 2, 2), odds, unit_m[:, 0]),
        GroupErrors(t[:, 2:], array(lambda e: 1.0, 1, 1), 'depth',
                    array(lambda e: e.spread.log_size, 1, 1), odds, unit_m[:, 2]),
        GroupErrors(rotation[turned], seen[turned], 'rotation',
                    array(lambda e: e.spread.rotation, 3, 3)[turned], odds[turned],
                    np.ones(int(turned.sum()))),
    ]


def errors_of(done: Run, objects: Mapping[str, ObjectModel], sizes: Mapping[str, float]
              ) -> list[PoseError]:
    """Compare estimates with the truth, as they are once the sizes of the objects are known.

    Errors are those of the centred frames, for which covariances are computed first.

    Poses without a spread, and those of which the truth is not clear, are left out.

    :param objects: of the model that made them, by label.
    :param sizes: by label, size ratios that the model is going to have.
    :raises DatasetError: when there are answers and none came with a spread.
    """
    if done.poses and all(pose.spread is None for pose in done.poses):
        raise DatasetError('no pose came with a spread; only the default preset has them')
    real = {label: dataclasses.replace(m, size_ratio=sizes[label]) for label, m in objects.items()}
    items = {label: ComparedObject(m.centred(), symmetries=m.centred().real_symmetries)
             for label, m in real.items()}
    errors = []
    for pair in paired(done, objects, sizes):
        item, spread = items[pair.pose.label], pair.pose.joint_spread or pair.pose.spread
        if spread is not None:
            T_est, T_gt = (item.model.to_centred(T) for T in (pair.T_est, pair.T_gt))
            T_near = item.nearest(T_est, T_gt).T_camera_object
            errors.append(PoseError(pair.image, spread.scaled(pair.factor),
                                    *offset_of(T_est, T_near, item.symmetries)))
    return errors


@dataclass(frozen=True, eq=False)
class Pair:
    """An estimate and the truth about it.

    :param image: scene and image.
    :param factor: by which the size that the model is going to have changes the distance.
    :param T_est: (4, 4) T_camera_object [m], with that size.
    :param T_gt: (4, 4) T_camera_object [m].
    """

    image: tuple[int, int]
    pose: PoseEstimate
    factor: float
    T_est: Array
    T_gt: Array


def paired(done: Run, objects: Mapping[str, ObjectModel], sizes: Mapping[str, float]
           ) -> Iterator[Pair]:
    """Yield each estimate and its truth, where :func:`truths_of` finds one.

    :param objects: of the model that made the estimates, by label.
    :param sizes: by label, size ratios that the model is going to have.
    """
    truths = truths_of(done.frames, done.rows)
    for row, pose, truth in zip(done.rows, done.poses, truths, strict=True):
        if truth is not None:
            factor = sizes[pose.label] / objects[pose.label].size_ratio
            T_est = pose.T_camera_object.copy()
            T_est[:3, 3] *= factor
            yield Pair((row.scene_id, row.image_id), pose, factor, T_est, truth.T_camera_object)


def truths_of(frames: Sequence[BopFrame], rows: Sequence[ResultRow]
              ) -> list[GroundTruth | None]:
    """Return the truth of each estimate, None where it is not clear which one it is.

    Of several objects of a kind it is the one on nearly the same ray, if this estimate is the
    nearest to it, too.

    :param rows: each estimate of an image once.
    """
    truths = {(f.scene_id, f.image_id): f.target_ground_truth() for f in frames}
    found: list[GroundTruth | None] = [None] * len(rows)
    alike: dict[tuple[int, int, int], list[int]] = {}
    for i, row in enumerate(rows):
        alike.setdefault((row.scene_id, row.image_id, row.object_id), []).append(i)
    for (scene_id, image_id, object_id), estimates in alike.items():
        same = [t for t in truths[scene_id, image_id] if t.object_id == object_id]
        if len(same) == 1:
            for i in estimates:
                found[i] = same[0]
        elif same:
            apart = _angles([rows[i].T_camera_object for i in estimates],
                            [t.T_camera_object for t in same])
            for k, i in enumerate(estimates):
                j = int(apart[k].argmin())
                next_best = np.delete(apart[k], j).min()
                if apart[k, j] < CLEARLY * next_best and int(apart[:, j].argmin()) == k:
                    found[i] = same[j]
    return found


def _angles(T: Sequence[Array], others: Sequence[Array]) -> Array:
    """Return the angles between the rays to objects and to others, (N, M) [rad]."""
    rays = [np.array([pose[:3, 3] / np.linalg.norm(pose[:3, 3]) for pose in poses])
            for poses in (T, others)]
    return np.asarray(np.arccos(np.clip(rays[0] @ rays[1].T, -1.0, 1.0)))


def offset_of(T_est: Array, T_near: Array, symmetries: Symmetries) -> tuple[Array, Array, Array]:
    """Return ``t_error_m``, ``rotation_error_rad`` and ``seen`` of a :class:`PoseError`.

    :param T_est: (4, 4) T_camera_object [m].
    :param T_near: (4, 4) T_camera_object [m], the nearest symmetric equivalent of the truth.
    """
    R = T_est[:3, :3]
    return (T_near[:3, 3] - T_est[:3, 3], log_so3(T_near[:3, :3] @ R.T),
            R @ symmetries.seen_rotations() @ R.T)
