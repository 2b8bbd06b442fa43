"""From estimates and ground truth to errors and recalls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ..datasets.bop import BopFrame, GroundTruth, ResultRow
from ..geometry.hull import hull_vertices
from ..geometry.se3 import Array, make_transform
from ..meshes import find_middle
from ..objects import ObjectModel
from . import pose_errors
from .recall import (
    MSPD_REFERENCE_WIDTH_PX,
    MSPD_THRESHOLDS,
    MSSD_THRESHOLDS,
    Recall,
    TargetErrors,
    match,
    ranked,
    recall,
)

# errors that most grippers tolerate: a finger still closes on the right side of the object
NEAR_DIAMETERS, NEAR_RAD = 0.1, np.radians(15.0)


@dataclass(frozen=True)
class TargetScore:
    """The scores of one target; None where it has no estimate.

    ``mssd_met`` and ``mspd_met`` count as BOP does, by score at each threshold. All other figures
    are those of the estimate that is nearest to this instance rather than to another one.

    :param mssd_m: maximum symmetry-aware surface distance.
    :param mspd_px: maximum symmetry-aware projection distance, in pixels of the image.
    :param difference: from the symmetric equivalent of the truth that is nearest in MSSD.
    :param mssd_met: share of the MSSD thresholds at which the target is found.
    :param mspd_met: share of the MSPD thresholds at which the target is found.
    :param depth_part: estimated over true distance along the optical axis, less one.
    :param near: whether the middle is off by less than a tenth of the diameter and the rotation
        by less than 15 degrees.
    :param truth: that it was scored against.
    """

    scene_id: int
    image_id: int
    object_id: int
    instance: int
    visible_fraction: float
    score: float | None = None
    mssd_m: float | None = None
    mspd_px: float | None = None
    difference: pose_errors.PoseDifference | None = None
    mssd_met: float = 0.0
    mspd_met: float = 0.0
    depth_part: float | None = None
    near: bool = False
    estimate: ResultRow | None = field(default=None, compare=False, repr=False)
    truth: GroundTruth | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Scores:
    """Recalls and single errors of a set of images."""

    mssd: Recall
    mspd: Recall
    targets: tuple[TargetScore, ...]

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Return the objects with targets, sorted."""
        return tuple(self.mssd.by_object)


class ScoredObject:
    """An object with the points that errors are measured at.

    :param model: whose mesh is read when first needed.
    """

    def __init__(self, model: ObjectModel) -> None:
        self.model = model

    @cached_property
    def vertices(self) -> Array:
        """Return all vertices, (V, 3) [m]."""
        return self.model.load_mesh().vertices

    @cached_property
    def middle_m(self) -> Array:
        """Return the middle of the mesh, (3,) [m], where errors of position are measured."""
        return find_middle(self.vertices, self.model.diameter_m)

    @cached_property
    def hull(self) -> Array:
        """Return the vertices on the convex hull, (H, 3) [m]: enough for MSSD."""
        return hull_vertices(self.vertices)

    def mssd(self, T_est: Array, T_gt: Array) -> float:
        """Return the maximum surface distance [m]."""
        return pose_errors.mssd(T_est, T_gt, self.hull, self.model.symmetries)

    def mspd(self, T_est: Array, T_gt: Array, K: Array) -> float:
        """Return the maximum projection distance [px]."""
        return pose_errors.mspd(T_est, T_gt, K, self.vertices, self.model.symmetries)

    def difference(self, T_est: Array, T_gt: Array) -> pose_errors.PoseDifference:
        """Return the difference of the middle from the nearest equivalent of the truth."""
        return pose_errors.pose_difference(
            self.at_middle(T_est), self.at_middle(self.closest(T_est, T_gt)))

    def at_middle(self, T_camera_object: Array) -> Array:
        """Return the same pose with the position of the middle, (4, 4) [m]."""
        return T_camera_object @ make_transform(np.eye(3), self.middle_m)

    def closest(self, T_est: Array, T_gt: Array) -> Array:
        """Return the symmetric equivalent of the truth that is nearest in MSSD, (4, 4) [m]."""
        return pose_errors.nearest_truth(
            T_est, T_gt, self.hull, self.model.symmetries).T_camera_object


