"""How far a pose may be off, and how well a corrected one agrees with a depth image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry.se3 import Array
from .depth_look import CONTRADICTION, SMALLEST_KERNEL_M, Look, median

# A measured point agrees with the pose if it is this near to the surface, in diameters. The same
# value is the deviation of a distance that was found without the whole pose.
AGREEMENT = 0.03


@dataclass(frozen=True, eq=False)
class PoseDoubt:
    """How far a pose may be off, one standard deviation.

    :param along: of the distance, as a part of it.
    :param across: of the position across the ray, as a part of the distance.
    :param rotation_rad: about each axis.
    """

    along: float = 0.06
    across: float = 0.008
    rotation_rad: float = 0.25


@dataclass(frozen=True, eq=False)
class DepthFit:
    """A pose and how well it agrees with the depth image.

    :param T_camera_object: (4, 4) [m].
    :param used: ``'none'`` when depth says nothing about the object, ``'distance'`` when only the
        distance was corrected, ``'pose'`` when the whole pose was.
    :param agreement: part of the surface that should be seen and is not hidden by other things
        that lies where the pose says, 0 to 1.
    :param residual_m: median distance between pose and measured surface there; nan without.
    :param points: measured points on the object.
    :param information: (6, 6) what depth adds to the inverse covariance of x, y, z [1/m^2] and
        rotation [1/rad^2], along the camera's axes; zero when depth was not used.
    """

    T_camera_object: Array
    used: str
    agreement: float
    residual_m: float
    points: int
    information: Array

    @property
    def is_used(self) -> bool:
        """Return whether depth has corrected the pose."""
        return self.used != 'none'


def fits_of(look: Look, T: Array, diameter_m: Array, used: str) -> list[DepthFit]:
    """Say how well poses agree with the depth image."""
    ahead, off_m = look.ahead_m, np.abs(look.off_m)
    limit_m = np.maximum(AGREEMENT * diameter_m, SMALLEST_KERNEL_M)[:, None]
    on = look.known & (off_m < limit_m)
    against = look.known & (ahead > CONTRADICTION * diameter_m[:, None]) & ~on
    count, residual_m = on.sum(axis=1), median(off_m, on)
    agreement = count / np.maximum(count + against.sum(axis=1), 1)
    return [DepthFit(T[i], used, float(agreement[i]), float(residual_m[i]), int(count[i]),
                     np.zeros((6, 6))) for i in range(len(T))]


def distance_information(fit: DepthFit, diameter_m: float) -> Array:
    """Return what a measured distance alone says: the position along the ray."""
    t = fit.T_camera_object[:3, 3]
    ray = t / np.linalg.norm(t)
    information = np.zeros((6, 6))
    information[:3, :3] = np.outer(ray, ray) / (AGREEMENT * diameter_m) ** 2
    return information
