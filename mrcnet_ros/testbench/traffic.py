"""Sends the node frames at the rate of a camera, for any time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from ..geometry.camera import Camera
from ..inference.poses import Detection
from ..ros.detection_reading import detections_from_message
from ..ros.message_types import DetectionsMessage
from ..ros.messages import rgb_from_image, stamp_ns
from .bag import BagFrame
from .peer import Peer


class Traffic(Peer):
    """Sends frames at a rate and counts the answers.

    :param alive: called while waiting; raises when the node has ended.
    :param detections: whether frames have detections.
    """

    def __init__(self, alive: Callable[[], None], *, detections: bool = True) -> None:
        super().__init__('camera', alive, detections=detections)
        self.sent = self.answered = self.poses = 0
        self._ages_s: list[float] = []
        self._last_answer_s, self._silence_s = time.perf_counter(), 0.0

    def run(self, frames: Sequence[BagFrame], rate_hz: float, duration_s: float,
            after_frame: Callable[[], object] = lambda: None) -> None:
        """Send frames in turn, stamped with the time they are sent; late ones are left out.

        :param after_frame: called after each frame sent.
        """
        start, number = time.perf_counter(), 0
        self._last_answer_s = start
        while number / rate_hz < duration_s:
            self.spin(lambda: False, start + number / rate_hz - time.perf_counter())
            self.send(frames[number % len(frames)], self.now_ns())
            self.sent += 1
            after_frame()
            number = max(number + 1, int((time.perf_counter() - start) * rate_hz))

    def take_ages_s(self) -> list[float]:
        """Return the times from stamp to receipt of the answers since the last call [s]."""
        ages, self._ages_s = self._ages_s, []
        return ages

    def take_silence_s(self) -> float:
        """Return the longest time without an answer that ended after the last call [s]."""
        longest = max(self._silence_s, time.perf_counter() - self._last_answer_s)
        self._silence_s = 0.0
        return longest

    def on_detections(self, message: DetectionsMessage) -> None:
        now = time.perf_counter()
        self._ages_s.append((self.now_ns() - stamp_ns(message.header)) * 1e-9)
        self._silence_s = max(self._silence_s, now - self._last_answer_s)
        self._last_answer_s = now
        self.answered += 1
        self.poses += len(message.detections)


def first_detections(frame: BagFrame, count: int) -> BagFrame:
    """Return a frame with at most ``count`` of its detections."""
    message = deserialize_message(frame.inputs['/detections'], Detection2DArray)
    message.detections = message.detections[:count]
    return dataclasses.replace(
        frame, inputs={**frame.inputs, '/detections': serialize_message(message)})


def decoded(frame: BagFrame) -> tuple[NDArray[np.uint8], Camera, list[Detection]]:
    """Return image, camera and detections as the node passes them to its estimator.

    :raises ImageError: when the image cannot be used.
    :raises CameraError: when camera_info cannot.
    """
    image = rgb_from_image(deserialize_message(frame.inputs['/image'], Image))
    boxes = deserialize_message(frame.inputs['/detections'], Detection2DArray)
    return image, frame.camera(), detections_from_message(boxes)[0]
