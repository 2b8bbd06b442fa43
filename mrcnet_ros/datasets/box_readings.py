"""How far detected boxes lie on the objects of the ground truth, and what would move them there.

A file does not say which picture its boxes are in; where they are in another one, as in the input
of a detector's network, one scale and one offset move all of them to their objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry.boxes import ious
from ..geometry.se3 import Array
from .bop_frame import BopFrame

# Objects that tell of another picture, and the most of them that are looked at.
FEWEST, MOST = 5, 200
Found = Sequence[tuple[BopFrame, int]]


@dataclass(frozen=True, eq=False)
class OtherPicture:
    """Where points of the images are in another picture: at ``scale * u + offset_px``.

    :param offset_px: (2,) [px].
    """

    scale: float
    offset_px: Array

    def __str__(self) -> str:
        x, y = self.offset_px
        return (f'in pixels of another picture, such as the input of the network, which is '
                f'{self.scale:.3g} times as large and moved by ({x:.0f}, {y:.0f}) px')

    def in_image(self, boxes: Array) -> Array:
        """Return where boxes of that picture, (N, 4), are in the images [px]."""
        return np.asarray((boxes - np.tile(self.offset_px, 2)) / self.scale)


def best_overlaps(found: Found, boxes: Array) -> Array:
    """Return the largest overlaps of each true object that has detections.

    :param found: the image and the object of each detection.
    :param boxes: (N, K, 4) in K readings [px].
    :return: (objects, K).
    """
    rows: dict[tuple[int, int, int], list[int]] = {}
    for row, (frame, object_id) in enumerate(found):
        rows.setdefault((frame.scene_id, frame.image_id, object_id), []).append(row)
    return np.array([ious(boxes[own], box).max(axis=0) for key, box in _truths(found)
                     if (own := rows.get(key)) is not None])


def find_picture(found: Found, scores: Sequence[float], boxes: Array) -> OtherPicture | None:
    """Return the picture in which boxes lie best on the objects that are in their image once.

    :param found: the image and the object of each detection; the best of an object counts.
    :param boxes: (N, 4) [px].
    :return: None where fewer than five objects tell.
    """
    from scipy.spatial.distance import pdist

    best = {(found[row][0].scene_id, found[row][0].image_id, found[row][1]): row
            for row in np.argsort(scores)}
    truths = _truths(found)
    counts = Counter(key for key, _ in truths)
    pairs = [(box, boxes[best[key]]) for key, box in truths if counts[key] == 1 and key in best]
    if len(pairs) < FEWEST:
        return None
    true, seen = np.array(pairs[:MOST]).swapaxes(0, 1).reshape(2, -1, 2)
    apart = pdist(true)
    far = apart >= np.median(apart)
    scale = float(np.median(pdist(seen)[far] / apart[far]))
    return OtherPicture(scale, np.median(seen - scale * true, axis=0)) if scale > 0.0 else None


def _truths(found: Found) -> list[tuple[tuple[int, int, int], Array]]:
    """Return scene, image and object of all true objects in the images, and their boxes (4,)."""
    frames = {(frame.scene_id, frame.image_id): frame for frame, _ in found}
    return [((*key, truth.object_id), truth.box_visib_xyxy) for key, frame in frames.items()
            for truth in frame.ground_truth if truth.box_visib_xyxy is not None]
