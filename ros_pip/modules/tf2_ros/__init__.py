"""Send coordinate transforms to /tf, and look them up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.qos import QoSProfile
from tf2_msgs.msg import TFMessage

from .buffer import (
    STATIC,
    Buffer,
    ConnectivityException,
    ExtrapolationException,
    LookupException,
    TransformException,
    TransformListener,
)

__all__ = ['Buffer', 'ConnectivityException', 'ExtrapolationException', 'LookupException',
           'StaticTransformBroadcaster', 'TransformBroadcaster', 'TransformException',
           'TransformListener']


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


class StaticTransformBroadcaster(TransformBroadcaster):
    """Publishes transforms of a node that never change on ``/tf_static``."""

    def __init__(self, node: Any) -> None:
        """Advertise ``/tf_static``; who comes later gets the transforms as well."""
        self.pub_tf = node.create_publisher(TFMessage, '/tf_static', STATIC)
