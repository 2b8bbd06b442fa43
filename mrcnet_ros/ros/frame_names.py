"""Frames that others have in /tf: objects must not take them, and nobody else those of objects."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from .gate import Gate
from .message_types import TransformsMessage, TransformStampedMessage
from .messages import transform_from_message
from .rclpy_types import NodeHandle, SubscriptionHandle

# The frames of REP 105 and the usual root of an arm: no object may have these names, even if
# nobody publishes them yet.
ROBOT_FRAMES = ('base_footprint', 'base_link', 'earth', 'map', 'odom', 'world')
# Robots send hundreds of messages a second to /tf, and names seldom change: this many are
# read, then none for a while.
LOOK_MESSAGES, PAUSE_S = 20, 2.0
# Frames that are remembered of /tf; large robots have some hundred.
MOST_MOVING = 5000
# Transforms of each frame by which the node knows its own again, also late ones: ten seconds at
# the rate of a camera. Others that send the frame are told for as long.
REMEMBERED, TOLD_S = 300, 10.0
# Axes of an optical frame (x right, y down, z forward) in those of a body (x forward, y left, z
# up), as REP 103 has both, and by how much the entries of a calibrated rotation may differ.
OPTICAL, TURNED = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), 0.1


class FrameNames:
    """Knows the frames that others publish.

    The executor's thread notes them, the worker's asks.

    :param clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._moving: OrderedDict[str, str] = OrderedDict()  # parents
        self._fixed: dict[str, str] = {}
        self._optical: dict[str, str] = {}  # frames of cameras by the body that they are fixed to
        self._own: set[tuple[str, str]] = set()
        self._sent: dict[tuple[str, str], deque[tuple[float, ...]]] = {}
        self._sent_s: dict[str, float] = {}
        self._others_s: dict[str, float] = {}
        self._left, self._shut_s = LOOK_MESSAGES, 0.0
        self._node: NodeHandle | None = None
        self._subscriptions: list[SubscriptionHandle] = []

    def listen(self, node: NodeHandle) -> None:
        """Begin to listen to /tf and /tf_static, with nothing known."""
        with self._lock:
            self._moving.clear()
            self._fixed.clear()
            self._optical.clear()
        self._node, self._left = node, LOOK_MESSAGES
        moving = QoSProfile(depth=LOOK_MESSAGES, reliability=ReliabilityPolicy.BEST_EFFORT)
        fixed = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = [
            node.create_subscription(TFMessage, '/tf', self._moved, moving,
                                     callback_group=Gate(self._looks)),
            node.create_subscription(TFMessage, '/tf_static', self.note_fixed, fixed)]

    def close(self) -> None:
        for subscription in self._subscriptions:
            assert self._node is not None
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _looks(self) -> bool:
        if not self._left and self._clock() - self._shut_s >= PAUSE_S:
            self._left = LOOK_MESSAGES
        return self._left > 0

    def _moved(self, message: TransformsMessage) -> None:
        self.note(message)
        self._note_others(message)
        self._left -= 1
        if not self._left:
            self._shut_s = self._clock()

    def note(self, message: TransformsMessage) -> None:
        """Take in a message of /tf; what the node itself has sent is left out.

        The names that came last are kept: trackers publish ever new ones.
        """
        with self._lock:
            for child, parent in map(_edge, message.transforms):
                if (child, parent) not in self._own:
                    self._fixed.pop(child, None)
                    self._moving[child] = parent
                    self._moving.move_to_end(child)
            while len(self._moving) > MOST_MOVING:
                self._moving.popitem(last=False)

    def note_fixed(self, message: TransformsMessage) -> None:
        """Take in a message of /tf_static, which comes once."""
        with self._lock:
            for child, parent in map(_edge, message.transforms):
                if (child, parent) not in self._own:
                    self._moving.pop(child, None)
                    self._fixed[child] = parent
            for transform in message.transforms:
                child, parent = _edge(transform)
                if 'optical' in child and _is_optical(transform):
                    self._optical[parent] = child

    def optical_of(self, frame: str) -> str:
        """Return the optical frame that is fixed to a frame of a body, '' for none.

        Its name says that it is one, and it is turned against the body as optical frames are. So
        the frame itself is none.
        """
        with self._lock:
            return self._optical.get(frame.lstrip('/'), '')

    def sent(self, transforms: Iterable[TransformStampedMessage]) -> None:
        """Take in what the node is about to send to /tf."""
        with self._lock:
            for transform in transforms:
                edge = _edge(transform)
                self._sent.setdefault(edge, deque(maxlen=REMEMBERED)).append(_content(transform))
                self._sent_s[edge[0]] = self._clock()

    def others(self) -> list[str]:
        """Return the frames that the node and somebody else have sent in the last seconds.

        Both have the same parent; one with another parent is refused.
        """
        now = self._clock()
        with self._lock:
            return sorted(child for child, s in self._others_s.items()
                          if now - s < TOLD_S and now - self._sent_s[child] < TOLD_S)

    def _note_others(self, message: TransformsMessage) -> None:
        with self._lock:
            for transform in message.transforms:
                edge = _edge(transform)
                if edge in self._sent and _content(transform) not in self._sent[edge]:
                    self._others_s[edge[0]] = self._clock()

    def refusal(self, child: str, parent: str) -> str:
        """Return why /tf must not have an object's frame, '' where it may.

        :param child: frame of the object.
        :param parent: frame of the camera.
        """
        child, parent = child.lstrip('/'), parent.lstrip('/')  # as tf2 reads them
        with self._lock:
            other = self._parent(child) or parent
            if other != parent:
                return (f'{child!r} has the name of a frame that another node publishes below '
                        f'{other!r}')
            if child in self._above(parent):
                return f'{child!r} has the name of a frame that the camera is fixed to'
            if child in ROBOT_FRAMES:
                return f'{child!r} has the usual name of a frame of robots'
            self._own.add((child, parent))
            return ''

    def _above(self, frame: str) -> set[str]:
        """Return the frames from that of the camera up to the root; a loop ends the search."""
        found: set[str] = set()
        while (frame := self._parent(frame)) and frame not in found:
            found.add(frame)
        return found

    def _parent(self, frame: str) -> str:
        """Return the frame above one that others publish, '' for none."""
        return self._moving.get(frame) or self._fixed.get(frame, '')


def _edge(transform: TransformStampedMessage) -> tuple[str, str]:
    """Return child and parent."""
    return (str(transform.child_frame_id).lstrip('/'),
            str(transform.header.frame_id).lstrip('/'))


def _is_optical(transform: TransformStampedMessage) -> bool:
    """Tell whether a frame is turned against its parent as an optical frame against a body."""
    with np.errstate(invalid='ignore'):  # a quaternion of zeros is no rotation
        R = transform_from_message(transform.transform)[:3, :3]
    return bool((np.abs(R - OPTICAL) < TURNED).all())


def _content(transform: TransformStampedMessage) -> tuple[float, ...]:
    """Return stamp and position: two publishers may have the same stamps."""
    stamp, at = transform.header.stamp, transform.transform.translation
    return stamp.sec, stamp.nanosec, at.x, at.y, at.z
