"""Two instances are never in one place: which of them has to give way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..geometry.se3 import Array
from ..objects import ObjectModel

# Middles of two objects of a kind are never so near to one another, parts of their diameter.
LEAST_DIAMETERS = 0.3
# Along the ray one camera errs far more: two that cover one another by more than this part of
# their widths, and are less than a diameter apart, are taken for one as well.
LEAST_ASIDE, LEAST_ALONG = 0.2, 1.0


def contested(labels: Sequence[str], T_camera_object: Sequence[Array],
              cost: Sequence[tuple[float, float]], objects: Mapping[str, ObjectModel]) -> set[int]:
    """Return which instances are in the place of a better one.

    :param T_camera_object: (4, 4) [m] each, of the centred frames.
    :param cost: of each; the lower one stays.
    :param objects: by label.
    """
    order = sorted(range(len(labels)), key=lambda i: cost[i])
    gone: set[int] = set()
    for rank, i in enumerate(order):
        if i in gone:
            continue
        for j in order[rank + 1:]:
            if labels[i] == labels[j] and j not in gone and same_place(
                    T_camera_object[i], T_camera_object[j], objects[labels[i]].diameter_m):
                gone.add(j)
    return gone


def same_place(T_a: Array, T_b: Array, diameter_m: float) -> bool:
    """Tell whether two poses can only be those of one object.

    :param T_a: (4, 4) T_camera_object [m].
    :param T_b: likewise.
    """
    a, b = T_a[:3, 3], T_b[:3, 3]
    apart_m = float(np.linalg.norm(a - b))
    distance_m = min(float(np.linalg.norm(a)), float(np.linalg.norm(b)))
    aside_m = float(np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b))) * distance_m
    return apart_m < LEAST_DIAMETERS * diameter_m or (
        aside_m < LEAST_ASIDE * diameter_m and apart_m < LEAST_ALONG * diameter_m)
