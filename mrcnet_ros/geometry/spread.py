"""Probabilities of logits, and the spread of distributions over bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .se3 import Array, log_so3
from .symmetry import Symmetries


def softmax(logits: ArrayLike) -> Array:
    """Return probabilities of logits.

    :param logits: (..., K), -inf for what cannot be.
    :return: (..., K), each row with the sum 1.
    """
    logits = np.asarray(logits, dtype=np.float64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float64)


def sigmoid(logits: ArrayLike) -> Array:
    """Return the probabilities, 0..1, of logits of any shape."""
    with np.errstate(over='ignore'):  # exp of a large number is inf, and the probability 0
        return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64))))


def second_moment(p: Array, offsets: Array) -> Array:
    """Return the second moment of offsets about zero.

    :param p: (N, K) probabilities.
    :param offsets: (N, K, D).
    :return: (N, D, D), in the square of the offsets' unit.
    """
    return np.asarray(np.swapaxes(p[..., None] * offsets, 1, 2) @ offsets, np.float64)


def spread_about_mean(p: Array, points: Array) -> Array:
    """Return the covariance of the points that each distribution is over.

    :param p: (N, K) probabilities.
    :param points: (K, D).
    :return: (N, D, D), in the square of the points' unit.
    """
    return second_moment(p, points - (p @ points)[:, None])


def nearest_equivalents(R_bins: Array, R_final: Array, symmetries: Symmetries) -> Array:
    """Replace rotations by their symmetric equivalents that are nearest to a final one.

    :param R_bins: (K, 3, 3) R_camera_object.
    :param R_final: (3, 3) R_camera_object.
    :return: (K, 3, 3) R_camera_object.
    """
    R_symmetry = symmetries.transforms[:, :3, :3]
    if len(R_symmetry) == 1:
        return R_bins
    # trace((R_bin R_symmetry)^T R_final) = sum of (R_bin^T R_final) * R_symmetry
    back = np.swapaxes(R_bins, 1, 2) @ R_final
    best = np.argmax(back.reshape(-1, 9) @ R_symmetry.reshape(-1, 9).T, axis=1)
    return np.asarray(R_bins @ R_symmetry[best], np.float64)


def rotation_spread(p: Array, R_bins: Array, R_final: Array,
                    symmetries: Sequence[Symmetries]) -> Array:
    """Return the second moment of rotations about the final ones.

    What only turns the object into itself does not count.

    :param p: (N, K) probabilities.
    :param R_bins: (N, K, 3, 3) R_camera_object.
    :param R_final: (N, 3, 3) R_camera_object.
    :param symmetries: of each of the N objects.
    :return: (N, 3, 3) [rad^2], about the camera's axes.
    """
    nearest = np.array([nearest_equivalents(*item)
                        for item in zip(R_bins, R_final, symmetries, strict=True)])
    return second_moment(p, log_so3(nearest @ np.swapaxes(R_final, 1, 2)[:, None]))
