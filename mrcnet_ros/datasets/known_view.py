"""One object with a known pose in one image, the input of the measuring tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array
from .bop import BopFrame
from .boxes import BoxSpec, target_boxes


@dataclass(frozen=True, eq=False)
class KnownView:
    """A detection of an object and the truth about it.

    :param image: (H, W, 3) uint8 RGB.
    :param box_xyxy: (4,) [px].
    :param T_camera_object: (4, 4) [m].
    :param visible_fraction: of the silhouette, 0..1.
    """

    image: NDArray[np.uint8]
    camera: Camera
    label: str
    box_xyxy: Array
    T_camera_object: Array
    visible_fraction: float


def photographed(frames: Iterable[BopFrame], labels: Mapping[int, str],
                 boxes: BoxSpec) -> list[KnownView]:
    """Return the targets of a dataset that an estimator knows and that have a box.

    :param labels: of the known objects, by object id.
    """
    views = []
    for frame in frames:
        image = frame.load_image()
        views += [KnownView(image, frame.camera, labels[box.ground_truth.object_id], box.box_xyxy,
                            box.ground_truth.T_camera_object, box.ground_truth.visible_fraction)
                  for box in target_boxes(frame, boxes) if box.ground_truth.object_id in labels]
    return views
