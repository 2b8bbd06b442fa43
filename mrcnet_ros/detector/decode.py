"""From what the cells of the detector say to boxes, in NumPy.

Convention: boxes have x1, y1, x2, y2 between pixels: the first pixel of an image reaches from 0 to
1, as in BOP's boxes, whose width is the number of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.boxes import ious
from ..geometry.se3 import Array
from ..geometry.spread import sigmoid
from ..specs import ANSWERING_CELLS, DETECTOR_STRIDES

# Boxes of one class that overlap as much are of the same object.
SAME_OBJECT_IOU = 0.6
# What cells say below this, or below the lowest score that is asked for, is not heard: with 0.01
# the boxes are the same.
HEARD = 0.1
# Of the cells that agree, those with half of the best one's score or more share in the box.
SHARING = 0.5
# Answers that are looked at in an image: an image full of objects has a few hundred.
MOST_ANSWERS = 1000


@dataclass(frozen=True)
class FoundObject:
    """A box that the detector proposes.

    :param class_index: row of the object in the model.
    :param score: 0 to 1, the mean score of the cells that should answer for the box.
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

    A cell shows one object: where it speaks for several classes, each answer counts less, by the
    root of its share. The best answer for a class and those whose boxes overlap it are of one
    object. Then comes the best of the others, and so on, so that each answer counts once.

    :param logits: (A, C).
    :param distances: (A, 4) from the cells' middles to left, upper, right and lower side [px].
    :param cells: of :func:`cell_grid`.
    :param least_score: boxes below are left out.
    """
    heard = min(HEARD, least_score)
    cell, row = np.nonzero(logits >= np.log(heard / (1 - heard)))
    # a runtime in low precision may overflow in some cells
    finite = np.isfinite(distances[cell]).all(1) & np.isfinite(logits[cell]).all(1)
    cell, row = cell[finite], row[finite]
    loudest = np.argsort(-logits[cell, row], kind='stable')[:MOST_ANSWERS]
    cell, row = cell[loudest], row[loudest]
    said = sigmoid(logits[cell])
    scores = said[np.arange(len(row)), row]
    scores = scores * np.sqrt(scores / said.sum(1))
    best_first = np.argsort(-scores, kind='stable')
    cell, row, scores = cell[best_first], row[best_first], scores[best_first]
    middle, reach = cells[cell, :2], distances[cell]
    boxes = np.concatenate([middle - reach[:, :2], middle + reach[:, 2:]], 1).astype(np.float64)
    found = []
    for class_index in np.unique(row[scores >= least_score]).tolist():
        own = row == class_index
        found += [FoundObject(class_index, score, box)
                  for score, box in zip(*_gather(boxes[own], scores[own], least_score),
                                        strict=True)
                  if score >= least_score]
    return sorted(found, key=lambda f: -f.score)


def best_of_each(boxes: Array) -> NDArray[np.intp]:
    """Return the rows of boxes (K, 4), best first, that overlap no better one which stays."""
    sized = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    order = np.arange(len(boxes), 0, -1, dtype=np.float32)  # in place of scores, which may tie
    return np.array(cv2.dnn.NMSBoxes(sized.tolist(), order.tolist(), 0.0, SAME_OBJECT_IOU),
                    np.intp).reshape(-1)


def _gather(boxes: Array, scores: Array, least_score: float) -> tuple[list[float], Array]:
    """Gather the answers for one class into objects; return score and box of each.

    :param boxes: (K, 4) best first.
    :param scores: (K,).
    :param least_score: objects whose best answer has a lower one are left out; one has not.
    """
    best = best_of_each(boxes[scores >= least_score])
    fit = ious(boxes[best, None], boxes[None])
    fit[np.arange(len(best)), best] = 1.0  # also of a box without an area
    owner = np.argmax(fit > SAME_OBJECT_IOU, 0)  # the best one that it overlaps
    agree = (fit > SAME_OBJECT_IOU) & (owner == np.arange(len(best))[:, None])
    weights = np.where(agree & (scores >= SHARING * scores[best, None]), scores * fit, 0.0)
    joined = weights @ boxes / weights.sum(1, keepdims=True)
    should = _should_answer(joined)[:, None]
    heard = np.where(agree, np.clip(should - (np.cumsum(agree, 1) - 1), 0, 1), 0.0)
    return ((heard @ scores) / should[:, 0]).tolist(), joined


def _should_answer(boxes: Array) -> Array:
    """Return how many cells training lets answer for boxes (K, 4): those with middles inside.

    In photographs they agree about an object. About a thing that only looks like it, fewer do, and
    often one of them with a high score.
    """
    middles = np.prod(boxes[:, 2:] - boxes[:, :2], 1) * sum(1 / s**2 for s in DETECTOR_STRIDES)
    return np.asarray(np.clip(middles, 1, ANSWERING_CELLS))
