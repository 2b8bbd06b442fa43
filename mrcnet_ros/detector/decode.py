"""From what the cells of the detector say to boxes, in NumPy.

Convention: boxes have x1, y1, x2, y2 between pixels: the first pixel of an image reaches from 0 to
1, as in BOP's boxes, whose width is the number of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.boxes import ious
from ..geometry.se3 import Array
from ..specs import DETECTOR_STRIDES

# Boxes of one class that overlap more are of the same object.
SAME_OBJECT_IOU = 0.6
# Cells that are looked at in an image: an image full of objects has a few hundred that answer.
MOST_CELLS = 1000
FITS_IOU = 0.5  # the usual limit of detection scores


@dataclass(frozen=True)
class FoundObject:
    """A box that the detector proposes.

    :param class_index: row of the object in the model.
    :param score: 0 to 1, the overlap that the box is expected to have with the visible object.
    :param box_xyxy: (4,) [px] between pixels.
    """

    class_index: int
    score: float
    box_xyxy: Array


def cell_grid(height: int, width: int) -> NDArray[np.float32]:
    """Return middle x, y and stride [px] of the cells of an image, (A, 3).

    :param height: of the network's input, a multiple of the largest stride.
    :param width: likewise.
    """
    parts = []
    for stride in DETECTOR_STRIDES:
        v, u = np.indices((height // stride, width // stride), np.float32)
        parts.append(np.stack([(u + 0.5) * stride, (v + 0.5) * stride,
                               np.full_like(u, stride)], -1).reshape(-1, 3))
    return np.concatenate(parts)


def decode_detections(logits: NDArray[np.float32], distances: NDArray[np.float32],
                      cells: NDArray[np.float32], least_score: float) -> list[FoundObject]:
    """Return the objects that one image shows, best first.

    :param logits: (A, C).
    :param distances: (A, 4) from the cells' middles to left, upper, right and lower side [px].
    :param cells: of :func:`cell_grid`.
    :param least_score: boxes below are left out.
    """
    least = np.log(least_score / (1 - least_score))
    cell, row = np.nonzero(logits >= least)
    order = np.argsort(-logits[cell, row], kind='stable')[:MOST_CELLS]
    cell, row = cell[order], row[order]
    middle, reach = cells[cell, :2], distances[cell]
    boxes = np.concatenate([middle - reach[:, :2], middle + reach[:, 2:]], 1).astype(np.float64)
    scores = 1 / (1 + np.exp(-logits[cell, row].astype(np.float64)))
    kept = suppress(boxes, row)
    return [FoundObject(int(row[i]), float(scores[i]), boxes[i]) for i in kept]


def suppress(boxes: Array, class_index: NDArray[np.intp]) -> list[int]:
    """Return the rows that stay when of overlapping boxes of a class only the first does.

    :param boxes: (K, 4), best first.
    :param class_index: (K,).
    """
    sized = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    order = np.arange(len(boxes), 0, -1, dtype=np.float32)  # in place of scores, which may tie
    kept: list[int] = []
    for row in np.unique(class_index):
        own = np.flatnonzero(class_index == row)
        first = cv2.dnn.NMSBoxes(sized[own].tolist(), order[own].tolist(), 0.0, SAME_OBJECT_IOU)
        kept += own[np.array(first, np.intp).reshape(-1)].tolist()
    return sorted(kept)


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
        """Return the part that is found of every object that was there, and of all together."""
        found = {label: float(h / t) for label, h, t in
                 zip(labels, self.hits, self.targets, strict=True) if t}
        return {**found, 'all': float(self.hits.sum() / max(self.targets.sum(), 1))}
