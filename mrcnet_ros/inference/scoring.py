"""Computes the probability that a pose is right; numpy only.

The network estimates how good its answer to a crop is, several crops agree or disagree, and one
camera errs more the farther away an object is. These rank poses, but they are not probabilities:
the network's estimate is a recall on training images. A calibration turns them into a probability.
``mrcnet calibrate`` measures it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import SpecError
from ..geometry.se3 import Array
from .measured_law import FittedTo, Law

if TYPE_CHECKING:
    from typing import Self

RIGHT_DIAMETERS = 0.1  # of a right pose: largest mean distance of its surface from the true one
LARGEST_LOG_ODDS = 6.0  # of the network's guess: 0.9975
# Crops that differ by less than this count as equal [diameters].
LEAST_APART = 0.01
# Ranges of the numbers of a calibration. A file with others is damaged: scores would be 0 or 1 for
# all poses, or rise with the disagreement of the crops or with the distance.
LIMITS = {'offset': (-20.0, 20.0), 'quality_gain': (0.0, 20.0), 'apart_gain': (-20.0, 0.0),
          'usual_apart': (0.0, 100.0), 'distance_gain': (-20.0, 0.0),
          'usual_distance': (0.1, 1000.0), 'least_distance': (0.1, 1000.0),
          'most_distance': (0.1, 1000.0)}
# What a calibration without the distance has.
NO_DISTANCE = {'distance_gain': 0.0, 'usual_distance': 1.0, 'least_distance': 1.0,
               'most_distance': 1.0}


@dataclass(frozen=True)
class Evidence:
    """The signs from which a score is computed.

    :param quality: the network's own confidence, 0..1; for several answers that of those that
        agree, times their part of the belief.
    :param apart: mean distance between the surfaces that the crops see [diameters]; nan where
        there is one crop alone.
    :param share: that part of the belief; of a followed pose that of its last detection.
    :param distance: of the object from the camera [diameters]; nan where it is not told.
    """

    quality: float
    apart: float = math.nan
    share: float = 1.0
    distance: float = math.nan


def measured_again(evidence: Evidence, before: Array, after: Array) -> Evidence:
    """Return what speaks for a pose that something else, such as a plane, has corrected.

    The distance stands for how well one camera tells where an object is. A correction that halves
    the deviation of the position is worth as much as half the distance.

    :param before: (6, 6) covariance of the pose, position first.
    :param after: (6, 6) of the corrected one.
    """
    shrunk = math.sqrt(float(np.trace(after[:3, :3]) / np.trace(before[:3, :3])))
    return dataclasses.replace(evidence, distance=shrunk * evidence.distance)


@dataclass(frozen=True, kw_only=True)
class ScoreSource(FittedTo):
    """What a score calibration was fitted to.

    :param right: part of the poses that were right.
    """

    entry: ClassVar[str] = 'score_source'

    right: float


@dataclass(frozen=True, kw_only=True)
class ScoreLaw(Law):
    """How probable it is that a pose is right, given what speaks for it.

    The log odds are ``offset + quality_gain * log odds of the quality + apart_gain *
    log(apart + 0.01) + distance_gain * log(distance / usual_distance)``. A better quality, better
    agreement and a smaller distance never lower them. Distances beyond those that it was
    fitted to count as the nearest of these: a large false box is near, too.

    :param usual_apart: stands in for the agreement of crops where there is one crop alone.
    :param distance_gain: 0 in calibrations of earlier versions, which do not know the distance.
    :param usual_distance: stands in for a distance that is not told [diameters].
    :param least_distance: the nearest that it was fitted to [diameters].
    :param most_distance: the farthest.
    """

    entry: ClassVar[str] = 'score'
    limits: ClassVar[Mapping[str, tuple[float, float]]] = LIMITS

    offset: float
    quality_gain: float
    apart_gain: float
    usual_apart: float
    distance_gain: float = 0.0
    usual_distance: float = 1.0
    least_distance: float = 1.0
    most_distance: float = 1.0

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Restore it from plain data; earlier versions did not know the distance."""
        return super().from_dict({**NO_DISTANCE, **values}
                                 if isinstance(values, Mapping) else values)

    def __post_init__(self) -> None:
        """Check the ranges, and that the distances are in order."""
        super().__post_init__()
        if not self.least_distance <= self.usual_distance <= self.most_distance:
            raise SpecError(
                f'{self.entry}: least_distance, usual_distance and most_distance must be in this '
                f'order, got {self.least_distance:g}, {self.usual_distance:g} and '
                f'{self.most_distance:g}')

    def probability(self, evidence: Evidence) -> float:
        """Return the probability that a pose is right, 0..1."""
        apart = self.usual_apart if math.isnan(evidence.apart) else evidence.apart
        distance = self.usual_distance if math.isnan(evidence.distance) else min(
            max(evidence.distance, self.least_distance), self.most_distance)
        quality, agreement, farther = terms(evidence.quality, apart,
                                            distance / self.usual_distance)
        odds = (self.offset + self.quality_gain * quality + self.apart_gain * agreement
                + self.distance_gain * farther)
        return 1.0 / (1.0 + math.exp(-float(odds)))


def terms(quality: float | Array, apart: float | Array, farther: float | Array
          ) -> tuple[Array, Array, Array]:
    """Return what the log odds are linear in.

    :param quality: 0..1.
    :param apart: [diameters].
    :param farther: than usual, as a factor.
    """
    q = np.clip(quality, 1e-9, 1.0 - 1e-9)
    log_odds = np.clip(np.log(q / (1.0 - q)), -LARGEST_LOG_ODDS, LARGEST_LOG_ODDS)
    return (np.asarray(log_odds, np.float64),
            np.asarray(np.log(np.asarray(apart) + LEAST_APART), np.float64),
            np.asarray(np.log(farther), np.float64))
