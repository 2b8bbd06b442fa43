"""Fits the score calibration, and reports how well scores predict which poses are right.

The calibration is a logistic regression with fixed signs: better evidence never lowers a score.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import rankdata

from ..geometry.se3 import Array
from ..geometry.spread import sigmoid
from ..inference.scoring import LEAST_APART, LIMITS, ScoreLaw, ScoreSource, terms
from .covariance_calibration import Images
from .enough_poses import check_enough_poses
from .left_out import each_left_out, parts_of
from .score_errors import Judged

# Pulls the gains towards 0 as one pose would: a calibration stays finite where all right
# poses have better evidence than all wrong ones.
RIDGE = 1.0
NUMBERS = ('offset', 'quality_gain', 'apart_gain', 'distance_gain')  # that are fitted
# Deviation of the gain of the logarithm of the distance before any pose is seen. A right pose is
# off by less than a fixed part of the diameter, and errors grow with the distance, so it is some
# units. Images of about one distance say nothing of it, and leave it near 0.
GAIN_DEVIATION = 2.0
OUTER = 0.1  # share of the poses that are nearer or farther than a calibration counts
PARTS = 20  # that are left out in turn, where there are more images
STEPS = 5  # of the table, with as many poses in each


def fit_score_law(judged: Sequence[Judged]) -> ScoreLaw:
    """Return the calibration with the highest likelihood.

    One right and one wrong pose with mean evidence are added, so that no score is 0 or 1.

    :raises DatasetError: when there are too few poses to tell.
    """
    _check_enough(judged)
    return _fitted(judged)


def _fitted(judged: Sequence[Judged]) -> ScoreLaw:
    right = np.array([j.right for j in judged], bool)
    quality, apart, distance = np.array(
        [(j.evidence.quality, j.evidence.apart, j.evidence.distance) for j in judged]).T
    known, told = np.isfinite(apart), np.isfinite(distance)
    usual_apart = typical_apart(apart[known])
    least, usual, most = distances_of(distance[told])
    x = terms(quality, np.where(known, apart, usual_apart),
              np.where(told, np.clip(distance, least, most) / usual, 1.0))
    numbers = dict(zip(NUMBERS, _logistic(np.stack(x, axis=1), right), strict=True))
    for name, given in (('apart_gain', known), ('distance_gain', told)):
        if not given.any():
            numbers[name] = 0.0
    return ScoreLaw(usual_apart=usual_apart, least_distance=least, usual_distance=usual,
                    most_distance=most,
                    **{name: float(np.clip(n, *LIMITS[name])) for name, n in numbers.items()})


def distances_of(distance: Array) -> tuple[float, float, float]:
    """Return the nearest, the usual and the farthest distance [diameters].

    All but :data:`OUTER` of the poses are between the outer ones; usual is the mean of the
    logarithms.
    """
    if not len(distance):
        return 1.0, 1.0, 1.0
    logs = np.log(np.clip(distance, *LIMITS['usual_distance']))
    least, most = np.quantile(logs, (OUTER / 2, 1.0 - OUTER / 2))
    usual = np.clip(logs.mean(), least, most)
    return float(np.exp(least)), float(np.exp(usual)), float(np.exp(most))


def typical_apart(apart: Array) -> float:
    """Return the agreement that stands in for all [diameters], by its logarithm."""
    if not len(apart):
        return 0.0
    return float(np.clip(np.exp(np.log(apart + LEAST_APART).mean()) - LEAST_APART,
                         *LIMITS['usual_apart']))


def _check_enough(judged: Sequence[Judged]) -> None:
    check_enough_poses(len(judged), len({j.image for j in judged}), 'score')


def _logistic(x: Array, right: NDArray[np.bool_]) -> Array:
    """Return :data:`NUMBERS`: the first gain not negative, the others not positive.

    :param x: (N, 3).
    """
    middle, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    ridge = np.array([0.0, RIDGE, RIDGE, RIDGE + (scale[2] * GAIN_DEVIATION)**-2])
    z = np.column_stack([np.ones(len(x)), (x - middle) / scale])
    z = np.concatenate([z, [[1.0, 0.0, 0.0, 0.0]] * 2])
    right = np.concatenate([right, [True, False]])

    def loss(w: Array) -> tuple[float, Array]:
        odds = z @ w
        slope = z.T @ (sigmoid(odds) - right) + ridge * w
        likelihood = np.sum(np.logaddexp(0.0, odds) - right * odds)
        return float(likelihood + ridge / 2.0 @ w**2), slope

    w = minimize(loss, np.zeros(4), jac=True, method='L-BFGS-B',
                 bounds=[(-30, 30), (0, 30), (-30, 0), (-30, 0)]).x
    gains = w[1:] / scale
    return np.array([w[0] - middle @ gains, *gains])


def score_law_of(judged: Sequence[Judged], images: Images) -> tuple[ScoreLaw, ScoreSource]:
    """Return the calibration that fits answers, and its source.

    :raises DatasetError: when there are too few poses.
    """
    law = fit_score_law(judged)
    right = sum(j.right for j in judged) / len(judged)
    return law, ScoreSource(
        source=images.source, images=len({j.image for j in judged}), poses=len(judged),
        right=round(right, 3), boxes=images.boxes, crops=images.crops,
        hypotheses=images.hypotheses, refine=images.refine)


@dataclass(frozen=True)
class ScoreReport:
    """How well scores fit what happened.

    :param right: share of right poses.
    :param auroc: probability that a right pose has a higher score than a wrong one; nan without
        poses of one kind.
    :param calibration_error: mean gap between score and share of right poses, in groups of
        similar scores.
    :param steps: mean score and share of right poses in each group, the lowest first.
    """

    poses: int
    right: float
    auroc: float
    calibration_error: float
    steps: tuple[tuple[float, float], ...]


def left_out_scores(judged: Sequence[Judged]) -> Array:
    """Return the score of each pose by a calibration that was fitted to other images, (N,).

    The others may be fewer than a calibration needs, if all together are not.

    :raises DatasetError: when there are too few poses to tell.
    """
    _check_enough(judged)
    scores = np.zeros(len(judged))
    for left_out in each_left_out(parts_of([j.image for j in judged], PARTS)):
        law = _fitted(list(itertools.compress(judged, ~left_out)))
        scores[left_out] = [law.probability(j.evidence)
                            for j in itertools.compress(judged, left_out)]
    return scores


def report_scores(scores: Array, right: NDArray[np.bool_]) -> ScoreReport:
    """Compare scores with what happened.

    :param scores: (N,) 0..1.
    :param right: (N,).
    """
    order = np.argsort(scores, kind='stable')
    steps = [(float(scores[rows].mean()), float(right[rows].mean()), len(rows))
             for rows in np.array_split(order, min(STEPS, len(order)))]
    error = sum(abs(score - part) * count for score, part, count in steps) / len(scores)
    return ScoreReport(len(scores), float(right.mean()), auroc(scores, right), float(error),
                       tuple((score, part) for score, part, _ in steps))


def auroc(scores: Array, right: NDArray[np.bool_]) -> float:
    """Return the probability that a right pose has a higher score than a wrong one.

    Equal scores count half; nan without right or without wrong poses.
    """
    good, bad = int(right.sum()), int((~right).sum())
    if not good or not bad:
        return float('nan')
    ranks = rankdata(scores)
    return float((ranks[right].sum() - good * (good + 1) / 2) / (good * bad))


def score_table(judged: Sequence[Judged]) -> Iterator[str]:
    """Yield the lines of a table: the scores that the model gave, and calibrated ones.

    :raises DatasetError: when there are too few poses to tell.
    """
    right = np.array([j.right for j in judged], bool)
    rows = {'as they are': report_scores(np.array([j.score for j in judged]), right),
            'fitted, left out': report_scores(left_out_scores(judged), right)}
    yield f'{"score":<18}{"poses":>6}{"right":>7}{"AUROC":>7}{"off by":>8}   score: right'
    for name, r in rows.items():
        steps = '  '.join(f'{score:.2f}: {part:.2f}' for score, part in r.steps)
        yield (f'{name:<18}{r.poses:>6}{r.right:>7.0%}{r.auroc:>7.2f}'
               f'{r.calibration_error:>8.2f}   {steps}')
    yield ('right: mean surface error below a tenth of the diameter; off by: mean gap between '
           'score and share of right poses; last column: both, in five groups of similar scores')
