"""The fields of messages that the node touches, as types.

The packages of messages bring no types that mypy can use. A message of any of these types is what
ROS calls by the name in its docstring.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class TimeMessage(Protocol):
    """builtin_interfaces/Time and Duration."""

    sec: int
    nanosec: int


class HeaderMessage(Protocol):
    """std_msgs/Header."""

    stamp: TimeMessage
    frame_id: str


class StampedMessage(Protocol):
    """Any message with a header."""

    header: HeaderMessage


class ImageMessage(StampedMessage, Protocol):
    """sensor_msgs/Image."""

    width: int
    height: int
    encoding: str
    is_bigendian: int
    step: int
    data: bytes


class CompressedImageMessage(StampedMessage, Protocol):
    """sensor_msgs/CompressedImage."""

    format: str
    data: bytes


class RegionMessage(Protocol):
    """sensor_msgs/RegionOfInterest."""

    x_offset: int
    y_offset: int
    width: int
    height: int


class CameraInfoMessage(StampedMessage, Protocol):
    """sensor_msgs/CameraInfo."""

    width: int
    height: int
    distortion_model: str
    d: Sequence[float]
    k: Sequence[float]
    r: Sequence[float]
    p: Sequence[float]
    binning_x: int
    binning_y: int
    roi: RegionMessage


class VectorMessage(Protocol):
    """geometry_msgs/Point and Vector3."""

    x: float
    y: float
    z: float


class QuaternionMessage(Protocol):
    """geometry_msgs/Quaternion."""

    x: float
    y: float
    z: float
    w: float


class PoseMessage(Protocol):
    """geometry_msgs/Pose."""

    position: VectorMessage
    orientation: QuaternionMessage


class TransformMessage(Protocol):
    """geometry_msgs/Transform."""

    translation: VectorMessage
    rotation: QuaternionMessage


class PoseWithCovarianceMessage(Protocol):
    """geometry_msgs/PoseWithCovariance."""

    pose: PoseMessage
    covariance: Sequence[float]


class DetectionsMessage(StampedMessage, Protocol):
    """A message of vision_msgs or yolo_msgs with detections, which differ."""

    detections: Sequence[Any]


class KeyValueMessage(Protocol):
    """diagnostic_msgs/KeyValue."""

    key: str
    value: str


class StatusMessage(Protocol):
    """diagnostic_msgs/DiagnosticStatus."""

    name: str
    message: str
    values: Sequence[KeyValueMessage]


class DiagnosticsMessage(Protocol):
    """diagnostic_msgs/DiagnosticArray."""

    status: Sequence[StatusMessage]


class TransformStampedMessage(StampedMessage, Protocol):
    """geometry_msgs/TransformStamped."""

    child_frame_id: str
    transform: TransformMessage


class TransformsMessage(Protocol):
    """tf2_msgs/TFMessage."""

    transforms: Sequence[TransformStampedMessage]


class LookupRequest(Protocol):
    """The goal of tf2_msgs/LookupTransform."""

    target_frame: str
    source_frame: str
    source_time: TimeMessage
    timeout: TimeMessage
    fixed_frame: str
    advanced: bool
