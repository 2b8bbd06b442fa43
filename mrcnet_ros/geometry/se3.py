"""Rotations and rigid motions as plain arrays.

Convention: ``T_a_b`` maps a point given in frame b to frame a, ``p_a = T_a_b @ p_b``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SpecError

Array = NDArray[np.float64]
# Poses are often rounded, or products of single precision: LM-O's axes are up to 0.5 % too long.
POSE_TOLERANCE = 0.05
# Symmetries are written by hand or computed: some have two digits only, as 0.87 for a sine.
SYMMETRY_TOLERANCE = 0.01


def make_transform(R: ArrayLike, t: ArrayLike) -> Array:
    """Stack a rotation and a translation into homogeneous transforms.

    :param R: (..., 3, 3) rotations.
    :param t: (..., 3) translations [m].
    :return: (..., 4, 4) float64.
    """
    R, t = np.asarray(R, dtype=np.float64), np.asarray(t, dtype=np.float64)
    T = np.zeros((*np.broadcast_shapes(R.shape[:-2], t.shape[:-1]), 4, 4))
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = R, t, 1.0
    return T


def inverse(T: ArrayLike) -> Array:
    """Invert rigid transforms.

    :param T: (..., 4, 4) T_a_b.
    :return: (..., 4, 4) T_b_a.
    """
    T = np.asarray(T, dtype=np.float64)
    Rt = np.swapaxes(T[..., :3, :3], -1, -2)
    return make_transform(Rt, -np.einsum('...ij,...j->...i', Rt, T[..., :3, 3]))


def displacement(T_from: ArrayLike, T_to: ArrayLike) -> Array:
    """Return the motions from one pose to another, all in one frame.

    :param T_from: (..., 4, 4) [m].
    :param T_to: likewise.
    :return: (..., 6) shift of the origin x, y, z [m], then the rotation vector [rad], both along
        the axes of the frame that the poses are in.
    """
    T_from, T_to = np.asarray(T_from, np.float64), np.asarray(T_to, np.float64)
    turn = T_to[..., :3, :3] @ np.swapaxes(T_from[..., :3, :3], -1, -2)
    return np.concatenate([T_to[..., :3, 3] - T_from[..., :3, 3], log_so3(turn)], -1)


def displaced(T: ArrayLike, motion: ArrayLike) -> Array:
    """Return poses after motions; the inverse of :func:`displacement`.

    :param T: (..., 4, 4) [m].
    :param motion: (..., 6) as :func:`displacement` returns it; the pose turns about its origin.
    :return: (..., 4, 4).
    """
    T, motion = np.asarray(T, np.float64), np.asarray(motion, np.float64)
    return make_transform(exp_so3(motion[..., 3:]) @ T[..., :3, :3],
                          T[..., :3, 3] + motion[..., :3])


def lever(shift_m: ArrayLike) -> Array:
    """Return how errors of a pose become those of a point that moves with it, (6, 6).

    A rotation error moves a point, the more the farther it is from the origin of the pose.

    :param shift_m: (3,) from the origin of the pose to the point, along the axes of the frame.
    :return: to be multiplied with errors x, y, z [m] and rotation vector [rad].
    """
    J = np.eye(6)
    J[:3, 3:] = -skew(shift_m)
    return J


def moved_covariance(covariance: Array, shift_m: Array) -> Array:
    """Return the covariance of a pose whose origin is elsewhere on the same object.

    :param covariance: (6, 6) of x, y, z [m] and rotation vector [rad].
    :param shift_m: (3,) from the origin that it is for to the other, along the same axes.
    :return: (6, 6).
    """
    if not np.any(shift_m):
        return covariance
    J = lever(shift_m)
    return np.asarray(J @ covariance @ J.T, np.float64)


# added to the square of an angle, so that no turn is a division by zero; far below rounding
_TINY = 1e-40
_EYE = np.eye(3)


def skew(w: ArrayLike) -> Array:
    """Return the matrices of the cross product, ``skew(a) @ b == cross(a, b)``.

    :param w: (..., 3).
    :return: (..., 3, 3).
    """
    w = np.asarray(w, dtype=np.float64)
    K = np.zeros((*w.shape, 3))
    K[..., 0, 1], K[..., 0, 2], K[..., 1, 2] = -w[..., 2], w[..., 1], -w[..., 0]
    return K - np.swapaxes(K, -1, -2)


def exp_so3(w: ArrayLike) -> Array:
    """Turn rotation vectors into rotations (Rodrigues' formula).

    :param w: (..., 3) axis times angle [rad].
    :return: (..., 3, 3).
    """
    w = np.asarray(w, dtype=np.float64)
    angle = np.sqrt((w * w).sum(axis=-1) + _TINY)[..., None, None]
    half = np.sin(angle / 2) / angle
    K = skew(w)
    result: Array = np.sin(angle) / angle * K + 2.0 * half * half * (K @ K) + _EYE
    return result


def log_so3(R: ArrayLike) -> Array:
    """Turn rotations into rotation vectors, the inverse of :func:`exp_so3` for angles < pi.

    :param R: (..., 3, 3).
    :return: (..., 3) axis times angle [rad], angle in [0, pi].
    """
    quaternion = quat_wxyz_from_rotation(R)
    vector = quaternion[..., 1:]
    norm = np.sqrt((vector * vector).sum(axis=-1, keepdims=True))
    angle = 2.0 * np.arctan2(norm, quaternion[..., :1])
    scale = np.where(norm > 1e-12, angle / np.maximum(norm, 1e-12), 2.0)
    result: Array = scale * vector
    return result


def rotation_angle(R: ArrayLike) -> Array:
    """Return the angle of rotations [rad], in [0, pi], accurate near both ends.

    :param R: (..., 3, 3).
    :return: (...).
    """
    result: Array = np.linalg.norm(log_so3(R), axis=-1)
    return result


def quat_wxyz_from_rotation(R: ArrayLike) -> Array:
    """Return unit quaternions w x y z with w >= 0.

    :param R: (..., 3, 3).
    :return: (..., 4).
    """
    R = np.asarray(R, dtype=np.float64)
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    Rt = np.swapaxes(R, -1, -2)
    odd, even = R - Rt, R + Rt
    rows = np.empty((*R.shape[:-2], 4, 4))  # four times the product of the quaternion with itself
    rows[..., 1:, 1:] = even
    rows[..., 0, 1] = rows[..., 1, 0] = odd[..., 2, 1]
    rows[..., 0, 2] = rows[..., 2, 0] = odd[..., 0, 2]
    rows[..., 0, 3] = rows[..., 3, 0] = odd[..., 1, 0]
    rows[..., 0, 0], rows[..., 1, 1] = 1 + xx + yy + zz, 1 + xx - yy - zz
    rows[..., 2, 2], rows[..., 3, 3] = 1 - xx + yy - zz, 1 - xx - yy + zz
    best = np.argmax(np.diagonal(rows, axis1=-2, axis2=-1), axis=-1)
    quaternion = np.take_along_axis(rows, best[..., None, None], axis=-2)[..., 0, :]
    quaternion = quaternion / np.sqrt((quaternion * quaternion).sum(axis=-1, keepdims=True))
    result: Array = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    return result


def rotation_from_quat_wxyz(quat_wxyz: ArrayLike) -> Array:
    """Return rotations of quaternions, which are normalised first.

    :param quat_wxyz: (..., 4).
    :return: (..., 3, 3).
    """
    q = np.asarray(quat_wxyz, dtype=np.float64)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    K = skew(q[..., 1:])
    result: Array = np.eye(3) + 2.0 * q[..., 0, None, None] * K + 2.0 * (K @ K)
    return result


def nearest_rotation(M: ArrayLike) -> Array:
    """Project matrices onto SO(3) in the least-squares sense.

    :param M: (..., 3, 3).
    :return: (..., 3, 3), determinant +1.
    """
    U, _, Vt = np.linalg.svd(np.asarray(M, dtype=np.float64))
    U = U.copy()
    U[..., :, 2] *= np.linalg.det(U @ Vt)[..., None]
    result: Array = U @ Vt
    return result


def rotation_from_6d(six: ArrayLike) -> Array:
    """Orthonormalise two 3-vectors into the columns x and y of rotations, x first.

    :param six: (..., 6).
    :return: (..., 3, 3), ``z = x cross y``.
    """
    six = np.asarray(six, dtype=np.float64)
    x, y = six[..., :3], six[..., 3:]
    x = x / np.sqrt((x * x).sum(axis=-1, keepdims=True))
    y = y - (x * y).sum(axis=-1, keepdims=True) * x
    y = y / np.sqrt((y * y).sum(axis=-1, keepdims=True))
    R = np.empty((*six.shape[:-1], 3, 3))
    R[..., 0], R[..., 1] = x, y
    for i in range(3):  # np.cross takes longer than all of the rest
        j, k = (i + 1) % 3, (i + 2) % 3
        R[..., i, 2] = x[..., j] * y[..., k] - x[..., k] * y[..., j]
    return R


def rotation_to_axis(direction: ArrayLike) -> Array:
    """Return the smallest rotations that turn ``direction`` onto +z.

    :param direction: (..., 3), any length, not along -z.
    :return: (..., 3, 3) R with ``R @ direction`` along (0, 0, 1).
    """
    d = np.asarray(direction, dtype=np.float64)
    d = d / np.sqrt((d * d).sum(axis=-1, keepdims=True))
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    part = 1.0 / (1.0 + z)
    R = np.empty((*d.shape[:-1], 3, 3))
    R[..., 2, :] = d
    R[..., 0, 2], R[..., 1, 2] = -x, -y
    R[..., 0, 0], R[..., 1, 1] = 1.0 - x * x * part, 1.0 - y * y * part
    R[..., 0, 1] = R[..., 1, 0] = -x * y * part
    return R


def checked_rotation(M: ArrayLike, tolerance: float, name: str) -> Array:
    """Return the rotations that are nearest to matrices, which must be close to them.

    :param M: (..., 3, 3).
    :param tolerance: by how much a length may change under the matrix, as a part of it.
    :param name: of what is read, for the message.
    :return: (..., 3, 3), determinant +1.
    :raises SpecError: when one mirrors, scales, shears, flattens, or is not finite.
    """
    M = np.asarray(M, dtype=np.float64)
    if not np.isfinite(M).all():
        raise SpecError(f'{name} must be finite, got {_plain(M)}')
    lengths = np.linalg.svd(M, compute_uv=False)
    wrong = (np.abs(lengths - 1.0) > tolerance).any(axis=-1)
    mirrored = np.linalg.det(M) < 0
    if not (wrong | mirrored).any():
        return nearest_rotation(M)
    first = np.flatnonzero((wrong | mirrored).ravel())[0]
    scales = lengths.reshape(-1, 3)[first]
    what = (f'it changes lengths by factors of {scales[2]:.3g} to {scales[0]:.3g}'
            if wrong.ravel()[first] else 'it is a mirror image, its determinant is negative')
    raise SpecError(f'{name} is no rotation: {what}, {_plain(M.reshape(-1, 3, 3)[first])}')


def _plain(M: Array) -> str:
    return str((np.round(M, 4) + 0.0).tolist())  # + 0.0: no -0.0
