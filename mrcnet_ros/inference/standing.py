"""How objects stand on a plane, and what that tells of their poses.

The pose of an object and each face that it can rest on tell a plane: the object would stand on it.
A plane that is known, or that others tell, corrects the pose as far as the covariances of both say
(a Kalman update): the distance above all, and the tilt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry.resting import Rests
from ..geometry.se3 import Array, displaced, skew

# Errors of how an object stands: of tilt [rad] and height [m], from its mesh and the surface.
TILT_RAD, HEIGHT_M = np.radians(3.0), 0.005
# Largest difference between the plane of an object and another, in deviations of tilt and height
# together.
MOST_DEVIATIONS = 2.5
# Cosine of the largest tilt between a pose and the plane, about 35 degrees, and sine of the
# flattest angle of view: below it, a small error of height is a large one of distance.
LEAST_UPRIGHT, FLATTEST_SINE = 0.82, 0.17
# Faces of each object, the first ones, that planes are looked for with.
FACES = 6


@dataclass(frozen=True, eq=False)
class Frame:
    """A plane that others are described in, or several of them (S).

    :param axes: (S, 3, 3) two directions in the plane and its normal, in rows; camera frame.
    :param point: (3,) near the objects [m], camera frame.
    """

    axes: Array
    point: Array


@dataclass(frozen=True, eq=False)
class Planes:
    """The plane that each object (N) would stand on, as seen from each of several frames (S).

    :param values: (S, N, 3) two slopes of the normal, and the height [m] at the frame's point; of
        objects that are not upright in a frame any finite numbers, like the other two.
    :param jacobian: (S, N, 3, 6) how they change with position [m] and rotation [rad].
    :param information: (S, N, 3, 3) inverse covariance of the values.
    :param upright: (S, N) whether any face of the object is roughly below it.
    """

    values: Array
    jacobian: Array
    information: Array
    upright: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Faces:
    """All faces (M) that the objects (N) can rest on, at their poses.

    :param owners: (M,) objects, in order.
    :param first: (N,) first face of each object.
    :param normals: (M, 3) camera frame.
    :param lowest_m: (M,) of the object along the normal, from its origin.
    :param heights_m: (M,) of the camera above the plane below the object.
    :param firm: (M,) whether it is one of the first ones of its object.
    """

    owners: NDArray[np.intp]
    first: NDArray[np.intp]
    normals: Array
    lowest_m: Array
    heights_m: Array
    firm: NDArray[np.bool_]

    @classmethod
    def of(cls, T: Array, rests: Sequence[Rests]) -> Faces:
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

    def planes(self, T: Array, C: Array, frame: Frame) -> Planes:
        """Return the planes below the objects, each with the face that looks down most."""
        upright = frame.axes[:, 2] @ self.normals.T  # (S, M)
        best = np.stack([part.argmax(axis=1) + start for start, part in zip(
            self.first, np.split(upright, self.first[1:], axis=1), strict=True)], axis=1)
        n = np.einsum('sij,snj->sni', frame.axes, self.normals[best])  # in the frame's axes
        level = n[..., 2] > LEAST_UPRIGHT
        n = np.where(level[..., None], n, [0.0, 0.0, 1.0])  # one on edge has no slopes
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
        return Planes(values, J, np.linalg.inv(S), level & ~flat)


def moved(T: Array, C: Array, planes: Planes, i: int, plane: Array, R: Array
          ) -> tuple[Array, Array] | None:
    """Return the pose and covariance of an object that stands on a plane (Kalman update).

    :param T: (4, 4) its pose [m], and (6, 6) the covariance of it.
    :param planes: of all objects, in one frame; ``i`` is the object's place.
    :param plane: (3,) that it stands on, in the terms of :attr:`Planes.values`.
    :param R: (3, 3) covariance of ``plane`` and of how the object stands.
    :return: (4, 4) and (6, 6); None when it differs too much to stand there.
    """
    J, off = planes.jacobian[0, i], plane - planes.values[0, i]
    S = J @ C @ J.T + R
    if not planes.upright[0, i] or off @ np.linalg.solve(S, off) > MOST_DEVIATIONS**2:
        return None
    gain = np.linalg.solve(S, J @ C).T
    kept = np.eye(6) - gain @ J
    left = kept @ C @ kept.T + gain @ R @ gain.T
    left[3:, 3:] = C[3:, 3:]  # that it stands flat is less sure than that it touches the plane
    return displaced(T, gain @ off), np.asarray((left + left.T) / 2)


def axes_of(normals: Array) -> Array:
    """Return two directions in each plane and its normal, in rows, (S, 3, 3)."""
    side = np.where(np.abs(normals[:, :1]) < 0.7, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    right = np.cross(normals, side)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(normals, right), normals], axis=1)
