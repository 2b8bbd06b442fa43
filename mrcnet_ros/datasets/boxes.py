"""Detection boxes made from ground truth, with chosen errors of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from ..geometry.crop import outside
from ..geometry.se3 import Array
from .bop import BopFrame, GroundTruth

BoxKind = Literal['visib', 'amodal', 'detector']
# Of the boxes that a YOLOX detector (trained on synthetic images) gives on the 20 LM-O photographs
# of the card of models/lmo, nine in ten lie within a tenth of their side of the visible ones; of
# the others one edge is cut off, by up to a quarter of the side, or lies beyond, by up to half.
DETECTOR_JITTER = 0.1
CUT_OFF, BEYOND = (0.1, 0.25), (0.15, 0.5)  # how often, and by how much at most


@dataclass(frozen=True)
class FoundBox:
    """A detected box.

    :param box_xyxy: (4,) [px], may reach beyond the image.
    :param score: confidence, 0 to 1.
    """

    object_id: int
    box_xyxy: Array
    score: float = 1.0


class BoxSource(Protocol):
    """A source of boxes for images."""

    def find(self, frame: BopFrame) -> list[FoundBox]:
        """Return the boxes of the image's targets."""

    def seconds(self, frame: BopFrame) -> float:
        """Return the time it took to find the boxes [s]."""


@dataclass(frozen=True)
class BoxSpec:
    """Which boxes to make.

    :param kind: ``visib`` around the visible pixels, ``amodal`` around the whole object,
        ``detector`` around the visible pixels as a detector gives them: moved a little, and now
        and then with an edge cut off or far outside.
    :param jitter: centre shifts and side scales are uniform in +-jitter of the box side.
    :param seed: of the jitter; each box depends on it and on its own names only.
    """

    kind: BoxKind = 'visib'
    jitter: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        :raises SpecError: when one cannot be used.
        """
        if self.kind not in ('visib', 'amodal', 'detector'):
            raise SpecError(f'boxes must be visib, amodal or detector, got {self.kind!r}')
        if not 0.0 <= self.jitter < 1.0:
            raise SpecError(f'box jitter must be in [0, 1), got {self.jitter}')
        if self.seed < 0:
            raise SpecError(f'seed must not be negative, got {self.seed}')

    def exact(self) -> BoxSpec:
        """Return these boxes as annotated, without the errors of a detector."""
        return BoxSpec('visib' if self.kind == 'detector' else self.kind)

    def find(self, frame: BopFrame) -> list[FoundBox]:
        """Return the boxes of :func:`target_boxes`."""
        return [FoundBox(t.ground_truth.object_id, t.box_xyxy) for t in target_boxes(frame, self)]

    def seconds(self, frame: BopFrame) -> float:
        """Return 0: ground truth takes no time."""
        return 0.0


@dataclass(frozen=True)
class TargetBox:
    """A detection of one target.

    :param box_xyxy: (4,) [px], may reach beyond the image.
    """

    ground_truth: GroundTruth
    box_xyxy: Array


def target_boxes(frame: BopFrame, spec: BoxSpec) -> list[TargetBox]:
    """Return a box for each target instance of the image.

    Targets without a visible pixel and boxes wholly outside the image are left out.
    """
    boxes = []
    for truth in frame.target_ground_truth():
        box = truth.box_amodal_xyxy if spec.kind == 'amodal' else truth.box_visib_xyxy
        if box is None:
            continue
        names = (spec.seed, frame.scene_id, frame.image_id, truth.object_id, truth.instance)
        box = jittered(box, spec.jitter, names)
        if spec.kind == 'detector':
            box = as_detected(box, names)
        if not outside(box, frame.camera.width, frame.camera.height):
            boxes.append(TargetBox(truth, box))
    return boxes


def jittered(box_xyxy: Array, jitter: float, names: tuple[int, ...]) -> Array:
    """Shift and scale a box at random.

    :param box_xyxy: (4,) [px].
    :param jitter: shifts and scales are uniform in +-jitter of the box side.
    :param names: numbers that the result depends on, whatever else was drawn before.
    :return: (4,) [px].
    """
    if jitter == 0.0:
        return box_xyxy.copy()
    draw = np.random.default_rng(names).uniform(-jitter, jitter, 4)
    side = box_xyxy[2:] - box_xyxy[:2]
    centre = (box_xyxy[:2] + box_xyxy[2:]) / 2 + draw[:2] * side
    half = side * (1.0 + draw[2:]) / 2
    return np.concatenate([centre - half, centre + half])


def as_detected(box_xyxy: Array, names: tuple[int, ...]) -> Array:
    """Give a box the errors of a detector.

    :param box_xyxy: (4,) [px].
    :param names: numbers that the result depends on.
    :return: (4,) [px].
    """
    box = jittered(box_xyxy, DETECTOR_JITTER, (*names, 1))
    rng = np.random.default_rng((*names, 2))
    chance, edge, part = rng.random(), int(rng.integers(4)), rng.random()
    (often_cut, most_cut), (often_beyond, most_beyond) = CUT_OFF, BEYOND
    inwards = 0.0
    if chance < often_cut:
        inwards = part * most_cut
    elif chance < often_cut + often_beyond:
        inwards = -part * most_beyond
    box[edge] += inwards * (box[2:] - box[:2])[edge % 2] * (1 if edge < 2 else -1)
    return box


def mask_box(mask: NDArray[np.bool_]) -> Array | None:
    """Return the box around a mask, to the far edge of its last pixel.

    :param mask: (H, W).
    :return: (4,) x1, y1, x2, y2 [px]; None of an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
