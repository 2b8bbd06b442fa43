"""The other end of the node's topics: what stands in for camera, detector and robot."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from vision_msgs.msg import Detection3DArray

from ..errors import MrcnetError
from .bag import INPUTS, BagFrame, restamped
from .context import start_ros

if TYPE_CHECKING:
    from typing import Self

QOS = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)


class PeerError(MrcnetError):
    """The node does not listen."""


class Peer:
    """Publishes the node's inputs and receives what it publishes, in a context of its own.

    ``pose_status`` and ``model_status`` hold the last values of the node's statuses about poses
    and about its model, ``model_message`` what the latter says.

    :param name: of this end in the ROS graph.
    :param alive: called while waiting; raises when the node has ended.
    :param image_type: of the topic image, sensor_msgs/Image by default.
    """

    def __init__(
        self, name: str, alive: Callable[[], None], image_type: type = INPUTS['/image'],
    ) -> None:
        """Join the network; leave it again, or use a ``with`` block."""
        self._alive = alive
        self.pose_status: dict[str, str] = {}
        self.model_status: dict[str, str] = {}
        self.model_message = ''
        self._context: Any = rclpy.Context()
        start_ros(context=self._context)
        self._node: Any = rclpy.create_node(name, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._publishers = {topic: self._node.create_publisher(kind, topic, QOS)
                            for topic, kind in {**INPUTS, '/image': image_type}.items()}
        self.subscribe(Detection3DArray, '/object_detections', self.on_detections)
        self.subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics)

    def __enter__(self) -> Self:
        """Return the peer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the network."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def on_detections(self, message: Any) -> None:
        """Receive the answer to a frame, a vision_msgs/Detection3DArray."""

    def subscribe(self, kind: type, topic: str, receive: Callable[[Any], object]) -> None:
        """Receive another output of the node."""
        self._node.create_subscription(kind, topic, receive, QOS)

    def dropped(self) -> dict[str, int]:
        """Return how much the node has dropped so far, by reason, as it last told."""
        return {name.removeprefix('dropped '): int(text.split(' ')[0])
                for name, text in self.pose_status.items() if name.startswith('dropped ')}

    def publish(self, topic: str, message: Any) -> None:
        """Send a message, or bytes that stand for one.

        :param topic: one of ``INPUTS``.
        """
        self._publishers[topic].publish(message)

    def send(self, frame: BagFrame, stamp: int) -> None:
        """Publish all inputs of a moment with another stamp [ns]."""
        for topic in INPUTS:
            self.publish(topic, restamped(frame.inputs[topic], stamp))

    def now_ns(self) -> int:
        """Return the time that a camera would stamp now [ns]."""
        return int(self._node.get_clock().now().nanoseconds)

    def wait_for_node(self, timeout_s: float) -> None:
        """Wait until the node listens to all inputs.

        :raises PeerError: when it does not in time, or could not be configured.
        """
        def connected() -> bool:
            if self.model_status.get('state') == 'unconfigured':
                raise PeerError(f'the node could not be configured: {self.model_message}')
            return (all(p.get_subscription_count() for p in self._publishers.values())
                    and bool(self._node.count_publishers('/object_detections')))

        if not self.spin(connected, timeout_s):
            raise PeerError(f'the node does not listen after {timeout_s:.0f} s; its log says '
                            'what it is doing')
        self.spin(lambda: False, 0.5)  # matching of reader and writer may lag behind the count

    def spin(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Receive messages, at least those that are there, until something is done.

        :return: whether it is.
        :raises MrcnetError: when the node has ended.
        """
        end = time.perf_counter() + timeout_s
        while True:
            self._alive()
            self._executor.spin_once(timeout_sec=max(0.0, min(end - time.perf_counter(), 0.1)))
            if done():
                return True
            if time.perf_counter() >= end:
                return False

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            values = {v.key: v.value for v in status.values}
            if status.name.endswith(': poses'):
                self.pose_status = values
            elif status.name.endswith(': model'):
                self.model_status, self.model_message = values, status.message
