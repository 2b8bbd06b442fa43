"""Boxes that look as if their numbers meant something else than centre and size in pixels."""

from __future__ import annotations

import numpy as np

from ..geometry.se3 import Array

# Boxes in parts of the image reach to 1, and some detectors beyond; no box of so few pixels can
# be used.
LARGEST_PART_PX = 1.5
# Of its size, by how much a box reaches beyond the border when that is no inexactness; of the
# boxes, how many must do so; by how much boxes may miss the border [px].
REACH, LEAST_REACHING, SLACK_PX = 0.05, 0.1, 3.0
# One object that rests proves little; places differ by a part of the image's width.
LEAST_PLACES, PLACE = 3, 0.05


def other_convention(boxes: Array, image_size: tuple[int, int]) -> str:
    """Return what boxes seem to be, and what to do, '' when they seem to be right.

    :param boxes: (N, 4) [px] x1, y1, x2, y2, as read from centre and size.
    :param image_size: width and height [px].
    """
    if (np.abs(boxes) <= LARGEST_PART_PX).all():
        return (f'all {len(boxes)} boxes lie between 0 and 1; if they are in parts of the image, '
                'set detections_size to [1, 1]')
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    if _are_corners(centres, sizes, image_size):
        return ('the sizes of all boxes look like lower right corners, and their centres like '
                'upper left ones; publish centre and size in bbox')
    beyond = (boxes[:, :2] < -np.maximum(REACH * sizes, SLACK_PX)).any(axis=1)
    if (beyond.sum() >= LEAST_REACHING * len(boxes)
            and _places(centres[beyond], image_size) >= LEAST_PLACES
            and (centres >= -SLACK_PX).all()
            and (centres + sizes <= np.add(image_size, SLACK_PX)).all()):
        return (f'{beyond.sum()} of {len(boxes)} boxes reach beyond the left or upper border of '
                'the image, and none would if their centres were upper left corners; publish the '
                'centre in bbox')
    return ''


def _are_corners(centres: Array, sizes: Array, image_size: tuple[int, int]) -> bool:
    """Tell whether centre and size look like the two corners of boxes: the first is before."""
    return bool((sizes > centres).all() and (centres >= -SLACK_PX).all()
                and (sizes <= np.add(image_size, SLACK_PX)).all()
                and _places(centres, image_size) >= LEAST_PLACES)


def _places(centres: Array, image_size: tuple[int, int]) -> int:
    """Return at how many different places boxes are."""
    return len(np.unique(np.floor(centres / (PLACE * image_size[0])), axis=0))
