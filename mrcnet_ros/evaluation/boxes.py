"""Detection boxes made from ground truth, as a detector with a chosen error would give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from ..errors import SpecError
from ..geometry.crop import outside
from ..geometry.se3 import Array
from .bop import BopFrame, GroundTruth

BoxKind = Literal['visib', 'amodal']


@dataclass(frozen=True)
class FoundBox:
    """What a detector says of one object.

    :param box_xyxy: (4,) [px], may reach beyond the image.
    """

    object_id: int
    box_xyxy: Array


class BoxSource(Protocol):
    """Where the boxes of an image come from."""

    def find(self, frame: BopFrame) -> list[FoundBox]:
        """Return the boxes of the image's targets."""

    def seconds(self, frame: BopFrame) -> float:
        """Return the time it took to find them."""


@dataclass(frozen=True)
class BoxSpec:
    """Which boxes to make.

    :param kind: ``visib`` around the visible pixels, ``amodal`` around the whole object.
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
        if self.kind not in ('visib', 'amodal'):
            raise SpecError(f'boxes must be visib or amodal, got {self.kind!r}')
        if not 0.0 <= self.jitter < 1.0:
            raise SpecError(f'box jitter must be in [0, 1), got {self.jitter}')
        if self.seed < 0:
            raise SpecError(f'seed must not be negative, got {self.seed}')

    def find(self, frame: BopFrame) -> list[FoundBox]:
        """Return the boxes of :func:`target_boxes`."""
        return [FoundBox(t.ground_truth.object_id, t.box_xyxy)
                for t in target_boxes(frame, self)]

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

    Left out are targets without a visible pixel and boxes wholly outside the image.
    """
    boxes = []
    for truth in frame.target_ground_truth():
        box = truth.box_visib_xyxy if spec.kind == 'visib' else truth.box_amodal_xyxy
        if box is None:
            continue
        names = (spec.seed, frame.scene_id, frame.image_id, truth.object_id, truth.instance)
        box = jittered(box, spec.jitter, names)
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
