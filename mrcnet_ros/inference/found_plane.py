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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry.resting import Rests
from ..geometry.se3 import Array, exp_so3, skew
from .bodies import Bodies
from .poses import PoseEstimate

# Errors of how an object stands: of tilt [rad] and height [m], from its mesh and the surface.
TILT_RAD, HEIGHT_M = np.radians(3.0), 0.005
# Errors that all objects of an image share: their tilt [rad] and distance, as a part of it. They
# do not average out. On photographs of LM-O and T-LESS they are about as large.
SHARED_TILT_RAD, SHARED_DISTANCE = np.radians(3.0), 0.014
# Largest difference from the plane of the others, in deviations of tilt and height together.
MOST_DEVIATIONS = 2.5
# Objects that agree on a plane, at least: two always do nearly.
LEAST_OBJECTS = 3
# Planes that would be found by chance in an image of objects that stand on nothing, at most.
BY_CHANCE = 0.05
# Cosine of the largest tilt between a pose and the plane, about 35 degrees, and sine of the
# flattest angle of view: below it, a small error of height is a large one of distance.
LEAST_UPRIGHT, FLATTEST_SINE = 0.82, 0.17
# Faces of each object, the firmest ones, that planes are looked for with; and rounds of looking
# for the objects that agree, which mostly stay the same after two.
FACES, ROUNDS = 6, 4


@dataclass(frozen=True, eq=False)
class _Frame:
    """A plane that others are described in, or several of them (S).

    :param axes: (S, 3, 3) two directions in the plane and its normal, in rows; camera frame.
    :param point: (3,) near the objects [m], camera frame.
    """

    axes: Array
    point: Array


@dataclass(frozen=True, eq=False)
class _Planes:
    """The plane that each object (N) would stand on, as seen from each of several frames (S).

    :param values: (S, N, 3) two slopes of the normal, and the height [m] at the frame's point.
    :param jacobian: (S, N, 3, 6) how they change with position [m] and rotation [rad].
    :param information: (S, N, 3, 3) inverse covariance of the values.
    :param upright: (S, N) whether any face of the object is roughly below it.
    """

    values: Array
    jacobian: Array
    information: Array
    upright: NDArray[np.bool_]


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
    faces = _Faces.of(T, rests)
    point = T[:, :3, 3].mean(axis=0)
    starts = faces.below_camera()
    if not len(starts):
        return nothing
    frames = _Frame(_axes(faces.normals[starts]), point)
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
    frame = _Frame(_axes(normal[None] / np.linalg.norm(normal)),
                   point + joint[best, 2] * axes[2])
    planes = faces.planes(T, C, frame)
    _, agree, _ = _agreed(planes, np.zeros((1, 3)))
    if agree[0].sum() < LEAST_OBJECTS:
        return nothing
    return [_moved(i, T[i], C[i], planes, agree[0]) if agree[0, i] else None
            for i in range(len(T))]


