"""The node's counterpart in tests: replaces camera, detector and robot."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection3DArray

from ..ros.drop_counters import FRAME_REASONS
from ..ros.message_types import DetectionsMessage, DiagnosticsMessage
from ..ros.node_process import start_ros
from ..ros.rclpy_types import NodeHandle
from .bag import DEPTH, INPUTS, BagFrame, restamped
from .readiness import PeerError, Readiness

if TYPE_CHECKING:
    from typing import Self

__all__ = ['QOS', 'Peer', 'PeerError']

_NUMBERS = itertools.count(1)  # of the peers of this process
# Reliable and deep enough for bursts: nothing that the node sends is missed.
QOS = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)


class Peer:
    """Publishes the node's inputs and receives what it publishes, in a separate context.

    ``pose_status`` and ``model_status`` hold the last values of the statuses ``poses`` and
    ``model`` on /diagnostics, ``model_message`` the message of the latter.

    :param name: of this end in the ROS graph.
    :param alive: called while waiting; raises when the node has ended.
    :param image_type: of the topic image, sensor_msgs/Image by default.
    :param depth: whether depth images are sent, too.
    :param detections: whether detections are sent; not to a node with a detector of its own.
    :param namespace: of the node, which is called pose_node, and of its topics; the diagnostics of
        other nodes are ignored.
    """

    def __init__(
        self, name: str, alive: Callable[[], None], image_type: type = INPUTS['/image'],
        *, depth: bool = False, detections: bool = True, namespace: str = '',
    ) -> None:
        """Join the network; leave it again, or use a ``with`` block."""
        self._alive, self._pose_node = alive, f'{namespace}/pose_node'.lstrip('/')
        self.pose_status: dict[str, str] = {}
        self.model_status: dict[str, str] = {}
        self.model_message = ''
        self._context = rclpy.Context()
        start_ros(context=self._context)
        unique = f'{name}_{os.getpid()}_{next(_NUMBERS)}'
        self._node: NodeHandle = rclpy.create_node(
            unique, namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._readiness = Readiness(self._node, self._pose_node)
        kinds = {**INPUTS, '/image': image_type, **({DEPTH: Image} if depth else {})}
        self._publishers = {topic: self._readiness.publisher(kind, topic[1:], QOS)
                            for topic, kind in kinds.items()
                            if detections or topic != '/detections'}
        self.subscribe(Detection3DArray, 'object_detections', self.on_detections)
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, QOS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def on_detections(self, message: DetectionsMessage) -> None:
        """Receive the answer to a frame, a vision_msgs/Detection3DArray."""

    def subscribe(self, kind: type, topic: str, receive: Callable[[Any], object]) -> None:
        """Receive another output of the node.

        :param topic: in the namespace of the node, unless it begins with a slash.
        """
        self._readiness.subscription(kind, topic, receive, QOS)

    def dropped(self) -> dict[str, int]:
        """Return what the node has dropped so far, by reason, as of its last diagnostics."""
        return {name.removeprefix('dropped '): int(text.split(' ')[0])
                for name, text in self.pose_status.items() if name.startswith('dropped ')}

    def dropped_frames(self) -> int:
        """Return how many frames the node has dropped so far, as of its last diagnostics."""
        return sum(count for name, count in self.dropped().items() if name in FRAME_REASONS)

    def publish(self, topic: str, message: object) -> None:
        """Send a message, or bytes that stand for one.

        :param topic: one of ``INPUTS``.
        """
        self._publishers[topic].publish(message)

    def send(self, frame: BagFrame, stamp: int) -> None:
        """Publish all inputs that a moment has, with another stamp [ns]."""
        if DEPTH in self._publishers and DEPTH in frame.inputs:
            self.publish(DEPTH, restamped(frame.inputs[DEPTH], stamp))
        for topic in (t for t in INPUTS if t in frame.inputs):
            self.publish(topic, restamped(frame.inputs[topic], stamp))

    def now_ns(self) -> int:
        """Return the time that a camera would stamp now [ns]."""
        return int(self._node.get_clock().now().nanoseconds)

    def wait_for_node(self, timeout_s: float) -> None:
        """Wait until node and peer have found one another on all topics.

        :raises PeerError: when they have not in time, or the node could not be configured.
        """
        def spin(done: Callable[[], bool], wait_s: float) -> bool:
            return self.spin(lambda: self._is_configured() and done(), wait_s)

        self._readiness.wait(spin, timeout_s)

    def _is_configured(self) -> bool:
        state = self.model_status.get('state')
        if state == 'unconfigured':
            raise PeerError(f'the node could not be configured: {self.model_message}')
        if state == 'finalized':
            raise PeerError('the node was shut down')
        return bool(self.model_status)

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

    def _on_diagnostics(self, message: DiagnosticsMessage) -> None:
        self._readiness.see(message)
        for status in message.status:
            node, _, part = status.name.rpartition(': ')
            if node != self._pose_node:
                continue
            values = {v.key: v.value for v in status.values}
            if part == 'poses':
                self.pose_status = values
            elif part == 'model':
                self.model_status, self.model_message = values, status.message
