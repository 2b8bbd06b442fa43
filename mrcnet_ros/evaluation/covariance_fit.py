"""Fits the covariance model to errors.

Errors of poses have heavy tails: now and then a rotation flips without a large spread. So the
shape of the model comes from a Student distribution fitted by maximum likelihood, which such
errors hardly change. Then each group is scaled so that the ellipsoids of 50 % and 90 % hold these
shares of the errors, or halfway between both scales.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.stats import chi2

from ..errors import DatasetError
from ..geometry.se3 import Array
from ..inference.uncertainty import GROUPS, LIMITS, CovarianceLaw
from .covariance_errors import GroupErrors, PoseError, group_errors
from .enough_poses import MIN_IMAGES, MIN_POSES, check_enough_poses

LEVELS = (0.5, 0.9)  # parts of the errors that the ellipsoids of these parts are made to hold
_FREEDOM = 4.0  # of the Student distribution
_FLOORS = (0.1, 3.0)  # smallest and largest floor, in typical errors
_GAINS = (0.01, 10.0)  # smallest and largest gain, in typical errors over typical spreads
_NAMES = [field for fields in GROUPS.values() for field in fields]


def fit_law(errors: Sequence[PoseError], start: CovarianceLaw | None = None, *,
            least: tuple[int, int] = (MIN_POSES, MIN_IMAGES)) -> CovarianceLaw:
    """Return the covariance model that fits errors best.

    :param start: a model that is not far off, to be quicker.
    :param least: poses and images; fewer are too few.
    :raises DatasetError: when there are too few errors to tell, or they are absurdly large.
    """
    groups = group_errors(errors) if errors else []
    check_enough_poses(sum(e.rotation_is_seen for e in errors), len({e.image for e in errors}),
                       'covariance', least=least, kind=', of objects whose rotation can be seen')
    bounds = np.array([*(b for g in groups for b in _bounds(g)), (0.0, 1.5)])
    x0 = bounds @ (0.6, 0.4) if start is None else np.clip(_packed(start), *bounds.T)
    found = minimize(lambda x: sum(_loss(g, _law(x)) for g in groups), x0, method='L-BFGS-B',
                     bounds=bounds)
    return _scaled(_law(found.x), groups)


def _loss(group: GroupErrors, law: CovarianceLaw) -> float:
    """Return the mean negative log likelihood of Student's distribution, less constants."""
    squares, log_det = group.squares(group.covariance(law))
    tails = (_FREEDOM + group.dimensions) * np.log1p(squares / _FREEDOM)
    return 0.5 * float(np.mean(log_det + tails))


def _scaled(law: CovarianceLaw, groups: Sequence[GroupErrors]) -> CovarianceLaw:
    """Grow or shrink each group so that its ellipsoids hold what they should.

    The factor is halfway, on a logarithmic scale, between those that the levels ask for.
    """
    changes = {}
    for group in groups:
        squares, _ = group.squares(group.covariance(law))
        factor = float(np.exp(log_scale(squares, group.dimensions)))
        for field in GROUPS[group.name]:
            changes[field] = getattr(law, field) * factor
    _check_floors(changes)
    return dataclasses.replace(law, **{f: limited(f, v) for f, v in changes.items()})


def log_scale(squares: Array, dimensions: Array) -> float:
    """Return the logarithm of the factor that deviations are too small by.

    :param squares: (N,) squared Mahalanobis distances.
    :param dimensions: (N,) of each.
    """
    return float(np.mean([
        0.5 * np.log(np.quantile(squares / chi2.ppf(level, dimensions), level) + 1e-12)
        for level in LEVELS]))


def _check_floors(values: Mapping[str, float]) -> None:
    """Refuse errors as large as the crop, the distance or half a turn: the truth is wrong.

    :raises DatasetError: naming the group.
    """
    for name, (floor, _) in GROUPS.items():
        if values[floor] > LIMITS[floor][1]:
            raise DatasetError(
                f'errors of the group {name} would need a {floor} of {values[floor]:.3g}, more '
                f'than {LIMITS[floor][1]:g}; are the annotations in millimetres and of these '
                'images?')


def _bounds(group: GroupErrors) -> list[tuple[float, float]]:
    """Return the bounds of the logarithms of floor and gain."""
    typical = group.typical()
    mean = np.trace(group.spread, axis1=1, axis2=2).mean() / group.spread.shape[-1]
    ratio = typical / max(float(np.sqrt(mean)), 1e-6)
    return [(np.log(low * x), np.log(high * x))
            for (low, high), x in ((_FLOORS, typical), (_GAINS, ratio))]


def _packed(law: CovarianceLaw) -> Array:
    """Return a covariance model as seven numbers without units."""
    return np.array([*(np.log(max(getattr(law, n), 1e-9)) for n in _NAMES), law.score_exponent])


def _law(x: Array) -> CovarianceLaw:
    """Undo :func:`_packed`, within the limits of the model."""
    values = {n: limited(n, float(np.exp(v))) for n, v in zip(_NAMES, x, strict=False)}
    return CovarianceLaw(**values, score_exponent=float(x[-1]))


def limited(name: str, value: float) -> float:
    """Return the nearest value that a number of the model may have."""
    return float(np.clip(value, *LIMITS[name]))
