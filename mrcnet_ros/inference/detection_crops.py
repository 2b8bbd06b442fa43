"""The crops of a detection: one, or several that are turned against one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import SpecError
from ..geometry.crop import CropCamera, turned
from ..geometry.se3 import Array
from .known_start import KnownPose
from .poses import Detection

MOST_CROPS = 32  # in one batch, which takes about 4 MB of memory for each
MOST_ANSWERS = 96  # of stage 2 in one batch, which take about 1 MB each
# On the LM-O photographs two crops turned by 6, 18 or 25 degrees to both sides score less; see
# docs/experiments.md.
LARGEST_TURN_RAD = np.radians(12.0)


@dataclass(frozen=True, eq=False)
class DetectionCrop:
    """A detection that can be answered, and one of its crops."""

    detection_index: int
    detection: Detection
    class_index: int
    camera: CropCamera
    start: KnownPose | None = None  # in place of what stage 1 says of the pose

    def in_turns(self, turns_rad: Array) -> list[DetectionCrop]:
        """Return the same crop in several turns about its axis.

        :param turns_rad: (N,) of each.
        """
        return [replace(self, camera=turned(self.camera, angle)) for angle in turns_rad]


def crops_each(crops: Sequence[DetectionCrop]) -> int:
    """Return how many crops there are of each detection, which stand together."""
    return sum(crop.detection_index == crops[0].detection_index for crop in crops) or 1


def crop_turns(count: int) -> Array:
    """Return how far each crop of a detection is turned [rad], (count,), the least one first.

    :raises SpecError: when there is to be none, or more than fit into a batch.
    """
    if count not in range(1, MOST_CROPS + 1):
        raise SpecError(f'crops must be a whole number from 1 to {MOST_CROPS}, got {count!r}')
    count = int(count)
    turns = np.linspace(-LARGEST_TURN_RAD, LARGEST_TURN_RAD, count) if count > 1 else np.zeros(1)
    return turns[np.argsort(np.abs(turns), kind='stable')]
