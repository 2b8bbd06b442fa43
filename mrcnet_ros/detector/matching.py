"""Which boxes of the detector fit the objects that an image shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..geometry.boxes import ious
from ..geometry.se3 import Array
from .decode import FoundObject

FITS_IOU = 0.5  # the usual limit of detection scores


def which_fit(found: Sequence[FoundObject], wanted: Array) -> list[int]:
    """Return for each box the row of the object that it fits, -1 for none.

    Each object has one box at most: the first that fits it best among those that are left.

    :param found: of one class, best first.
    :param wanted: (G, 4) of what is visible [px] between pixels.
    """
    left, rows = list(range(len(wanted))), []
    for f in found:
        fits = ious(wanted[left], f.box_xyxy) if left else np.zeros(0)
        right = bool(len(fits)) and float(fits.max()) >= FITS_IOU
        rows.append(left.pop(int(fits.argmax())) if right else -1)
    return rows


class TopBoxes:
    """Counts over images the objects that are found by the best boxes of their class.

    Of a class that an image shows n times, the n best boxes count.
    """

    def __init__(self, classes: int) -> None:
        """Start with no images."""
        self.hits, self.targets = np.zeros(classes, int), np.zeros(classes, int)

    def add(self, class_index: NDArray[np.int64], boxes: NDArray[np.floating],
            found: Sequence[FoundObject]) -> list[bool]:
        """Count an image.

        :param class_index: (G,) of what it shows.
        :param boxes: (G, 4) of what is visible [px] between pixels.
        :param found: best first.
        :return: of each object whether it is found.
        """
        hits = np.zeros(len(class_index), bool)
        for row in np.unique(class_index).tolist():
            own = np.flatnonzero(class_index == row)
            top = [f for f in found if f.class_index == row][:len(own)]
            fit = which_fit(top, np.asarray(boxes[own], np.float64))
            hits[own[[i for i in fit if i >= 0]]] = True
            self.targets[row] += len(own)
            self.hits[row] += int(hits[own].sum())
        return [bool(hit) for hit in hits]

    def recalls(self, labels: Sequence[str]) -> dict[str, float]:
        """Return the part that is found of every object that was there, and of all together."""
        found = {label: float(h / t) for label, h, t in
                 zip(labels, self.hits, self.targets, strict=True) if t}
        return {**found, 'all': float(self.hits.sum() / max(self.targets.sum(), 1))}
