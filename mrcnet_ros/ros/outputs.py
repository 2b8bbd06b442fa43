"""The topics on which frames are answered."""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import PoseStamped
from tf2_ros import TransformBroadcaster
from vision_msgs.msg import Detection3DArray

from . import qos
from .frame_handler import Answer
from .params import NodeParameters


class Outputs:
    """Publishes answers; used by the worker's thread.

    :param node: that publishes.
    """

    def __init__(self, node: Any) -> None:
        """Create the publishers."""
        self._poses = node.create_publisher(PoseStamped, 'object_poses', qos.OUTPUT)
        self._detections = node.create_publisher(
            Detection3DArray, 'object_detections', qos.OUTPUT)
        self._broadcaster = TransformBroadcaster(node)

    def publish(self, answer: Answer, parameters: NodeParameters) -> None:
        """Publish all messages of an answer."""
        for pose in answer.poses:
            self._poses.publish(pose)
        framed = bool(answer.detections.header.frame_id)
        if answer.transforms and framed and parameters.publish_tf:
            self._broadcaster.sendTransform(answer.transforms)
        self._detections.publish(answer.detections)
