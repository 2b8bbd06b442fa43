"""How often the best box of an object fits what is visible of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .decode import FoundObject, ious

FITS_IOU = 0.5  # the usual limit of detection scores


class TopBoxes:
    """Counts over images the objects that are found by the best boxes of their class.

    Of a class that an image shows n times, the n best boxes count.
    """

    def __init__(self, classes: int) -> None:
        """Start with no images.

        :param classes: number of classes.
        """
        self.hits, self.targets = np.zeros(classes, int), np.zeros(classes, int)

    def add(self, class_index: NDArray[np.int64], boxes: NDArray[np.floating],
            found: Sequence[FoundObject]) -> list[bool]:
        """Count an image.

        :param class_index: (G,) of what it shows.
        :param boxes: (G, 4) of what is visible [px] between pixels.
        :param found: best first.
        :return: of each object whether it is found.
        """
        hits = []
        for row, box in zip(class_index.tolist(), boxes, strict=True):
            many = int((class_index == row).sum())
            top = [f.box_xyxy for f in found if f.class_index == row][:many]
            hit = bool(top) and bool(
                (ious(np.array(top), np.asarray(box, np.float64)) >= FITS_IOU).any())
            self.targets[row] += 1
            self.hits[row] += hit
            hits.append(hit)
        return hits

    def recalls(self, labels: Sequence[str]) -> dict[str, float]:
        """Return the part that is found of every object that was there, and of all together.

        :param labels: of the classes.
        """
        found = {label: float(h / t) for label, h, t in
                 zip(labels, self.hits, self.targets, strict=True) if t}
        return {**found, 'all': float(self.hits.sum() / max(self.targets.sum(), 1))}
