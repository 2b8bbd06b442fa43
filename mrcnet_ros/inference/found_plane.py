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
from .detection_choice import LEAST_DIAMETERS, same_place
from .poses import PoseEstimate
from .resting_bodies import Bodies
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

    def correct(self, poses: Sequence[PoseEstimate],
                chosen: Sequence[PoseEstimate] | None = None) -> list[PoseEstimate]:
        """Return the poses, those corrected that stand on a common plane.

        Poses with depth say where the plane is, and stay. Poses without a covariance count for
        nothing.

        :param poses: of one image, of the centred frames.
        :param chosen: those of ``poses`` that tell where the plane is; None for all.
        """
        rests = [self._bodies[pose.label].rests for pose in poses]
        known = [i for i, pose in enumerate(poses)
                 if pose.covariance is not None and len(rests[i].ups)]
        if len(known) < LEAST_OBJECTS:
            return list(poses)
        T = np.array([poses[i].T_camera_object for i in known])
        C = np.array([poses[i].covariance for i in known])
        moved = settled(T, C, [rests[i] for i in known],
                        speakers([poses[i] for i in known], self._bodies, chosen))
        corrected = list(poses)
        for i, change in zip(known, moved, strict=True):
            if change is not None and not poses[i].by_depth:
                corrected[i] = dataclasses.replace(poses[i], T_camera_object=change[0],
                                                   covariance=change[1], stands=True)
        return corrected


def speakers(poses: Sequence[PoseEstimate], bodies: Bodies,
             chosen: Sequence[PoseEstimate] | None = None) -> NDArray[np.intp]:
    """Return which pose speaks for the object of each: the surest one in its place, (N,).

    A detector may have several boxes of one object. Their poses agree on a plane whatever the
    object stands on, so together they count as one. A pose that is not chosen says nothing. If
    a chosen pose is in its place, that one speaks for it; otherwise the least sure chosen pose of
    its label does. A pose is moved to the plane of the others, without the one that speaks for it.

    :param poses: of the centred frames.
    :param chosen: those of ``poses`` that may speak; None for all.
    :return: rows; N for a pose that nothing speaks for.
    """
    may = {id(pose) for pose in (poses if chosen is None else chosen)}
    found = np.full(len(poses), len(poses))
    order = sorted(range(len(poses)), key=lambda i: (id(poses[i]) not in may, -poses[i].presence))
    for i in order:
        heard = [j for j in order if found[j] == j]
        found[i] = next((j for j in heard if _one_object(poses[i], poses[j], bodies)),
                        i if id(poses[i]) in may else
                        next((j for j in heard[::-1] if poses[j].label == poses[i].label),
                             len(poses)))
    return found


def _one_object(a: PoseEstimate, b: PoseEstimate, bodies: Bodies) -> bool:
    """Tell whether two poses can only be those of one object, whatever it is called."""
    diameter_m = min(bodies[a.label].diameter_m, bodies[b.label].diameter_m)
    if a.label == b.label:
        return same_place(a.T_camera_object, b.T_camera_object, diameter_m)
    apart_m = np.linalg.norm(a.T_camera_object[:3, 3] - b.T_camera_object[:3, 3])
    return bool(apart_m < LEAST_DIAMETERS * diameter_m)


