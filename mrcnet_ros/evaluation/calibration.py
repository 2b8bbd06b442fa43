"""Curves of how well scores and covariances predict the errors of poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from ..datasets.bop import ResultRow
from ..geometry.se3 import Array, log_so3
from ..objects import ObjectModel
from .scores import ScoredObject, TargetScore

# Fewer poses make a curve that only shows chance.
FEWEST_POSES = 8
# Points of the reliability curve at most, each of four poses or more; more points vary more.
MOST_BINS = 8
# Every 5 %, and 99 % for the tails.
COVERAGE_LEVELS: Array = np.concatenate([np.arange(0.05, 1.0, 0.05), [0.99]])


@dataclass(frozen=True)
class ScoreCurves:
    """Precision and recall over score thresholds; a pose is right if it is near the truth.

    :param thresholds: of the score, rising.
    :param precision: share of the accepted poses that are right.
    :param recall: share of all targets with an accepted pose that is right.
    :param bin_scores: mean score of each group of poses with similar scores.
    :param bin_right: share of each group that is right.
    """

    thresholds: list[float]
    precision: list[float]
    recall: list[float]
    bin_scores: list[float]
    bin_right: list[float]


@dataclass(frozen=True)
class Coverage:
    """The share of errors inside the ellipsoids of the covariances.

    :param levels: part of the errors that should be inside.
    :param position: part of the errors of position that is, for each level.
    """

    levels: list[float]
    position: list[float]
    rotation: list[float]
    poses: int


def score_curves(targets: Sequence[TargetScore]) -> ScoreCurves | None:
    """Return the curves, None when there are too few poses."""
    found = sorted((t.score, t.near) for t in targets if t.score is not None)
    if len(found) < FEWEST_POSES:
        return None
    scores, right = (np.array(values, np.float64) for values in zip(*found, strict=True))
    # accepted from each pose on; equal scores are accepted together
    first = np.unique(scores, return_index=True)[1]
    accepted = len(scores) - first
    good = np.cumsum(right[::-1])[::-1][first]
    parts = np.array_split(np.arange(len(scores)), min(MOST_BINS, len(scores) // 4))
    return ScoreCurves(
        scores[first].tolist(), (good / accepted).tolist(), (good / len(targets)).tolist(),
        [float(scores[p].mean()) for p in parts], [float(right[p].mean()) for p in parts])


def coverage(targets: Sequence[TargetScore], covariances: Sequence[tuple[ResultRow, Array | None]],
             objects: Mapping[int, ObjectModel]) -> Coverage | None:
    """Compare errors with covariances.

    :param covariances: (6, 6) of each estimate, None where it has none.
    :param objects: by object id, as the targets were scored with.
    :return: None when there are too few poses with a covariance.
    """
    by_row = {id(row): C for row, C in covariances if C is not None}
    scored = {i: ScoredObject(model) for i, model in objects.items()}
    parts = [_parts(scored[t.object_id], t, by_row[id(t.estimate)]) for t in targets
             if t.estimate is not None and t.truth is not None and id(t.estimate) in by_row]
    if len(parts) < FEWEST_POSES:
        return None
    position, rotation = np.array(parts).T
    rotation = rotation[np.isfinite(rotation)]
    return Coverage(COVERAGE_LEVELS.tolist(), _inside(position), _inside(rotation), len(parts))


def _parts(scored: ScoredObject, target: TargetScore, covariance: Array) -> tuple[float, float]:
    """Return the levels of the smallest ellipsoids with the errors of position and rotation.

    A level is the share of errors that an ellipsoid should hold; nan for an invisible rotation.
    """
    assert target.estimate is not None and target.truth is not None
    T_est = target.estimate.T_camera_object
    T_gt = scored.closest(T_est, target.truth.T_camera_object)
    R = T_est[:3, :3]
    seen = R @ scored.model.symmetries.seen_rotations() @ R.T
    turned = seen @ log_so3(T_gt[:3, :3] @ R.T)
    # what cannot be seen of a rotation does not count
    C = seen @ covariance[3:, 3:] @ seen + np.eye(3) - seen
    dimensions = round(float(np.trace(seen)))
    moved = T_gt[:3, 3] - T_est[:3, 3]
    return (float(chi2.cdf(moved @ np.linalg.solve(covariance[:3, :3], moved), 3)),
            float(chi2.cdf(turned @ np.linalg.solve(C, turned), dimensions))
            if dimensions else float('nan'))


def _inside(parts: Array) -> list[float]:
    return [float(np.mean(parts <= level)) if len(parts) else 0.0 for level in COVERAGE_LEVELS]
