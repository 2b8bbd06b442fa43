"""How sure a pose is that depth has corrected: its own covariance model and calibration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..geometry.se3 import Array
from ..geometry.spread import sigmoid
from .depth_fit import DepthFit
from .measured_law import Law
from .uncertainty import PoseSpread, score_odds

# What all pixels of a depth image share, as a part of the distance: its scale, and its
# registration to the colour image. On five photographs of LM it was 0.3 % and 0.2 %.
SENSOR_ALONG, SENSOR_ACROSS = 0.003, 0.002
RESIDUAL_UNIT = 0.01  # diameters: of the residual in the score calibration
# the signs make the score monotone
_LIMITS = {'bias': (-50.0, 50.0), 'score_gain': (0.0, 10.0), 'agreement_gain': (0.0, 50.0),
           'residual_gain': (-10.0, 0.0)}


@dataclass(frozen=True, kw_only=True)
class DepthScoreLaw(Law):
    """The probability that a corrected pose is right, given how well it agrees with depth.

    Its log odds are ``bias + score_gain * log(odds of the network's score) + agreement_gain *
    agreement + residual_gain * residual`` with the residual in hundredths of the diameter. A
    larger residual never raises the score, a larger agreement never lowers it.
    """

    entry: ClassVar[str] = 'score_depth'
    limits: ClassVar[Mapping[str, tuple[float, float]]] = _LIMITS

    bias: float
    score_gain: float
    agreement_gain: float
    residual_gain: float

    def score(self, score: float, fit: DepthFit, diameter_m: float) -> float:
        """Return the score of a pose that depth has corrected, 0..1."""
        return float(sigmoid(features(score, fit, diameter_m) @ dataclasses.astuple(self)))


def features(score: float, fit: DepthFit, diameter_m: float) -> Array:
    """Return what the score with depth depends on, (4,), in the order of the calibration."""
    return np.array([1.0, np.log(score_odds(score)), fit.agreement,
                     fit.residual_m / (RESIDUAL_UNIT * diameter_m)])


def joint_covariance(covariance: Array, fit: DepthFit) -> Array:
    """Return the covariance of a pose that the network and depth tell together.

    :param covariance: (6, 6) of the network's pose.
    """
    joint = np.linalg.inv(np.linalg.inv(covariance) + fit.information)
    t = fit.T_camera_object[:3, 3]
    along_m, across_m = SENSOR_ALONG * np.linalg.norm(t), SENSOR_ACROSS * np.linalg.norm(t)
    ray = t / np.linalg.norm(t)
    joint[:3, :3] += across_m**2 * np.eye(3) + (along_m**2 - across_m**2) * np.outer(ray, ray)
    return np.asarray((joint + joint.T) / 2)


def joint_spread(spread: PoseSpread, joint: Array, t_camera_object: Array) -> PoseSpread:
    """Return a joint covariance in the terms of a covariance model.

    :param joint: (6, 6) of :func:`joint_covariance`.
    :param t_camera_object: (3,) of the corrected pose [m].
    """
    farther = np.linalg.norm(t_camera_object) / np.linalg.norm(spread.axes_m[:, 2])
    axes_m = spread.axes_m * farther
    axes_m[:, 2] = t_camera_object
    inverse = np.linalg.inv(axes_m)
    position = inverse @ joint[:3, :3] @ inverse.T
    return PoseSpread(axes_m, position[:2, :2], float(position[2, 2]), joint[3:, 3:],
                      spread.score)
