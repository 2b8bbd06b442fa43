"""Notices boxes that look as if they were not in pixels of the image."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry.se3 import Array
from .detection_reading import DetectionSettings
from .diagnostics import Level, Problem
from .timings import Recent

# With fewer boxes nothing is reported.
FEWEST_BOXES = 10
# Boxes that are remembered at most; the oldest are forgotten first.
MOST_BOXES = 300
# Boxes in pixels of a smaller picture end within this part of the image: 640 px of
# 1280x720 with bars above and below reach 0.5 and 0.7 of it, 416 px of 640x480 0.65 and 0.76.
CORNER = (0.7, 0.8)
# Boxes are at different places if together they extend over this many times the size of one.
SPREAD = 2.0
# Largest share of boxes whose centre is outside the image; a box that reaches beyond is usual.
MOST_OUTSIDE = 0.1
# Usual inputs of networks [px]; the smallest fitting one is proposed.
USUAL_SIZES = (320, 416, 512, 640, 800, 960, 1024, 1280)
# Boxes in parts of the image reach to 1, and some detectors beyond; no box of so few pixels can
# be used.
LARGEST_PART_PX = 1.5
# Of its size, by how much a box reaches beyond the border when that is no inexactness; of the
# boxes, how many must do so; by how much boxes may miss the border [px].
REACH, LEAST_REACHING, SLACK_PX = 0.05, 0.1, 3.0
# One object that rests proves little; places differ by a part of the image's width.
LEAST_PLACES, PLACE = 3, 0.05


@dataclass(frozen=True, eq=False)
class _Seen:
    """A box, (4,) [px] of the image, and how it was read.

    :param nameless: whether its message names no frame, as those of some decoders that know
        nothing of the camera's image.
    :param reading: width and height of the image [px], and the settings.
    """

    box_xyxy: Array
    nameless: bool
    reading: tuple[tuple[int, int], DetectionSettings]


class BoxWatch:
    """Remembers recent boxes; may be asked by another thread.

    :param clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._seen: Recent[_Seen] = Recent(MOST_BOXES, clock)
        self._reading = (0, 0), DetectionSettings()  # of the last frame

    def see(self, boxes: Sequence[Array], image_size: tuple[int, int], settings: DetectionSettings,
            *, nameless: bool) -> None:
        """Note the boxes of a frame, in pixels of the image.

        :param image_size: width and height [px]; boxes of other images, or that were read in
            another way, do not count beside these.
        """
        self._reading = image_size, settings
        self._seen.add(_Seen(box, nameless, self._reading) for box in boxes)

    def problem(self) -> Problem | None:
        """Return what is wrong with the boxes of the last ``WINDOW_S`` seconds."""
        reading = self._reading
        (width, height), settings = reading
        seen = [s for s in self._seen.things() if s.reading == reading]
        if len(seen) < FEWEST_BOXES:
            return None
        boxes = np.array([s.box_xyxy for s in seen])
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        if settings.size is None and (said := other_convention(boxes, (width, height))):
            return Problem(Level.WARN, said)
        outside = int(((centres < 0) | (centres > (width, height))).any(axis=1).sum())
        if outside > MOST_OUTSIDE * len(seen):
            told = f'{outside} of {len(seen)} boxes are centred outside the {width}x{height} image'
        elif settings.size is None and _in_a_corner(boxes, (width, height), seen[-1].nameless):
            told = (f'all {len(seen)} boxes lie in the upper left {boxes[:, 2].max():.0f}x'
                    f'{boxes[:, 3].max():.0f} pixels of the {width}x{height} image')
        else:
            return None
        return Problem(Level.WARN, f'{told}; {_advice(boxes, settings)}')


def _in_a_corner(boxes: Array, image_size: tuple[int, int], nameless: bool) -> bool:
    """Tell whether boxes lie in the upper left as if the image were smaller.

    One object that lies there is no evidence, unless the detector knows nothing of the image.

    :param boxes: (N, 4) [px].
    """
    if (boxes[:, 2:].max(axis=0) > np.multiply(CORNER, image_size)).any():
        return False
    extent = boxes[:, 2:].max(axis=0) - boxes[:, :2].min(axis=0)
    sizes = np.median(boxes[:, 2:] - boxes[:, :2], axis=0)
    return nameless or bool((extent > SPREAD * sizes).any())


def _advice(boxes: Array, settings: DetectionSettings) -> str:
    if settings.size is not None:
        return (f'detections_size {list(settings.size)} and detections_fit {settings.fit!r} may '
                'not be those of the detector')
    reach = boxes[:, 2:].max()
    size = next((s for s in USUAL_SIZES if s >= reach), USUAL_SIZES[-1])
    return ("if they are in pixels of the detector's network, set detections_size to its input, "
            f'for instance [{size}, {size}], and detections_fit')


def other_convention(boxes: Array, image_size: tuple[int, int]) -> str:
    """Return what boxes seem to be, and what to do, '' when they seem to be right.

    :param boxes: (N, 4) [px] x1, y1, x2, y2, as read from centre and size.
    :param image_size: width and height [px].
    """
    if (np.abs(boxes) <= LARGEST_PART_PX).all():
        return (f'all {len(boxes)} boxes lie between 0 and 1; if they are fractions of the image, '
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
    """Tell whether centre and size look like the two corners of boxes.

    A near object has boxes that are larger than their centre, too. But these end at the border of
    the image, and their size does not grow with the place.
    """
    beyond = np.maximum(REACH * sizes, SLACK_PX)
    reaching = ((centres - sizes / 2 < -beyond)
                | (centres + sizes / 2 > np.add(image_size, beyond))).any(axis=1)
    return bool((sizes > centres).all() and (centres >= -SLACK_PX).all()
                and (sizes <= np.add(image_size, SLACK_PX)).all()
                and reaching.sum() >= LEAST_REACHING * len(sizes)
                and (np.std(sizes - centres, axis=0) < np.std(sizes, axis=0)).all()
                and _places(centres, image_size) >= LEAST_PLACES)


def _places(centres: Array, image_size: tuple[int, int]) -> int:
    """Return at how many different places boxes are."""
    return len(np.unique(np.floor(centres / (PLACE * image_size[0])), axis=0))
