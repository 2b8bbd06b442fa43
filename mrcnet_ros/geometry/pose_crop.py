"""From a pose to a virtual camera that sees the object there as one of its templates shows it.

The crop is the image of a camera at the same place, turned so that the object's origin is in the
middle, zoomed so that the object is as large as in a template, and rolled so that it stands as in
the template of the nearest viewing direction. What differs between crop and template is then the
angle between two directions, and what is wrong with the pose.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..specs import RefinerSpec, TemplateSpec, ViewPrior
from .crop import CropCamera, pinhole
from .rotation_grid import grid_of
from .se3 import Array, rotation_to_axis
from .view_prior import allowed_bins


def pose_crop(T_camera_object: ArrayLike, diameter_m: float, spec: TemplateSpec, grid: Array,
              allowed: NDArray[np.bool_]) -> tuple[CropCamera, int]:
    """Return the camera that sees an object at a pose as a template does, and which template.

    :param T_camera_object: (4, 4) [m] of an object as large as its mesh, in front of the camera.
    :param grid: (N, 3, 3) rotations of the templates.
    :param allowed: (N,) those that there are.
    :return: the camera, and the index of the template whose rotation is nearest to the object's
        in the crop.
    """
    T = np.asarray(T_camera_object, np.float64)
    R_to_ray, distance_m = rotation_to_axis(T[:3, 3]), float(np.linalg.norm(T[:3, 3]))
    # R_roll M is the rotation from a template to the object; its trace is largest where the angle
    # is smallest, and R_roll turns about the optical axis
    M = np.einsum('ij,nkj->nik', R_to_ray @ T[:3, :3], grid)
    x, y = M[:, 0, 0] + M[:, 1, 1], M[:, 0, 1] - M[:, 1, 0]
    largest_traces = np.hypot(x, y) + M[:, 2, 2]
    nearest = int(np.where(allowed, largest_traces, -np.inf).argmax())
    angle = np.arctan2(y[nearest], x[nearest])
    cos, sin = np.cos(angle), np.sin(angle)
    R_roll = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    focal_px = spec.relative_size * spec.size_px * distance_m / diameter_m
    return CropCamera(R_roll @ R_to_ray, pinhole(focal_px, spec.size_px), spec.size_px), nearest


def directions_seen(spec: RefinerSpec, prior: ViewPrior | None) -> NDArray[np.bool_]:
    """Return the viewing directions of a refiner that views within a prior can be near, (N,) bool.

    How the object is tilted in the image does not count: the crop is rolled.
    """
    if prior is not None:
        prior = ViewPrior(elevation_min_deg=prior.elevation_min_deg,
                          elevation_max_deg=prior.elevation_max_deg, tilt_max_deg=180.0)
    return allowed_bins(prior, grid_of(spec.bins))
