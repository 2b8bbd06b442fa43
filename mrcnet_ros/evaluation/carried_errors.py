"""Errors of poses relative to the viewing ray, so that they can be carried over to other poses.

An error has three parts: a rotation, an offset across the viewing ray through the object's true
middle in diameters, and a ratio of distances. It can be applied to another view of the object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry.se3 import Array, make_transform, rotation_angle, rotation_to_axis
from ..objects import ObjectModel
from .recall import MSPD_REFERENCE_WIDTH_PX, MSPD_THRESHOLDS, MSSD_THRESHOLDS
from .scores import ScoredObject, is_near


@dataclass(frozen=True, eq=False)
class CarriedError:
    """How an estimate differs from the nearest symmetric equivalent of the truth.

    :param R: (3, 3) that turns the true rotation into the estimated one, in a frame whose z axis
        is the ray to the true middle.
    :param lateral: (2,) offset of the estimated ray at the true distance, in diameters.
    :param log_distance: logarithm of estimated over true distance.
    """

    R: Array
    lateral: Array
    log_distance: float

    @property
    def rotation_deg(self) -> float:
        """Angle of the rotation."""
        return float(np.degrees(rotation_angle(self.R)))

    @property
    def depth_percent(self) -> float:
        """Absolute error of the distance."""
        return float(100 * abs(np.expm1(self.log_distance)))


def pose_error(T_est: Array, T_true: Array, item: ScoredObject) -> CarriedError | None:
    """Return the error of an estimate; None when it lies behind the camera.

    :param T_est: (4, 4) T_camera_object [m].
    :param T_true: (4, 4) T_camera_object [m].
    """
    T_est, T_near = item.at_middle(T_est), item.at_middle(item.closest(T_est, T_true))
    R_ray = rotation_to_axis(T_near[:3, 3])
    distance_m = float(np.linalg.norm(T_near[:3, 3]))
    x, y, z = R_ray @ T_est[:3, 3]
    if z <= 0:
        return None
    lateral = np.array([x, y]) / z * distance_m / item.model.diameter_m
    R = R_ray @ T_est[:3, :3] @ T_near[:3, :3].T @ R_ray.T
    return CarriedError(R, lateral, float(np.log(z / distance_m)))


def carried(error: CarriedError, T_true: Array, item: ScoredObject) -> Array:
    """Return the estimate that has an error at another pose, (4, 4) [m].

    :param T_true: (4, 4) T_camera_object [m].
    """
    T_true = item.at_middle(T_true)
    R_ray = rotation_to_axis(T_true[:3, 3])
    distance_m = float(np.linalg.norm(T_true[:3, 3]))
    z = distance_m * np.exp(error.log_distance)
    xy = error.lateral * item.model.diameter_m / distance_m * z
    R = R_ray.T @ error.R @ R_ray @ T_true[:3, :3]
    return make_transform(R, R_ray.T @ np.array([*xy, z]) - R @ item.middle_m)


@dataclass(frozen=True)
class Worth:
    """The scores of an estimate in a dataset.

    :param mssd_met: share of the MSSD thresholds that it meets.
    :param mspd_met: share of the MSPD thresholds that it meets.
    :param near: whether it is near enough to the truth for most grippers.
    """

    mssd_met: float
    mspd_met: float
    near: bool

    @property
    def mean(self) -> float:
        """Mean of both, whose mean over all targets is the AR."""
        return (self.mssd_met + self.mspd_met) / 2


MISSED = Worth(0.0, 0.0, False)  # of a target without a pose


def worth(T_est: Array, T_true: Array, item: ScoredObject, K: Array, width_px: int) -> Worth:
    """Score one estimate of the only instance of an object, as BOP does.

    :param K: (3, 3) of the image [px].
    """
    model: ObjectModel = item.model
    surface = item.mssd(T_est, T_true) / model.diameter_m
    projected = item.mspd(T_est, T_true, K)
    scaled_px = projected * MSPD_REFERENCE_WIDTH_PX / width_px
    return Worth(float(np.mean(surface < MSSD_THRESHOLDS)),
                 float(np.mean(scaled_px < MSPD_THRESHOLDS)),
                 is_near(item.difference(T_est, T_true), model.diameter_m))
