"""Finds the plane that the objects of an image stand on together, and corrects their poses by it.

One camera tells the distance and the tilt of each object poorly. Objects on one table tell them
together: each would stand on a plane with one of the faces that it can rest on, and the planes of
most of them are nearly the same. Errors of single objects average out in the common plane, and
each object that agrees with it is moved towards where it stands on the plane of the others, as far
as its own covariance and theirs say. No plane is taken that chance could have made, such as from
objects in a heap. Objects that do not stand on it keep their poses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..geometry.resting import Rests
from ..geometry.se3 import Array
from .bodies import Bodies
from .poses import PoseEstimate
from .standing import HEIGHT_M, MOST_DEVIATIONS, TILT_RAD, Faces, Frame, Planes, axes_of, moved

# Errors that all objects of an image share: their tilt [rad] and distance, as a part of it. They
# do not average out. On photographs of LM-O and T-LESS they are about as large.
SHARED_TILT_RAD, SHARED_DISTANCE = np.radians(3.0), 0.014
# Objects that agree on a plane, at least: two always do nearly.
LEAST_OBJECTS = 3
# Planes that would be found by chance in an image of objects that stand on nothing, at most.
BY_CHANCE = 0.05
# Rounds of looking for the objects that agree, which mostly stay the same after two.
ROUNDS = 4


class PlaneFinder:
    """Moves objects towards the plane that they stand on together.

    :param bodies: of all objects.
    """

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    def correct(self, poses: Sequence[PoseEstimate]) -> list[PoseEstimate]:
        """Return the poses, those corrected that stand on a common plane.

        Poses with depth say where the plane is, and stay. Poses without a covariance count for
        nothing.

        :param poses: of one image, of the centred frames.
        """
        rests = [self._bodies[pose.label].rests for pose in poses]
        known = [i for i, pose in enumerate(poses)
                 if pose.covariance is not None and len(rests[i].ups)]
        if len(known) < LEAST_OBJECTS:
            return list(poses)
        T = np.array([poses[i].T_camera_object for i in known])
        C = np.array([poses[i].covariance for i in known])
        moved = settled(T, C, [rests[i] for i in known])
        corrected = list(poses)
        for i, change in zip(known, moved, strict=True):
            if change is not None and not _measured(poses[i]):
                corrected[i] = dataclasses.replace(poses[i], T_camera_object=change[0],
                                                   covariance=change[1], stands=True)
        return corrected


def _measured(pose: PoseEstimate) -> bool:
    return pose.depth is not None and pose.depth.used != 'none'


def settled(T: Array, C: Array, rests: Sequence[Rests]) -> list[tuple[Array, Array] | None]:
    """Return corrected poses and covariances of the objects that stand on a common plane.

    :param T: (N, 4, 4) poses in the camera frame [m].
    :param C: (N, 6, 6) their covariances: position [m^2], then rotation about the camera's axes.
    :param rests: how each object can rest.
    :return: ((4, 4), (6, 6)) of each object that stands, None for the others.
    """
    nothing: list[tuple[Array, Array] | None] = [None] * len(T)
    faces = Faces.of(T, rests)
    point = T[:, :3, 3].mean(axis=0)
    starts = faces.below_camera()
    if not len(starts):
        return nothing
    frames = Frame(axes_of(faces.normals[starts]), point)
    planes = faces.planes(T, C, frames)
    start = planes.values[np.arange(len(starts)), faces.owners[starts]]
    joint, agree, distance = _agreed(planes, start)
    score = np.where(agree, 1 - (distance / MOST_DEVIATIONS) ** 2, 0.0).sum(axis=1)
    best = int(np.argmax(score))
    if agree[best].sum() < LEAST_OBJECTS or _by_chance(
            planes, agree, best, rests, int(faces.owners[starts[best]]),
            float(2 * np.linalg.norm(T[:, :3, 3] - point, axis=1).max())) > BY_CHANCE:
        return nothing
    # once more from the plane that they agree on
    axes = frames.axes[best]
    normal = axes[2] + joint[best, :2] @ axes[:2]
    frame = Frame(axes_of(normal[None] / np.linalg.norm(normal)),
                   point + joint[best, 2] * axes[2])
    planes = faces.planes(T, C, frame)
    _, agree, _ = _agreed(planes, np.zeros((1, 3)))
    if agree[0].sum() < LEAST_OBJECTS:
        return nothing
    return [_moved(i, T[i], C[i], planes, agree[0]) if agree[0, i] else None
            for i in range(len(T))]


def _agreed(planes: Planes, joint: Array) -> tuple[Array, NDArray[np.bool_], Array]:
    """Return the planes that most objects agree on, who does, and how far all are from them.

    :param joint: (S, 3) planes to begin with.
    :return: (S, 3), (S, N) bool, (S, N) [deviations].
    """
    distance = _distance(planes, joint)
    agree = planes.upright & (distance < MOST_DEVIATIONS)
    for _ in range(ROUNDS):
        known = np.where(agree[..., None, None], planes.information, 0.0)
        total = known.sum(axis=1)
        total[~agree.any(axis=1)] = np.eye(3)
        told = np.einsum('snij,snj->si', known, planes.values)
        joint = np.linalg.solve(total, told[..., None])[..., 0]
        distance = _distance(planes, joint)
        agree = planes.upright & (distance < MOST_DEVIATIONS)
    return joint, agree, distance


def _distance(planes: Planes, joint: Array) -> Array:
    off = planes.values - joint[:, None]
    squared = np.einsum('sni,snij,snj->sn', off, planes.information, off)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def _by_chance(planes: Planes, agree: NDArray[np.bool_], best: int, rests: Sequence[Rests],
               own: int, width_m: float) -> float:
    """Return how many planes like this one chance makes of objects that stand on nothing.

    Each object is turned at random, at a random height between the lowest and the highest that
    fit into the width of the scene; the one that a plane was looked for with agrees in any case.
    """
    S = np.linalg.inv(planes.information[best])
    tilt = MOST_DEVIATIONS * np.sqrt((S[:, 0, 0] + S[:, 1, 1]) / 2)
    height_m = 2 * MOST_DEVIATIONS * np.sqrt(S[:, 2, 2])
    chance = np.array([item.chance(a) for item, a in zip(rests, tilt, strict=True)])
    chance *= np.minimum(height_m / np.maximum(width_m, 1e-9), 1.0)
    others = np.arange(len(rests)) != own
    counts = np.array([1.0])
    for p in chance[others]:  # how many agree: sums of unlike coins
        counts = np.convolve(counts, [1 - p, p])
    found = int(agree[best, others].sum())
    return float(len(planes.values) * counts[found:].sum())


def _moved(i: int, T: Array, C: Array, planes: Planes, agree: NDArray[np.bool_]
           ) -> tuple[Array, Array] | None:
    """Return an object's pose and covariance, given the plane of the others."""
    others = agree.copy()
    others[i] = False
    P = np.linalg.inv(planes.information[0, others].sum(axis=0))
    plane = P @ np.einsum('nij,nj->i', planes.information[0, others], planes.values[0, others])
    far_m = SHARED_DISTANCE * float(np.linalg.norm(T[:3, 3]))
    R = P + np.diag([TILT_RAD**2 + SHARED_TILT_RAD**2] * 2 + [HEIGHT_M**2 + far_m**2])
    return moved(T, C, planes, i, plane, R)
