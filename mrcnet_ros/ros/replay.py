"""Publish the frames of a bag to a node and collect its answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from vision_msgs.msg import Detection3DArray

from ..errors import MrcnetError
from ..geometry.se3 import Array
from . import messages
from .bag import INPUTS, BagFrame, restamped

QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


class ReplayError(MrcnetError):
    """The node does not listen or does not answer."""


@dataclass(frozen=True, eq=False)
class PublishedPose:
    """A pose that the node published.

    :param T_camera_object: (4, 4) float64 [m].
    """

    label: str
    score: float
    T_camera_object: Array


@dataclass(frozen=True, eq=False)
class Answer:
    """What the node published for one frame.

    :param age_s: from publishing the frame to receiving its poses.
    """

    poses: list[PublishedPose]
    age_s: float


class Replayer:
    """The other end of the node's topics.

    :param alive: called while waiting; raises when the node has ended.
    """

    def __init__(self, alive: Callable[[], None]) -> None:
        """Open a context of its own, publish and subscribe."""
        self._alive = alive
        self._sent: dict[int, float] = {}
        self._answers: dict[int, Answer] = {}
        self._context: Any = rclpy.Context()
        rclpy.init(context=self._context)
        self._node: Any = rclpy.create_node('replay', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._publishers = {topic: self._node.create_publisher(kind, topic, QOS)
                            for topic, kind in INPUTS.items()}
        self._node.create_subscription(
            Detection3DArray, '/object_detections', self._on_answer, QOS)

    def __enter__(self) -> Replayer:
        """Return the replayer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the network."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def wait_for_node(self, timeout_s: float) -> None:
        """Wait until the node listens to all inputs.

        :raises ReplayError: when it does not in time.
        """
        def connected() -> bool:
            return (all(p.get_subscription_count() for p in self._publishers.values())
                    and bool(self._node.count_publishers('/object_detections')))

        if not self._spin(connected, timeout_s):
            raise ReplayError(f'the node does not listen after {timeout_s:.0f} s')
        self._spin(lambda: False, 0.5)  # matching of reader and writer may lag behind the count

    def lossless(
        self, frames: Sequence[BagFrame], timeout_s: float,
        after_frame: Callable[[], object] = lambda: None,
    ) -> list[Answer | None]:
        """Send frame after frame, each once the one before is answered.

        :return: for each frame its answer, None when there was none in time.
        """
        answers: list[Answer | None] = []
        for frame in frames:
            self._send(frame, frame.stamp_ns)
            self._spin(partial(self._answers.__contains__, frame.stamp_ns), timeout_s)
            answers.append(self._answers.pop(frame.stamp_ns, None))
            after_frame()
        return answers

    def realtime(
        self, frames: Sequence[BagFrame], rate_hz: float, rest_s: float = 3.0,
    ) -> list[Answer | None]:
        """Send frames at a rate, stamped with the time they are sent, as a camera does.

        :param rest_s: how long to wait for answers after the last frame.
        :return: for each frame its answer, None for a dropped one.
        """
        stamps: list[int] = []
        start = time.perf_counter()
        for index, frame in enumerate(frames):
            self._spin(lambda: False, start + index / rate_hz - time.perf_counter())
            stamps.append(int(self._node.get_clock().now().nanoseconds))
            self._send(frame, stamps[-1])
        self._spin(lambda: stamps[-1] in self._answers, rest_s)
        return [self._answers.get(stamp) for stamp in stamps]

    def _send(self, frame: BagFrame, stamp: int) -> None:
        self._sent[stamp] = time.perf_counter()
        for topic, publisher in self._publishers.items():
            publisher.publish(restamped(frame.inputs[topic], stamp))

    def _spin(self, done: Callable[[], bool], timeout_s: float) -> bool:
        end = time.perf_counter() + timeout_s
        while not done():
            left = end - time.perf_counter()
            if left <= 0:
                return False
            self._alive()
            self._executor.spin_once(timeout_sec=min(left, 0.1))
        return True

    def _on_answer(self, message: Any) -> None:
        now, stamp = time.perf_counter(), messages.stamp_ns(message.header)
        poses = [PublishedPose(str(d.results[0].hypothesis.class_id),
                               float(d.results[0].hypothesis.score),
                               messages.transform_from_pose(d.results[0].pose.pose))
                 for d in message.detections]
        if stamp in self._sent:
            self._answers[stamp] = Answer(poses, now - self._sent.pop(stamp))
