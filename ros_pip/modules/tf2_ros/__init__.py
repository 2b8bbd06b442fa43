"""Send coordinate transforms to /tf."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.qos import QoSProfile
from tf2_msgs.msg import TFMessage

__all__ = ['TransformBroadcaster']


class TransformBroadcaster:
    """Publishes transforms of a node on ``/tf``."""

    def __init__(self, node: Any, qos: QoSProfile | int | None = None) -> None:
        """Advertise ``/tf``; by default the last 100 messages are kept for slow readers."""
        self.pub_tf = node.create_publisher(TFMessage, '/tf', 100 if qos is None else qos)

    def sendTransform(
        self, transform: TransformStamped | Iterable[TransformStamped],
    ) -> None:
        """Publish one transform, or several in one message."""
        one = isinstance(transform, TransformStamped)
        self.pub_tf.publish(TFMessage(transforms=[transform] if one else list(transform)))
