"""Receives what the node publishes."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

from ..geometry.se3 import Array
from ..ros.context import start_ros
from ..ros.messages import stamp_ns, transform_from_pose
from ..testbench.readiness import Readiness

QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True, eq=False)
class ListenedPoses:
    """The answer to one frame.

    :param stamp_ns: of the image.
    :param received_ns: when it was received, by the same clock.
    :param T_camera_object: (4, 4) [m] by label.
    """

    stamp_ns: int
    received_ns: int
    T_camera_object: dict[str, Array]

    @property
    def age_s(self) -> float:
        """Time from the image's stamp to the receipt of its poses."""
        return (self.received_ns - self.stamp_ns) * 1e-9


class Listener:
    """Subscribes to the outputs of the node.

    ``problem`` is why the node could not be configured, '' as long as nothing is known of that.

    :param namespace: of the node, which is called pose_node.
    """

    def __init__(self, namespace: str) -> None:
        """Open a context of its own, and subscribe."""
        self.answers: dict[int, ListenedPoses] = {}
        self.problem = ''
        self._namespace = namespace
        self.counts: Counter[str] = Counter()
        self._context: Any = rclpy.Context()
        start_ros(context=self._context)
        self._node: Any = rclpy.create_node(
            'listener', namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._readiness = Readiness(self._node, f'{namespace}/pose_node')
        self._node.create_subscription(
            DiagnosticArray, '/diagnostics', self._on_diagnostics, QOS)
        for kind, topic, receive in (
            (Detection3DArray, 'object_detections', self._on_detections),
            (PoseStamped, 'object_poses', lambda _: self.counts.update(object_poses=1)),
            (TFMessage, '/tf', lambda m: self.counts.update(tf=len(m.transforms))),
        ):
            self._readiness.subscription(kind, topic, receive, QOS)

    def __enter__(self) -> Listener:
        """Return the listener itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        """Unsubscribe."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def spin(self, duration_s: float) -> None:
        """Receive for a while."""
        deadline = time.monotonic() + duration_s
        while (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def missing(self) -> list[str]:
        """Return what this listener and the node have not found of one another."""
        return self._readiness.missing()

    def wait_for(self, stamp: int, timeout_s: float) -> bool:
        """Receive until the answer to a frame is here, and return whether it is.

        :param stamp: of the frame [ns].
        """
        deadline = time.monotonic() + timeout_s
        while stamp not in self.answers and (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)
        return stamp in self.answers

    def _on_diagnostics(self, message: Any) -> None:
        self._readiness.see(message)
        for status in message.status:
            state = {v.key: v.value for v in status.values}.get('state')
            if status.name.startswith(f'{self._namespace}/') and state == 'unconfigured':
                self.problem = status.message

    def _on_detections(self, message: Any) -> None:
        received_ns = int(self._node.get_clock().now().nanoseconds)
        poses = {str(d.results[0].hypothesis.class_id): transform_from_pose(d.results[0].pose.pose)
                 for d in message.detections}
        stamp = stamp_ns(message.header)
        self.counts.update(object_detections=len(message.detections))
        self.answers[stamp] = ListenedPoses(stamp, received_ns, poses)
