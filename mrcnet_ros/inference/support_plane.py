"""Corrects distances by a plane that objects stand on.

A colour image gives direction and rotation well, but not the distance. An object that stands on a
known plane is at the distance at which its lowest point touches the plane. An object that is held
or lies on others is not moved: its lowest point is further from the plane than its distance may be
wrong, or it would fall over in this rotation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ..errors import SpecError
from ..geometry.se3 import Array
from .bodies import Bodies, Body
from .depth_correction import doubt_of
from .depth_fit import PoseDoubt
from .poses import PoseEstimate

# Largest correction of the distance in its deviations, and largest distance of the lowest point
# from the plane in diameters: an object that is higher stands on something else.
MOST_DEVIATIONS, HIGHEST = 2.0, 0.15
# Sine of the flattest angle of view: below it, a small error of height is a large error of
# distance.
FLATTEST_SINE = 0.17
# Largest tilt of a pose against the rotation at rest: in its deviations, and its limits.
TILT_DEVIATIONS, TILT_RAD = 2.0, (np.radians(5.0), np.radians(15.0))
# An object does not fall over if its middle is above the area that touches the plane, this many
# diameters inside its border.
INSIDE = 0.02
# Errors of height: of plane and mesh [m], and for each radian of rotation [diameters].
PLANE_M, LEVER = 0.003, 0.25


def checked_plane(plane: ArrayLike) -> Array:
    """Return a plane with a normal of unit length, (4,).

    :param plane: (4,) a, b, c [any unit] and d [m times that unit]: ``a x + b y + c z + d = 0`` in
        the camera frame. Convention: (a, b, c) points to the side that the objects are on.
    :raises SpecError: when it is no plane, or the camera is not on the side of the objects.
    """
    try:
        given = np.asarray(plane, dtype=np.float64)
    except (TypeError, ValueError):
        given = np.empty(0)
    length = np.linalg.norm(given[:3]) if given.shape == (4,) else 0.0
    if not np.isfinite(given).all() or not length > 0:
        raise SpecError(f'support_plane must be four finite numbers a, b, c, d of a plane '
                        f'a x + b y + c z + d = 0 in the camera frame, got {plane!r}')
    if given[3] <= 0:
        raise SpecError('support_plane must face the camera: its normal (a, b, c) points to the '
                        f'side of the objects and d is positive; got {given.tolist()}')
    return np.asarray(given / length)


def plane_of_frame(T_camera_plane: Array) -> Array:
    """Return the plane z = 0 of a frame whose z axis points up, (4,), camera frame.

    :param T_camera_plane: (4, 4) [m].
    """
    normal = T_camera_plane[:3, 2]
    return np.append(normal, -normal @ T_camera_plane[:3, 3])


def standing(body: Body, T_camera_object: Array, plane: Array, doubt: PoseDoubt) -> Array | None:
    """Return the pose moved along its ray until it touches the plane; None when it stands not.

    :param T_camera_object: (4, 4) [m].
    :param plane: (4,) of :func:`checked_plane`.
    """
    t, up = T_camera_object[:3, 3], plane[:3]
    distance_m = float(np.linalg.norm(t))
    heights = body.corners @ (T_camera_object[:3, :3].T @ up)
    lowest = float(heights.min())
    climb = float(up @ t)
    if abs(climb) < FLATTEST_SINE * distance_m:
        return None
    change = -(plane[3] + lowest) / climb - 1.0
    gap_m = climb + plane[3] + lowest
    if abs(change) > MOST_DEVIATIONS * doubt.along or abs(gap_m) > HIGHEST * body.diameter_m:
        return None
    if not _rests(body, T_camera_object[:3, :3], up, heights - lowest, doubt.rotation_rad):
        return None
    T = T_camera_object.copy()
    T[:3, 3] *= 1.0 + change
    return T


def plane_information(T_camera_object: Array, plane: Array, doubt: PoseDoubt,
                      diameter_m: float) -> Array:
    """Return what the plane adds to the inverse covariance of a pose that stands on it, (6, 6)."""
    ray = T_camera_object[:3, 3] / np.linalg.norm(T_camera_object[:3, 3])
    height_m = np.hypot(PLANE_M, LEVER * diameter_m * doubt.rotation_rad)
    information = np.zeros((6, 6))
    information[:3, :3] = np.outer(ray, ray) * (float(plane[:3] @ ray) / height_m) ** 2
    return information


def _rests(body: Body, R: Array, up: Array, heights: Array, rotation_rad: float) -> bool:
    """Tell whether an object would stay as it is, tilted a little, on a plane below it.

    :param heights: (V,) of the corners above the lowest one [m].
    """
    right = np.cross(up, (1.0, 0.0, 0.0) if abs(up[0]) < 0.7 else (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    flat = np.stack([right, np.cross(up, right)]) @ R
    points, middle = body.corners @ flat.T, flat @ body.middle
    away_m = np.linalg.norm(points - points[np.argmin(heights)], axis=1)
    tilt = np.tan(np.clip(TILT_DEVIATIONS * rotation_rad, *TILT_RAD))
    touching = points[heights <= tilt * away_m + 1e-9]
    if len(touching) < 3:
        return False
    hull = cv2.convexHull(touching.astype(np.float32))
    inside_m = cv2.pointPolygonTest(hull, (float(middle[0]), float(middle[1])), True)
    return bool(inside_m >= INSIDE * body.diameter_m)


class SupportCorrection:
    """Moves objects that stand on a plane along their rays until they touch it.

    :param bodies: of all objects.
    """

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    def correct(self, poses: Sequence[PoseEstimate], plane: Array) -> list[PoseEstimate]:
        """Return the poses, those corrected that stand on the plane.

        Depth knows better: what it has corrected stays.

        :param plane: (4,) of :func:`.support_plane.checked_plane`, camera frame.
        """
        return [pose if pose.depth is not None and pose.depth.used != 'none'
                else self._correct(pose, plane) for pose in poses]

    def _correct(self, pose: PoseEstimate, plane: Array) -> PoseEstimate:
        body, doubt = self._bodies[pose.label], doubt_of(pose)
        T = standing(body, pose.T_camera_object, plane, doubt)
        if T is None:
            return pose
        C = pose.covariance
        if C is not None:
            told = plane_information(T, plane, doubt, body.diameter_m)
            joint = np.linalg.inv(np.linalg.inv(C) + told)
            C = np.asarray((joint + joint.T) / 2, np.float64)
        # the distance is uncertain no more
        return dataclasses.replace(pose, T_camera_object=T, covariance=C, stands=True,
                                   score=max(pose.score, pose.presence), usual_score=None)
