"""Object symmetries: the rigid motions that leave an object looking the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import SpecError
from .se3 import SYMMETRY_TOLERANCE, Array, checked_rotation, exp_so3, log_so3, make_transform

CONTINUOUS_STEP = 0.01  # of half a turn, as in BOP's own evaluation
BOP_STEPS = int(np.ceil(np.pi / CONTINUOUS_STEP))
# Steps of a turn in training: every 5 degrees, less than the error of a network. With BOP's 315 a
# training step takes longer and the network is the same.
TRAINING_STEPS = 72
# A motion that rotates by less is a step of a continuous symmetry.
_SMALL_TURN_RAD = 0.05
# Rotations that differ by less are the same one, rounded to a few digits.
_SAME_TURN_RAD = 0.1
# A shorter axis is a rounding error and has no direction.
_SHORTEST_AXIS = 1e-6


@dataclass(frozen=True, eq=False)
class Symmetries:
    """A finite set of symmetry motions.

    :param transforms: (S, 4, 4) float64 [m] in the object frame; the first is the identity.
    :param coarse: (C, 4, 4) the same with fewer steps of continuous symmetries, for training; None
        where there are none.
    :raises SpecError: when the shape is wrong, the first is not the identity, or one is no rigid
        motion.
    """

    transforms: Array
    coarse: Array | None = None

    @property
    def for_training(self) -> Array:
        """Return the motions with as many steps as a training needs, (C, 4, 4) [m]."""
        return self.transforms if self.coarse is None else self.coarse

    def __post_init__(self) -> None:
        """Check the shape and that the identity comes first."""
        T = np.array(self.transforms, dtype=np.float64)
        if T.ndim != 3 or T.shape[1:] != (4, 4) or not np.isfinite(T).all():
            raise SpecError(f'symmetries must be finite, of shape (S, 4, 4), got {T.shape}')
        if not len(T) or not np.allclose(T[0], np.eye(4)):
            raise SpecError('the first symmetry must be the identity')
        if not np.allclose(T[:, 3], (0.0, 0.0, 0.0, 1.0)):
            raise SpecError('the last row of each symmetry must be 0 0 0 1')
        checked_rotation(T[:, :3, :3], SYMMETRY_TOLERANCE, 'a symmetry')
        T.setflags(write=False)
        object.__setattr__(self, 'transforms', T)

    @classmethod
    def none(cls) -> Symmetries:
        """Return the identity alone."""
        return cls(np.eye(4)[None])

    @classmethod
    def from_bop(cls, info: Mapping[str, Any], unit_m: float) -> Symmetries:
        """Read ``symmetries_discrete`` and ``symmetries_continuous`` of a BOP models_info entry.

        A continuous symmetry turns about ``axis`` through ``offset``; it is discretised so that
        no point moves more than 1 % of the object's diameter between steps, as BOP does. A
        discrete symmetry that is a step of a continuous one, rounded, is left out.

        :param unit_m: length of the file's unit [m], 0.001 for BOP.
        :raises SpecError: when an entry is malformed.
        """
        discrete = [np.eye(4)]
        for number, values in enumerate(_listed(info, 'symmetries_discrete')):
            discrete.append(_discrete(values, unit_m, f'symmetries_discrete[{number}]'))
        entries = _listed(info, 'symmetries_continuous')
        for entry in entries:
            if not isinstance(entry, Mapping) or set(entry) != {'axis', 'offset'}:
                raise SpecError(
                    'a continuous symmetry needs axis and offset, got '
                    f'{sorted(entry) if isinstance(entry, Mapping) else entry!r}')

        def motions(steps: int) -> Array:
            continuous = [np.eye(4)]
            for entry in entries:
                offset = np.asarray(entry['offset'], dtype=np.float64) * unit_m
                continuous.extend(continuous_symmetry(entry['axis'], offset, steps)[1:])
            return np.array([c @ d for c in continuous for d in discrete])

        if entries:  # rounded, one of them followed by a step of a turn would tip the object
            steps = motions(BOP_STEPS)[::len(discrete), :3, :3]
            discrete = discrete[:1] + [d for d in discrete[1:] if (
                np.einsum('sij,ij->s', steps, d[:3, :3]).max() - 1) / 2 < np.cos(_SAME_TURN_RAD)]
        return cls(motions(BOP_STEPS), motions(TRAINING_STEPS) if entries else None)

    def about(self, point_m: ArrayLike) -> Symmetries:
        """Return the same motions in a frame moved to a point, its axes as they are.

        :param point_m: (3,) in the frame of the symmetries.
        """
        point = np.asarray(point_m, np.float64)

        def moved(transforms: Array) -> Array:
            T = np.array(transforms)
            T[:, :3, 3] += T[:, :3, :3] @ point - point
            return T

        return Symmetries(moved(self.transforms),
                          None if self.coarse is None else moved(self.coarse))

    def scaled(self, factor: float) -> Symmetries:
        """Return the motions of an object that is so many times as large, about its origin."""
        def larger(transforms: Array) -> Array:
            T = np.array(transforms)
            T[:, :3, 3] *= factor
            return T

        return Symmetries(larger(self.transforms),
                          None if self.coarse is None else larger(self.coarse))

    def seen_rotations(self) -> Array:
        """Return the projection onto the rotations that change how the object looks.

        :return: (3, 3) of rotation vectors about the object's axes: the identity, but without the
            axis of a continuous symmetry; of a ball, which has several, zero.
        """
        turns = log_so3(self.transforms[:, :3, :3])
        angles = np.linalg.norm(turns, axis=1)
        small = turns[(angles > 1e-6) & (angles < _SMALL_TURN_RAD)]
        _, sizes, axes = np.linalg.svd(np.vstack([small, np.zeros((3, 3))]), full_matrices=False)
        # A model of older releases may have rounded motions, which tip it by less than a step.
        free = axes[sizes > max(1e-3, sizes[0] / 2)]
        if len(free) > 1:  # turns about two axes make up all others
            return np.zeros((3, 3))
        return np.asarray(np.eye(3) - free.T @ free, np.float64)

    @cached_property
    def is_ball(self) -> bool:
        """Tell whether no rotation changes how the object looks."""
        return not self.seen_rotations().any()

    def comparable(self, T_gt: Array, T_est: Array) -> Array:
        """Return a true pose with what images show of its rotation.

        Of a ball they show none, but the symmetries are only those about a few axes: the truth
        gets the estimate's rotation about its centre. All others stay as they are. The BOP toolkit
        does not do so.

        :param T_gt: (4, 4) T_camera_object [m].
        :param T_est: (4, 4) T_camera_object [m].
        :return: (4, 4) T_camera_object [m].
        """
        if not self.is_ball:
            return T_gt
        R, t = self.transforms[:, :3, :3], self.transforms[:, :3, 3]
        # all motions keep the centre: R c + t = c
        centre = np.linalg.lstsq((np.eye(3) - R).reshape(-1, 3), t.ravel(), rcond=None)[0]
        return make_transform(T_est[:3, :3],
                              T_gt[:3, 3] + (T_gt[:3, :3] - T_est[:3, :3]) @ centre)

    def nearest(self, R_gt: ArrayLike, t_gt: ArrayLike, R_reference: ArrayLike) -> Array:
        """Return the symmetric equivalent of a pose whose rotation is nearest to a reference.

        Of a ball it has the rotation of the reference, see :meth:`comparable`.

        :param R_gt: (3, 3) R_camera_object.
        :param t_gt: (3,) t_camera_object [m].
        :param R_reference: (3, 3).
        :return: (4, 4) T_camera_object.
        """
        T = make_transform(R_gt, t_gt)
        if self.is_ball:
            return self.comparable(T, make_transform(R_reference, np.zeros(3)))
        candidates = T @ self.transforms
        trace = np.einsum('sij,ij->s', candidates[:, :3, :3], np.asarray(R_reference))
        result: Array = candidates[int(np.argmax(trace))]
        return result


def unlisted_product(info: Mapping[str, Any], unit_m: float) -> int | None:
    """Return which discrete symmetry is followed by another to one that is not listed.

    Where two motions are symmetries, so is one after the other: a list of a quarter turn alone
    lacks the half turn. Beside a continuous symmetry nothing is looked at.

    :param info: an entry that :meth:`Symmetries.from_bop` takes.
    :return: its number from 0, None when nothing is missing.
    """
    if info.get('symmetries_continuous'):
        return None
    R = np.array([_discrete(values, unit_m, '')[:3, :3]
                  for values in info.get('symmetries_discrete', [])]).reshape(-1, 3, 3)
    listed = np.concatenate([np.eye(3)[None], R])
    for number, first in enumerate(R):
        products = first @ R
        # the cosine of the angle between each product and the nearest one of the list
        nearest = (np.einsum('pij,lij->pl', products, listed).max(axis=1) - 1.0) / 2.0
        if (nearest < np.cos(_SAME_TURN_RAD)).any():
            return number
    return None


def _listed(info: Mapping[str, Any], name: str) -> list[Any]:
    """Return the symmetries of a kind, none where they are not named.

    :raises SpecError: when they are no list, as null is none.
    """
    found = info.get(name, [])
    if not isinstance(found, list | tuple):
        raise SpecError(f'{name} must be a list, got {found!r}; leave it out where there are none')
    return list(found)


def _discrete(values: Any, unit_m: float, name: str) -> Array:
    """Return a motion of BOP's ``symmetries_discrete``, (4, 4) [m].

    :param values: 16 numbers, row by row, lengths in the file's unit.
    :raises SpecError: when they are no rigid motion.
    """
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.size != 16:
        raise SpecError(f'{name} needs 16 numbers, got {matrix.size}')
    matrix = matrix.reshape(4, 4)
    if not np.allclose(matrix[3], (0.0, 0.0, 0.0, 1.0)):
        raise SpecError(f'{name}: the last row must be 0 0 0 1, got {matrix[3].tolist()}; is the '
                        'matrix written column by column?')
    if not np.isfinite(matrix).all():
        raise SpecError(f'{name} must be finite, got {matrix.tolist()}')
    R = checked_rotation(matrix[:3, :3], SYMMETRY_TOLERANCE, name)
    return make_transform(R, matrix[:3, 3] * unit_m)


def continuous_symmetry(axis: ArrayLike, offset: ArrayLike, steps: int = BOP_STEPS) -> Array:
    """Discretise a rotational symmetry.

    :param axis: (3,) direction in the object frame, any length but zero.
    :param offset: (3,) a point on the axis [m].
    :return: (steps, 4, 4) [m], the identity first.
    :raises SpecError: when the axis is zero or a number is not finite.
    """
    axis, offset = np.asarray(axis, dtype=np.float64), np.asarray(offset, dtype=np.float64)
    length = np.linalg.norm(axis)
    if axis.shape != (3,) or offset.shape != (3,) or not _SHORTEST_AXIS < length < np.inf \
            or not np.isfinite(offset).all():
        raise SpecError('a continuous symmetry needs an axis that is not zero and an offset, got '
                        f'{axis.tolist()} and {offset.tolist()}')
    R = exp_so3(2.0 * np.pi * np.arange(steps)[:, None] / steps * axis / length)
    return make_transform(R, offset - R @ offset)
