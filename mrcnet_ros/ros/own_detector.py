"""The node's own detector, and its boxes as a message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from ..geometry.camera import Camera
from ..inference.poses import Detection
from .message_types import HeaderMessage


class Detector(Protocol):
    """What the node needs of :class:`mrcnet_ros.detector.object_detector.ObjectDetector`.

    :param least_score: boxes below are left out.
    """

    least_score: float

    @property
    def labels(self) -> Sequence[str]:
        """Return the labels that it can find."""

    def detect(self, image_rgb: NDArray[np.uint8], camera: Camera) -> list[Detection]:
        """Return what an image shows, best first."""

    def close(self) -> None:
        """Let go of what it runs on."""


def detections_2d(header: HeaderMessage, detections: Iterable[Detection]) -> Detection2DArray:
    """Return detections as a message; class ids are the model's labels.

    :param header: of the image.
    """
    return Detection2DArray(header=header, detections=[_detection_2d(header, d)
                                                       for d in detections])


def _detection_2d(header: HeaderMessage, detection: Detection) -> Detection2D:
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = detection.label
    hypothesis.hypothesis.score = float(detection.score)
    message = Detection2D(header=header, results=[hypothesis], id=detection.detection_id)
    x1, y1, x2, y2 = map(float, detection.box_xyxy)
    message.bbox.center.position.x, message.bbox.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
    message.bbox.size_x, message.bbox.size_y = x2 - x1, y2 - y1
    return message