def score(frames: Iterable[BopFrame], rows: Iterable[ResultRow], objects: Mapping[int, ObjectModel]
          ) -> Scores:
    """Score estimates by BOP'19's rules.

    Estimates of objects that are no target of their image, and of other images, do not count.

    :param frames: images whose targets are to be found.
    :param rows: estimates, in any order.
    :param objects: by object id; meshes as BOP evaluates with.
    """
    scored = {i: ScoredObject(model) for i, model in objects.items()}
    estimates = group_rows(rows)
    surface: list[TargetErrors] = []
    projection: list[TargetErrors] = []
    targets: list[TargetScore] = []
    for frame in frames:
        truths = frame.target_ground_truth()
        for object_id in sorted(frame.targets):
            wanted = [g for g in truths if g.object_id == object_id]
            found = estimates.get((frame.scene_id, frame.image_id, object_id), [])
            mssd, mspd = _errors(scored[object_id], frame, wanted, found)
            surface.append(mssd)
            projection.append(mspd)
            targets += _target_scores(scored[object_id], frame, wanted, found, (mssd, mspd))
    return Scores(recall(surface, MSSD_THRESHOLDS), recall(projection, MSPD_THRESHOLDS),
                  tuple(targets))


def group_rows(rows: Iterable[ResultRow]) -> dict[tuple[int, int, int], list[ResultRow]]:
    """Return the rows by scene, image and object, in the order given."""
    groups: dict[tuple[int, int, int], list[ResultRow]] = {}
    for row in rows:
        groups.setdefault((row.scene_id, row.image_id, row.object_id), []).append(row)
    return groups


def _errors(scored: ScoredObject, frame: BopFrame, wanted: list[GroundTruth],
            found: list[ResultRow]) -> tuple[TargetErrors, TargetErrors]:
    """Return MSSD in diameters and MSPD in pixels of a 640 px wide image."""
    pairs = [(row.T_camera_object, g.T_camera_object) for row in found for g in wanted]
    shape, object_id = (len(found), len(wanted)), scored.model.object_id
    mssd = np.array([scored.mssd(*pair) for pair in pairs]).reshape(shape)
    mspd = np.array([scored.mspd(*pair, frame.camera.K) for pair in pairs]).reshape(shape)
    scores = np.array([row.score for row in found])
    return (TargetErrors(object_id, scores, mssd / scored.model.diameter_m),
            TargetErrors(object_id, scores, mspd * MSPD_REFERENCE_WIDTH_PX / frame.camera.width))


def _target_scores(scored: ScoredObject, frame: BopFrame, wanted: list[GroundTruth],
                   found: list[ResultRow], errors: tuple[TargetErrors, TargetErrors]
                   ) -> list[TargetScore]:
    """Return the score of each instance with the estimate that is paired with it."""
    mssd, mspd = errors
    partner = _nearest_pairs(mssd)
    met = [_met(e, thresholds) for e, thresholds in
           ((mssd, MSSD_THRESHOLDS), (mspd, MSPD_THRESHOLDS))]
    result = []
    for index, g in enumerate(wanted):
        target = TargetScore(frame.scene_id, frame.image_id, g.object_id, g.instance,
                             g.visible_fraction, mssd_met=met[0][index], mspd_met=met[1][index])
        if index in partner:
            row = found[partner[index]]
            pair = (row.T_camera_object, g.T_camera_object)
            difference = scored.difference(*pair)
            depth_m = float(scored.at_middle(row.T_camera_object)[2, 3])
            target = replace(
                target, score=row.score, mssd_m=scored.mssd(*pair),
                mspd_px=scored.mspd(*pair, frame.camera.K), difference=difference,
                depth_part=difference.depth_m / (depth_m - difference.depth_m),
                near=is_near(difference, scored.model.diameter_m), estimate=row, truth=g)
        result.append(target)
    return result


def _nearest_pairs(target: TargetErrors) -> dict[int, int]:
    """Return estimates by instance: the pair with the smallest error first, then of the others.

    By score, a false pose would take the instance from a right one, at any distance.
    """
    best = ranked(target.scores)[:target.errors.shape[1]]
    errors, pairs = target.errors[best], {}
    for _ in best:
        estimate, instance = divmod(int(np.argmin(errors)), errors.shape[1])
        pairs[instance] = best[estimate]
        errors[estimate], errors[:, instance] = np.inf, np.inf
    return pairs


def _met(target: TargetErrors, thresholds: Array) -> list[float]:
    """Return the share of the thresholds at which each instance is found."""
    found = [instance for th in thresholds for _, instance in match(target, float(th))]
    return [found.count(i) / len(thresholds) for i in range(target.errors.shape[1])]


def is_near(difference: pose_errors.PoseDifference, diameter_m: float) -> bool:
    """Tell whether a pose is near enough to the truth for most grippers."""
    return bool(difference.translation_m < NEAR_DIAMETERS * diameter_m
                and difference.rotation_rad < NEAR_RAD)
