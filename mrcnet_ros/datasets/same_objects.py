"""Makes sure that two sides mean the same objects by the same BOP numbers."""

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
    :param sides_m: (3,) of the bounding box of its mesh, any order; None where nobody says.
    """

    object_id: int
    label: str
    diameter_m: float | None = None
    sides_m: Array | None = None


def known_object(model: ObjectModel) -> KnownObject:
    """Return an object as its model has it; its mesh is not read."""
    bounds_m = model.bounds_m
    return KnownObject(model.object_id, model.label, model.diameter_m,
                       None if bounds_m is None else bounds_m[1] - bounds_m[0])


def require_same_objects(known: Iterable[KnownObject], shown: Mapping[int, KnownObject],
                         wanted: Iterable[int], place: Path | str, who: str = 'the model') -> None:
    """Refuse objects of which none is wanted, or one is another object than the one shown.

    :param shown: by object id, where its size is known.
    :param wanted: object ids.
    :param place: that shows them, for the message.
    :param who: knows them, for the message.
    :raises DatasetError: naming labels and sizes.
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
        off += np.abs(np.sort(one.sides_m) - np.sort(other.sides_m)).tolist()
    return max(off) > MOST_DIFFERENT * max(one.diameter_m, other.diameter_m)


def _told(item: KnownObject) -> str:
    sides = '' if item.sides_m is None else ' with a box of ' + ' x '.join(
        f'{1e3 * side:.0f}' for side in np.sort(item.sides_m)) + ' mm'
    return f'{item.label} of {1e3 * (item.diameter_m or 0.0):.0f} mm{sides}'
