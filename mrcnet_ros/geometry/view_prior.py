"""Which rotations an object can be seen in when its poses in the world are restricted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SpecError
from ..specs import ViewPrior, from_mapping
from .rotation_grid import nearest_bin
from .se3 import Array, exp_so3

# Views that are drawn to find the bins in which an object can be seen, and how much further than
# the prior says they reach: bins are wide, and objects hardly stand as exactly as a prior.
SAMPLES = 40000
MARGIN_DEG = 8.0


def view_prior_of(value: Any) -> ViewPrior:
    """Return the view prior of a configuration or a model.

    :raises SpecError: when its fields or angles cannot be used.
    """
    if not isinstance(value, Mapping):
        raise SpecError(f'view_prior must be a mapping, got {value!r}')
    prior: ViewPrior = from_mapping(ViewPrior, value, 'view_prior')
    low, high, tilt = prior.elevation_min_deg, prior.elevation_max_deg, prior.tilt_max_deg
    if not -90 <= low < high <= 90 or not 0 < tilt <= 180:
        raise SpecError(f'view_prior must have -90 <= elevation_min_deg < elevation_max_deg <= 90 '
                        f'and 0 < tilt_max_deg <= 180, got {low}, {high} and {tilt}')
    if max(-low, high, tilt) <= math.pi:
        raise SpecError(f'view_prior is in degrees; elevations of {low} to {high} and a tilt of '
                        f'{tilt} look like radians')
    return prior


def elevation_and_tilt(R_camera_object: ArrayLike) -> tuple[Array, Array]:
    """Return how an object's z axis stands in a view along the optical axis.

    :param R_camera_object: (..., 3, 3).
    :return: elevation of the camera above the object's xy plane, and angle between the image's
        up direction and the object's z axis in the image, both (...) [rad].
    """
    R = np.asarray(R_camera_object, dtype=np.float64)
    z = R[..., :, 2]
    return np.arcsin(np.clip(-z[..., 2], -1.0, 1.0)), np.arctan2(z[..., 0], -z[..., 1])


def rotation_from_angles(azimuth: ArrayLike, elevation: ArrayLike, tilt: ArrayLike) -> Array:
    """Return R_camera_object of a camera that looks at the object's origin.

    :param azimuth: (...) of the camera about the object's z axis [rad].
    :param elevation: (...) above the xy plane [rad].
    :param tilt: (...) of the object's z axis in the image from up, positive to the right [rad].
    :return: (..., 3, 3).
    """
    a, e, s = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (azimuth, elevation, tilt)))
    toward = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], -1)
    right = np.stack([-np.sin(a), np.cos(a), np.zeros_like(a)], -1)
    upright = np.stack([right, np.cross(-toward, right), -toward], axis=-2)
    roll = exp_so3(s[..., None] * np.array([0.0, 0.0, 1.0]))
    return np.asarray(roll @ upright)


def sample_rotations(prior: ViewPrior | None, count: int, rng: np.random.Generator,
                     margin_deg: float = 0.0) -> Array:
    """Draw viewing rotations, uniform on SO(3) or on the part that a prior leaves.

    :return: (count, 3, 3) R_camera_object.
    """
    if prior is None:
        low, high, tilt_max = -90.0, 90.0, 180.0
    else:
        low = max(prior.elevation_min_deg - margin_deg, -90.0)
        high = min(prior.elevation_max_deg + margin_deg, 90.0)
        tilt_max = min(prior.tilt_max_deg + margin_deg, 180.0)
    sine = rng.uniform(np.sin(np.radians(low)), np.sin(np.radians(high)), count)
    azimuth = rng.uniform(-np.pi, np.pi, count)
    tilt = np.radians(rng.uniform(-tilt_max, tilt_max, count))
    return rotation_from_angles(azimuth, np.arcsin(sine), tilt)


def allowed_bins(prior: ViewPrior | None, grid: Array) -> NDArray[np.bool_]:
    """Return the rotation bins that views within a prior can fall into.

    :param grid: (N, 3, 3) bin centres.
    :return: (N,) bool; all true without a prior.
    """
    allowed = np.ones(len(grid), dtype=np.bool_)
    if prior is not None:
        rng = np.random.default_rng(0)
        seen = nearest_bin(sample_rotations(prior, SAMPLES, rng, MARGIN_DEG), grid)
        allowed = np.bincount(seen, minlength=len(grid)) > SAMPLES // 20000
    return allowed
