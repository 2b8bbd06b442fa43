"""How well covariances predict errors, on images that were left out of the fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, spearmanr

from ..geometry.se3 import Array
from ..inference.uncertainty import CovarianceLaw
from .covariance_calibration import unknown, widened_law
from .covariance_errors import GroupErrors, PoseError, group_errors
from .covariance_fit import fit_law
from .left_out import each_left_out, parts_of

REPORTED_LEVELS = (0.5, 0.9, 0.99)  # the two that models are fitted to, and the tails
MAX_PARTS = 20  # each part needs a fit


@dataclass(frozen=True)
class GroupReport:
    """How well the covariances of one group fit the errors.

    :param inside: share of the errors within the ellipsoids of each of ``REPORTED_LEVELS``.
    :param sigma: median standard deviation along one axis [m], or [rad] of rotation.
    :param error: median size of the errors, in the same unit.
    :param rank: how well the deviations rank the errors: Spearman's correlation.
    """

    name: str
    poses: int
    inside: tuple[float, ...]
    sigma: float
    error: float
    rank: float


def left_out_reports(errors: Sequence[PoseError]) -> list[GroupReport]:
    """Report on each image with a covariance model that was fitted to the others, and widened.

    Of more than ``MAX_PARTS`` images, as many parts are left out in turn. The others may be fewer
    than a covariance model needs, since all together are not.

    :raises DatasetError: when there are too few errors to tell.
    """
    start = fit_law(errors)
    reports: list[tuple[NDArray[np.int64], CovarianceLaw]] = []
    for left_out in each_left_out(parts_of([e.image for e in errors], MAX_PARTS)):
        others = list(itertools.compress(errors, ~left_out))
        law = fit_law(others, start, least=(1, 1))
        reports.append((np.flatnonzero(left_out), widened_law(law, unknown(law, others))))
    return report_errors(errors, reports)


def report_errors(errors: Sequence[PoseError],
                  laws: Sequence[tuple[NDArray[np.int64], CovarianceLaw]]) -> list[GroupReport]:
    """Report how well covariance models predict errors.

    :param laws: and the indices of the errors that each is for.
    """
    parts = [(law, group_errors([errors[i] for i in indices])) for indices, law in laws]
    return [_group_report([(law, groups[k]) for law, groups in parts]) for k in range(3)]


def _group_report(parts: Sequence[tuple[CovarianceLaw, GroupErrors]]) -> GroupReport:
    squares, dimensions, sigmas, sizes = [], [], [], []
    for law, group in parts:
        C = group.covariance(law)
        squares.append(group.squares(C)[0])
        dimensions.append(group.dimensions)
        trace = np.trace(group.seen @ C, axis1=1, axis2=2)
        sigmas.append(np.sqrt(trace / group.dimensions) * group.unit)
        sizes.append(group.sizes * group.unit)
    square, dimension, sigma, size = map(np.concatenate, (squares, dimensions, sigmas, sizes))
    inside = tuple(float(np.mean(square < chi2.ppf(p, dimension))) for p in REPORTED_LEVELS)
    return GroupReport(parts[0][1].name, len(square), inside, float(np.median(sigma)),
                       float(np.median(size)), _rank(sigma, size))


def _rank(sigma: Array, size: Array) -> float:
    return float(spearmanr(sigma, size).statistic)


def covariance_table(reports: Sequence[GroupReport]) -> Iterator[str]:
    """Yield the lines of a table."""
    heads = ''.join(f'{f"in {level:.0%}":>9}' for level in REPORTED_LEVELS)
    yield f'{"covariance":<16}{"poses":>6}{heads}{"sigma":>11}{"error":>11}{"rank":>7}'
    for r in reports:
        unit, factor = ('deg', np.degrees(1.0)) if r.name == 'rotation' else ('mm', 1e3)
        inside = ''.join(f'{part:>9.0%}' for part in r.inside)
        sizes = ''.join(f'{factor * x:>7.1f} {unit:<3}' for x in (r.sigma, r.error))
        yield f'{r.name:<16}{r.poses:>6}{inside}{sizes}{r.rank:>7.2f}'
    yield ('share of the errors within the ellipsoids that should hold 50, 90 and 99 %; medians '
           'of the deviation along one axis and of the size of the error; rank correlation of '
           'both; all for images that were left out of the fit')