@dataclass(frozen=True, eq=False)
class _Faces:
    """All faces (M) that the objects (N) can rest on, at their poses.

    :param owners: (M,) objects, in order.
    :param first: (N,) first face of each object.
    :param normals: (M, 3) camera frame.
    :param lowest_m: (M,) of the object along the normal, from its origin.
    :param heights_m: (M,) of the camera above the plane below the object.
    :param firm: (M,) whether it is one of the firmest of its object.
    """

    owners: NDArray[np.intp]
    first: NDArray[np.intp]
    normals: Array
    lowest_m: Array
    heights_m: Array
    firm: NDArray[np.bool_]

    @classmethod
    def of(cls, T: Array, rests: Sequence[Rests]) -> _Faces:
        counts = [len(item.ups) for item in rests]
        owners = np.repeat(np.arange(len(T)), counts)
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        normals = np.einsum('mij,mj->mi', T[owners, :3, :3],
                            np.concatenate([item.ups for item in rests]))
        lowest_m = np.concatenate([item.lowest_m for item in rests])
        heights_m = -np.einsum('mi,mi->m', normals, T[owners, :3, 3]) - lowest_m
        return cls(owners, first, normals, lowest_m, heights_m,
                   np.arange(len(owners)) - first[owners] < FACES)

    def below_camera(self) -> NDArray[np.intp]:
        """Return the firm faces with a plane that the camera looks down at."""
        return np.flatnonzero(self.firm & (self.heights_m > 0))

    def planes(self, T: Array, C: Array, frame: _Frame) -> _Planes:
        """Return the planes below the objects, each with the face that looks down most."""
        upright = frame.axes[:, 2] @ self.normals.T  # (S, M)
        best = np.stack([part.argmax(axis=1) + start for start, part in zip(
            self.first, np.split(upright, self.first[1:], axis=1), strict=True)], axis=1)
        n = np.einsum('sij,snj->sni', frame.axes, self.normals[best])  # in the frame's axes
        away = np.einsum('sij,nj->sni', frame.axes, T[:, :3, 3] - frame.point)
        slopes = n[..., :2] / n[..., 2:]
        height = np.einsum('sni,sni->sn', n, away) + self.lowest_m[best]
        values = np.concatenate([slopes, (height / n[..., 2])[..., None]], axis=-1)
        # a turn w changes the normal by w x n, all in the frame's axes
        turn = -skew(n)  # (S, N, 3, 3)
        J = np.zeros((*values.shape, 6))
        J[..., :2, 3:] = (turn[..., :2, :] - slopes[..., None] * turn[..., 2:, :]) / n[
            ..., 2, None, None]
        J[..., 2, :3] = n / n[..., 2:]
        J[..., 2, 3:] = (np.einsum('sni,snij->snj', away, turn)
                         - values[..., 2:] * turn[..., 2, :]) / n[..., 2:]
        to_frame = np.zeros((len(frame.axes), 6, 6))
        to_frame[:, :3, :3] = to_frame[:, 3:, 3:] = frame.axes
        J = np.einsum('snij,sjk->snik', J, to_frame)
        S = np.einsum('snij,njk,snlk->snil', J, C, J) + np.diag(
            [TILT_RAD**2, TILT_RAD**2, HEIGHT_M**2])
        down = -frame.axes[:, 2] @ T[:, :3, 3].T  # (S, N), to the plane below the camera
        flat = down < FLATTEST_SINE * np.linalg.norm(T[:, :3, 3], axis=1)
        return _Planes(values, J, np.linalg.inv(S), (n[..., 2] > LEAST_UPRIGHT) & ~flat)


def _agreed(planes: _Planes, joint: Array) -> tuple[Array, NDArray[np.bool_], Array]:
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


def _distance(planes: _Planes, joint: Array) -> Array:
    off = planes.values - joint[:, None]
    squared = np.einsum('sni,snij,snj->sn', off, planes.information, off)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def _by_chance(planes: _Planes, agree: NDArray[np.bool_], best: int, rests: Sequence[Rests],
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


def _moved(i: int, T: Array, C: Array, planes: _Planes, agree: NDArray[np.bool_]
           ) -> tuple[Array, Array] | None:
    """Return an object's pose and covariance, given the plane of the others (Kalman update)."""
    others = agree.copy()
    others[i] = False
    P = np.linalg.inv(planes.information[0, others].sum(axis=0))
    plane = P @ np.einsum('nij,nj->i', planes.information[0, others], planes.values[0, others])
    J, distance_m = planes.jacobian[0, i], float(np.linalg.norm(T[:3, 3]))
    R = P + np.diag([TILT_RAD**2 + SHARED_TILT_RAD**2] * 2
                    + [HEIGHT_M**2 + (SHARED_DISTANCE * distance_m) ** 2])
    S = J @ C @ J.T + R
    off = plane - planes.values[0, i]
    if off @ np.linalg.solve(S, off) > MOST_DEVIATIONS**2:
        return None
    gain = np.linalg.solve(S, J @ C).T
    change = gain @ off
    moved = T.copy()
    moved[:3, 3] += change[:3]
    moved[:3, :3] = exp_so3(change[3:]) @ T[:3, :3]
    kept = np.eye(6) - gain @ J
    left = kept @ C @ kept.T + gain @ R @ gain.T
    left[3:, 3:] = C[3:, 3:]  # that it stands flat is less sure than that it touches the plane
    return moved, np.asarray((left + left.T) / 2)


def _axes(normals: Array) -> Array:
    """Return two directions in each plane and its normal, in rows, (S, 3, 3)."""
    side = np.where(np.abs(normals[:, :1]) < 0.7, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    right = np.cross(normals, side)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(normals, right), normals], axis=1)
