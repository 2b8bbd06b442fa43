"""Tells matrices of files that are rotations from those that are none."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import SpecError
from .se3 import Array, nearest_rotation

# Poses are often rounded, or products of single precision: LM-O's axes are up to 0.5 % too long.
POSE_TOLERANCE = 0.05
# Symmetries are written by hand or computed: some have two digits only, as 0.87 for a sine.
SYMMETRY_TOLERANCE = 0.01


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
