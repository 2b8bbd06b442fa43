"""Average recall as BOP'19 defines it.

Source: Hodan et al., BOP Challenge 2020, sections on the 6D localisation task.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry.se3 import Array

# fractions of the object's diameter
MSSD_THRESHOLDS: Array = 0.05 * np.arange(1.0, 11.0)

# pixels of an image that is 640 px wide
MSPD_THRESHOLDS: Array = 5.0 * np.arange(1.0, 11.0)

MSPD_REFERENCE_WIDTH_PX = 640  # BOP's thresholds are for images of this width

# fractions of the visible surface
VSD_THRESHOLDS: Array = 0.05 * np.arange(1.0, 11.0)


@dataclass(frozen=True, eq=False)
class TargetErrors:
    """The errors of all estimates of one object in one image to all its targets there.

    :param scores: (E,) confidences of the estimates; a missing estimate is simply not there.
    :param errors: (E, G) in the unit of the thresholds, G instances to be found.
    """

    object_id: int
    scores: Array
    errors: Array


@dataclass(frozen=True, eq=False)
class Recall:
    """The share of instances found at each threshold.

    :param thresholds: (T,).
    :param target_counts: instances to be found, by object.
    :param by_object: (T,) for each object.
    :param overall: (T,) over all instances of all objects.
    """

    thresholds: Array
    target_counts: dict[int, int]
    by_object: dict[int, Array]
    overall: Array

    @property
    def average(self) -> float:
        """Return the average recall over all instances."""
        return float(self.overall.mean())

    def average_of(self, object_id: int) -> float:
        return float(self.by_object[object_id].mean())


def recall(targets: Iterable[TargetErrors], thresholds: Array) -> Recall:
    """Count the instances found at each threshold.

    :param targets: one entry for each object in each image.
    :param thresholds: (T,) an error must be below, not equal.
    """
    found: dict[int, Array] = {}
    counts: dict[int, int] = {}
    for target in targets:
        matched = np.array([len(match(target, float(th))) for th in thresholds], dtype=np.float64)
        i = target.object_id
        found[i] = found.get(i, np.zeros(len(thresholds))) + matched
        counts[i] = counts.get(i, 0) + target.errors.shape[1]
    ids = sorted(i for i in counts if counts[i] > 0)
    total = sum(counts[i] for i in ids)
    overall = sum((found[i] for i in ids), np.zeros(len(thresholds))) / max(total, 1)
    return Recall(thresholds, {i: counts[i] for i in ids},
                  {i: found[i] / counts[i] for i in ids}, overall)


def match(target: TargetErrors, threshold: float) -> list[tuple[int, int]]:
    """Match each estimate, the most confident first, with the best instance still free.

    As many estimates take part as there are instances to be found.

    :return: pairs (estimate, instance) with an error below the threshold.
    """
    pairs: list[tuple[int, int]] = []
    free = list(range(target.errors.shape[1]))
    for estimate in ranked(target.scores)[:len(free)]:
        errors = target.errors[estimate, free]
        best = int(np.argmin(errors))
        if errors[best] < threshold:
            pairs.append((estimate, free.pop(best)))
    return pairs


def ranked(scores: Array) -> Sequence[int]:
    """Return the estimates by falling score, equal ones in the order given."""
    return [int(i) for i in np.argsort(-np.asarray(scores), kind='stable')]
