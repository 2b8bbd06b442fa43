"""Curves of how well scores and covariances predict the errors of poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from ..datasets.bop import ResultRow
from ..geometry.se3 import Array
from ..objects import ObjectModel
from .covariance_errors import SeenErrors, offset_of
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
    offsets, known = [], []
    for target in targets:
        row, truth = target.estimate, target.truth
        if row is not None and truth is not None and id(row) in by_row:
            T_est, item = row.T_camera_object, scored[target.object_id]
            T_near = item.closest(T_est, truth.T_camera_object)
            offsets.append(offset_of(T_est, T_near, item.model.symmetries))
            known.append(by_row[id(row)])
    if len(offsets) < FEWEST_POSES:
        return None
    moved, turned, seen = (np.array(values) for values in zip(*offsets, strict=True))
    C, shown = np.array(known), np.trace(seen, axis1=1, axis2=2) > 0.5
    position = SeenErrors(moved, np.broadcast_to(np.eye(3), seen.shape))
    rotation = SeenErrors((seen @ turned[..., None])[shown, :, 0], seen[shown])
    return Coverage(COVERAGE_LEVELS.tolist(), _inside(position, C[:, :3, :3]),
                    _inside(rotation, C[shown, 3:, 3:]), len(offsets))


def _inside(errors: SeenErrors, covariance: Array) -> list[float]:
    """Return the share of errors in the ellipsoids of each of :data:`COVERAGE_LEVELS`.

    :param covariance: (N, D, D).
    """
    # the level of the smallest ellipsoid with each error
    levels = chi2.cdf(errors.squares(covariance)[0], errors.dimensions)
    return [float(np.mean(levels <= level)) if len(levels) else 0.0 for level in COVERAGE_LEVELS]
