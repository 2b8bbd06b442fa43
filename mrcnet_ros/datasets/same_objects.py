"""Makes sure that two sides mean the same objects by the same BOP numbers, in the same frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DatasetError
from ..geometry.se3 import Array
from ..objects import ObjectModel
from ..objects.object_model import MOST_DIFFERENT


class KnownObject(NamedTuple):
    """An object as far as it is known.

    :param diameter_m: of its mesh; None where nobody says.
    :param bounds_m: (2, 3) lowest and highest coordinates of its mesh in the frame of the object;
        None where nobody says.
    """

    object_id: int
    label: str
    diameter_m: float | None = None
    bounds_m: Array | None = None

    @property
    def sides_m(self) -> Array | None:
        """Return the sides of the bounding box, (3,), the shortest first; None if not known."""
        return None if self.bounds_m is None else np.sort(np.ptp(self.bounds_m, axis=0))


def known_object(model: ObjectModel) -> KnownObject:
    """Return an object as its model has it; its mesh is not read."""
    return KnownObject(model.object_id, model.label, model.diameter_m, model.bounds_m)


def require_same_objects(known: Iterable[KnownObject], shown: Mapping[int, KnownObject],
                         wanted: Iterable[int], place: Path | str, who: str = 'the model', *,
                         poses: bool = True) -> None:
    """Refuse objects of which none is wanted, or one is another object than the one shown.

    :param shown: by object id, where its size is known.
    :param wanted: object ids.
    :param place: that shows them, for the message.
    :param who: knows them, for the message.
    :param poses: whether poses of the two sides are compared, so that their frames must be the
        same.
    :raises DatasetError: naming labels and sizes, or where the meshes are in their frames.
    """
    own, asked = {item.object_id: item for item in known}, sorted(set(wanted))
    if not set(own) & set(asked):
        told = ', '.join(f'{i} ({item.label})' for i, item in sorted(own.items()))
        raise DatasetError(f'{place}: shows the objects {asked}, and {who} knows none of them, '
                           f'only {told}; give a model of these objects, or their dataset')
    for i in sorted(set(own) & set(shown)):
        if _differ(own[i], shown[i]):
            raise DatasetError(
                f'{place}: object {i} there is {_told(shown[i])}, but object {i} of {who} is '
                f'{_told(own[i])}; a number must mean the same object on both sides: give the '
                'dataset that belongs to these objects, or number them alike')
        if poses and _in_other_frames(own[i], shown[i]):
            raise DatasetError(
                f'{place}: object {i} there has the coordinates {_reach(shown[i])}, but object '
                f'{i} of {who} {_reach(own[i])}; their frames differ, so that every pose would '
                'be wrong by as much: make the model of the meshes of the dataset, or give the '
                'dataset whose meshes have the same origin and axes')


def require_same_numbers(known: Iterable[KnownObject], numbers: Mapping[str, int],
                         place: Path | str) -> None:
    """Refuse objects of the model that have another number on the other side.

    :param numbers: object ids by label, of the other side.
    :param place: the other side, for the message.
    :raises DatasetError: naming label and numbers.
    """
    for item in known:
        if numbers.get(item.label, item.object_id) != item.object_id:
            raise DatasetError(
                f'{place}: {item.label} is object {numbers[item.label]} there, but object '
                f'{item.object_id} of the model; number the objects alike on both sides')


def _differ(one: KnownObject, other: KnownObject) -> bool:
    """Tell whether sizes differ by more than those of one object."""
    if one.diameter_m is None or other.diameter_m is None:
        return False
    off = [abs(one.diameter_m - other.diameter_m)]
    if one.sides_m is not None and other.sides_m is not None:
        off += np.abs(one.sides_m - other.sides_m).tolist()
    return max(off) > MOST_DIFFERENT * max(one.diameter_m, other.diameter_m)


def _in_other_frames(one: KnownObject, other: KnownObject) -> bool:
    """Tell whether meshes of one size are at different places or turned in their frames.

    A symmetry of the object leaves its bounding box where it is.
    """
    if one.bounds_m is None or other.bounds_m is None:
        return False
    size_m = float(np.linalg.norm(np.ptp(one.bounds_m, axis=0)))
    return float(np.abs(one.bounds_m - other.bounds_m).max()) > MOST_DIFFERENT * size_m


def _told(item: KnownObject) -> str:
    sides = '' if item.sides_m is None else ' with a box of ' + ' x '.join(
        f'{1e3 * side:.0f}' for side in item.sides_m) + ' mm'
    return f'{item.label} of {1e3 * (item.diameter_m or 0.0):.0f} mm{sides}'


def _reach(item: KnownObject) -> str:
    assert item.bounds_m is not None
    return ', '.join(f'{axis} {1e3 * low:.0f} to {1e3 * high:.0f}'
                     for axis, low, high in zip('xyz', *item.bounds_m, strict=True)) + ' mm'
