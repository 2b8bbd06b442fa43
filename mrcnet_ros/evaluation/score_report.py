"""How well scores foretell which poses are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ..geometry.se3 import Array
from .score_errors import Judged
from .score_fit import fit_score_law

PARTS = 20  # that are left out in turn, where there are more images
STEPS = 5  # of the table, with as many poses in each


@dataclass(frozen=True)
class ScoreReport:
    """What became of scores.

    :param right: part of them that were right.
    :param auroc: how often of a right and a wrong pose the right one has the better score; nan
        where there are none of one kind.
    :param calibration_error: mean difference between score and part of right poses, in groups of
        like scores.
    :param steps: mean score and part of right poses in each group, the lowest first.
    """

    poses: int
    right: float
    auroc: float
    calibration_error: float
    steps: tuple[tuple[float, float], ...]


def left_out_scores(judged: Sequence[Judged]) -> Array:
    """Return the score of each pose by a law that was fitted to other images, (N,).

    :raises DatasetError: when the others are too few to tell.
    """
    images = sorted({j.image for j in judged})
    part = np.array([images.index(j.image) % PARTS for j in judged])
    scores = np.zeros(len(judged))
    for number in np.unique(part):
        law = fit_score_law([j for j, p in zip(judged, part, strict=True) if p != number])
        for i in np.flatnonzero(part == number).tolist():
            scores[i] = law.probability(judged[i].evidence)
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
    """Return how often of a right and a wrong pose the right one has the better score.

    Equal scores count half; nan where there are no right or no wrong poses.
    """
    good, bad = int(right.sum()), int((~right).sum())
    if not good or not bad:
        return float('nan')
    ranks = rankdata(scores)
    return float((ranks[right].sum() - good * (good + 1) / 2) / (good * bad))


def score_table(judged: Sequence[Judged]) -> Iterator[str]:
    """Yield the lines of a table: the scores that the model gave, and those of a new law.

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
    yield ('a pose is right whose surface is in mean less than a tenth of the diameter off; off '
           'by: mean difference between score and part of right poses; last: both in five groups '
           'of like scores')
