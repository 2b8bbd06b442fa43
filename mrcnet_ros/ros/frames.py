"""What the node works on: the messages of a moment, and the messages that answer them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TransformStamped
from numpy.typing import NDArray
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, Detection3DArray

from ..geometry.camera import Camera
from ..inference.poses import FrameResult, PoseEstimate
from . import messages
from .depth_image import DepthLookup, no_depth
from .message_types import CameraInfoMessage, DetectionsMessage

if TYPE_CHECKING:
    from .frame_handler import FrameHandler


@dataclass(frozen=True, eq=False)
class Frame:
    """Messages of one moment.

    :param detections: None where the node finds the objects itself, and in an image that
        instances are only followed in.
    :param era: how often time had begun anew, see :class:`.synchronizer.InputSynchronizer`.
    :param depth: finds the depth image; it is asked just before poses are estimated.
    :param complete_s: time.perf_counter() when the last of them came.
    """

    image: Any  # Image or CompressedImage, as the parameter image_transport says
    camera_info: CameraInfoMessage
    detections: DetectionsMessage | None
    era: int = 0
    depth: DepthLookup = no_depth
    complete_s: float = field(default_factory=time.perf_counter)

    @property
    def moment(self) -> tuple[int, int]:
        """Era and stamp [ns] of the image; an earlier moment has a lower value."""
        return self.era, messages.stamp_ns(self.image.header)

    @property
    def turn(self) -> tuple[tuple[int, int], bool]:
        """Order in which frames are answered: of one moment that with detections first."""
        return self.moment, self.detections is None

    @property
    def has_detections(self) -> bool:
        return self.detections is not None


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and the objects found in it, for those who draw them.

    :param image_rgb: (H, W, 3) uint8.
    :param names: of the instances, as in /tf.
    :param estimates: in the same order.
    :param detections: how many there were, with and without a pose.
    """

    image_rgb: NDArray[np.uint8]
    camera: Camera
    names: list[str]
    estimates: list[PoseEstimate]
    detections: int


@dataclass(frozen=True, eq=False)
class Answer:
    """Messages that answer one frame, all with the stamp and frame of its image.

    :param transforms: empty where none are wanted or no frame is named.
    :param measured: poses as they were estimated, in the order of the scene, without smoothing.
    :param result: what the estimator said of the frame.
    :param found: what the node's own detector says, None where it did not look.
    :param detected: how many of the objects, the first ones, were detected in this very image.
    """

    poses: list[PoseStamped]
    transforms: list[TransformStamped]
    detections: Detection3DArray
    scene: Scene
    measured: list[PoseEstimate]
    result: FrameResult
    handler: FrameHandler
    found: Detection2DArray | None = None
    detected: int = 0

    @property
    def header(self) -> Header:
        """Stamp of the image and the camera's optical frame."""
        return self.detections.header


class FrameError(Exception):
    """A frame cannot be answered.

    :param reason: one of ``drop_counters.FRAME_REASONS``.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)
