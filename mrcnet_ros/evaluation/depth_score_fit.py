"""Calibrates the scores of poses that depth has corrected."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ..errors import DatasetError
from ..geometry.se3 import Array
from ..geometry.spread import sigmoid
from ..inference.depth_law import DepthScoreLaw, features
from ..objects import ObjectModel
from .compared_object import ComparedObject
from .covariance_errors import truths_of
from .enough_poses import MIN_POSES
from .left_out import each_left_out
from .runner import Run
from .score_fit import auroc

RIGHT = 0.1  # diameters: the largest error of the surface of a pose that counts as right
PARTS = 5  # of the poses, left out in turn
NUMBERS = tuple(field.name for field in dataclasses.fields(DepthScoreLaw))
# Prior of the gains and its deviation: half of the gains of models/demo, from 325 poses, many of
# them wrong. Where depth corrects nearly all poses, the few wrong ones do not determine gains. On
# 752 generated poses of models/lmo, 7 of them wrong, calibrations fitted to one of three sets had
# a log loss of 0.01 to 0.14 on the others; that of the network's score was 0.32 to 0.44. Without
# this prior, the loss was up to 0.26.
_EXPECTED, _DEVIATION = np.array([0.4, 6.0, -1.8]), np.array([0.5, 6.0, 1.5])


def fit_depth_score_law(inputs: Array, right: NDArray[np.bool_]) -> DepthScoreLaw:
    """Return the likeliest calibration, with gains near those that are expected.

    Half a right and half a wrong pose with usual inputs are added, so that no score is 0 or 1.

    :param inputs: (N, 4) of :func:`mrcnet_ros.inference.depth_law.features`.
    :param right: (N,).
    :raises DatasetError: when there are too few poses to tell.
    """
    if len(right) < MIN_POSES:
        raise DatasetError(f'{len(right)} poses that depth has corrected are too few to fit a '
                           f'score: {MIN_POSES} are needed')
    return _fitted(inputs, right)


def _fitted(inputs: Array, right: NDArray[np.bool_]) -> DepthScoreLaw:
    sign, usual = np.where(right, 1.0, -1.0), inputs.mean(axis=0)

    def loss(x: Array) -> float:
        likelihood = np.logaddexp(0.0, -sign * (inputs @ x)).sum()
        likelihood += np.logaddexp(0.0, usual @ x * np.array([-1.0, 1.0])).sum() / 2
        off = (x[1:] - _EXPECTED) / _DEVIATION
        return float(likelihood + off @ off / 2) / len(inputs)

    bounds = [DepthScoreLaw.limits[name] for name in NUMBERS]
    found = minimize(loss, (0.0, *_EXPECTED), method='L-BFGS-B', bounds=bounds)
    return DepthScoreLaw(**dict(zip(NUMBERS, map(float, found.x), strict=True)))


def score_inputs(done: Run, objects: Mapping[str, ObjectModel]
                 ) -> tuple[Array, NDArray[np.bool_]]:
    """Return the inputs of scores with depth, and which of the poses are right.

    Poses that depth has not corrected, poses without a spread, and those of which the truth is not
    clear are left out.

    :param objects: of the model that made the poses, by label.
    :return: (N, 4) inputs, (N,) whether right.
    """
    items = {label: ComparedObject(model, symmetries=model.real_symmetries,
                                   scale=model.size_ratio) for label, model in objects.items()}
    inputs, right = [], []
    for pose, truth in zip(done.poses, truths_of(done.frames, done.rows), strict=True):
        fit = pose.depth
        if truth is not None and fit is not None and fit.is_used and pose.spread is not None:
            model = objects[pose.label]
            inputs.append(features(pose.spread.score, fit, model.real_diameter_m))
            nearest = items[pose.label].nearest(pose.T_camera_object, truth.T_camera_object)
            right.append(nearest.mssd_m < RIGHT * model.real_diameter_m)
    return np.array(inputs).reshape(-1, 4), np.array(right, bool)


@dataclass(frozen=True)
class DepthScoreReport:
    """How good scores with depth are on poses that were left out of the fit.

    :param auroc: the probability that a right pose has a higher score than a wrong one.
    :param auroc_network: the same of the network's own scores.
    :param mean_right: mean score of right poses.
    :param mean_wrong: mean score of wrong poses.
    """

    auroc: float
    auroc_network: float
    mean_right: float
    mean_wrong: float


def score_report(inputs: Array, right: NDArray[np.bool_]) -> DepthScoreReport:
    """Score each fifth of the poses by a calibration that was fitted to the others.

    :param right: (N,), some right and some wrong.
    """
    # the order of poses is that of objects in images: every fifth may be of one object
    part = np.random.default_rng(0).permutation(len(right)) % PARTS
    scores = np.zeros(len(right))
    for left_out in each_left_out(part):
        law = _fitted(inputs[~left_out], right[~left_out])
        scores[left_out] = sigmoid(inputs[left_out] @ dataclasses.astuple(law))
    return DepthScoreReport(auroc(scores, right), auroc(inputs[:, 1], right),
                            float(scores[right].mean()), float(scores[~right].mean()))