def settled(T: Array, C: Array, rests: Sequence[Rests], speaker: NDArray[np.intp]
            ) -> list[tuple[Array, Array] | None]:
    """Return corrected poses and covariances of the objects that stand on a common plane.

    :param T: (N, 4, 4) poses in the camera frame [m].
    :param C: (N, 6, 6) their covariances: position [m^2], then rotation about the camera's axes.
    :param rests: how each object can rest.
    :param speaker: (N,) of :func:`speakers`. Only those that speak tell the plane.
    :return: ((4, 4), (6, 6)) of each object that stands, None for the others.
    """
    nothing: list[tuple[Array, Array] | None] = [None] * len(T)
    faces, speaks = Faces.of(T, rests), speaker == np.arange(len(T))
    places = T[speaks, :3, 3]
    if not len(places):
        return nothing
    point = places.mean(axis=0)
    starts = faces.below_camera()
    starts = starts[speaks[faces.owners[starts]]]
    if not len(starts):
        return nothing
    frames = Frame(axes_of(faces.normals[starts]), point)
    planes = faces.planes(T, C, frames)
    start = planes.values[np.arange(len(starts)), faces.owners[starts]]
    joint, agree, distance = _agreed(planes, start, speaks)
    tell = agree & speaks
    score = np.where(tell, 1 - (distance / MOST_DEVIATIONS) ** 2, 0.0).sum(axis=1)
    best = int(np.argmax(score))
    others = speaks & (np.arange(len(T)) != faces.owners[starts[best]])
    if tell[best].sum() < LEAST_OBJECTS or _by_chance(
            planes, tell[best], best, rests, others,
            float(2 * np.linalg.norm(places - point, axis=1).max())) > BY_CHANCE:
        return nothing
    # once more from the plane that they agree on
    axes = frames.axes[best]
    normal = axes[2] + joint[best, :2] @ axes[:2]
    frame = Frame(axes_of(normal[None] / np.linalg.norm(normal)),
                   point + joint[best, 2] * axes[2])
    planes = faces.planes(T, C, frame)
    _, agree, _ = _agreed(planes, np.zeros((1, 3)), speaks)
    tell = agree[0] & speaks
    if tell.sum() < LEAST_OBJECTS:
        return nothing
    return [_moved(i, T[i], C[i], planes, tell & (speaker != speaker[i])) if agree[0, i] else None
            for i in range(len(T))]


def _agreed(planes: Planes, joint: Array, speaks: NDArray[np.bool_]
            ) -> tuple[Array, NDArray[np.bool_], Array]:
    """Return the planes that most objects agree on, who does, and how far all are from them.

    :param joint: (S, 3) planes to begin with.
    :param speaks: (N,) whose planes count.
    :return: (S, 3), (S, N) bool, (S, N) [deviations].
    """
    distance = _distance(planes, joint)
    agree = planes.upright & (distance < MOST_DEVIATIONS)
    for _ in range(ROUNDS):
        tell = agree & speaks
        known = np.where(tell[..., None, None], planes.information, 0.0)
        total = known.sum(axis=1)
        total[~tell.any(axis=1)] = np.eye(3)
        told = np.einsum('snij,snj->si', known, planes.values)
        joint = np.linalg.solve(total, told[..., None])[..., 0]
        distance = _distance(planes, joint)
        agree = planes.upright & (distance < MOST_DEVIATIONS)
    return joint, agree, distance


def _distance(planes: Planes, joint: Array) -> Array:
    off = planes.values - joint[:, None]
    squared = np.einsum('sni,snij,snj->sn', off, planes.information, off)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def _by_chance(planes: Planes, tell: NDArray[np.bool_], best: int, rests: Sequence[Rests],
               others: NDArray[np.bool_], width_m: float) -> float:
    """Return how many planes like this one chance makes of objects that stand on nothing.

    Each object is turned at random, at a random height between the lowest and the highest that
    fit into the width of the scene; the one that a plane was looked for with agrees in any case.

    :param tell: (N,) who agrees.
    :param others: (N,) all objects but the one that this plane was looked for with.
    """
    S = np.linalg.inv(planes.information[best])
    tilt = MOST_DEVIATIONS * np.sqrt((S[:, 0, 0] + S[:, 1, 1]) / 2)
    height_m = 2 * MOST_DEVIATIONS * np.sqrt(S[:, 2, 2])
    chance = np.array([item.chance(a) for item, a in zip(rests, tilt, strict=True)])
    chance *= np.minimum(height_m / np.maximum(width_m, 1e-9), 1.0)
    counts = np.array([1.0])
    for p in chance[others]:  # how many agree: sums of unlike coins
        counts = np.convolve(counts, [1 - p, p])
    found = int(tell[others].sum())
    return float(len(planes.values) * counts[found:].sum())


def _moved(i: int, T: Array, C: Array, planes: Planes, others: NDArray[np.bool_]
           ) -> tuple[Array, Array] | None:
    """Return an object's pose and covariance, given the plane of the others."""
    P = np.linalg.inv(planes.information[0, others].sum(axis=0))
    plane = P @ np.einsum('nij,nj->i', planes.information[0, others], planes.values[0, others])
    far_m = SHARED_DISTANCE * float(np.linalg.norm(T[:3, 3]))
    R = P + np.diag([TILT_RAD**2 + SHARED_TILT_RAD**2] * 2 + [HEIGHT_M**2 + far_m**2])
    return moved(T, C, planes, i, plane, R)
