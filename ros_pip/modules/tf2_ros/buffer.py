"""Remember transforms and find the way from one frame to another."""

from __future__ import annotations

import bisect
import threading
import time as clock
from typing import Any

import numpy as np
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

CACHE_NS = 10 * 10**9
# Quaternions whose squared norm differs more from 1 are left out.
DENORMALISED = 1e-2
STATIC = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TransformException(Exception):
    """There is no such transform."""


class LookupException(TransformException):
    """A frame is not known."""


class ConnectivityException(TransformException):
    """Two frames are in different trees."""


class ExtrapolationException(TransformException):
    """Nothing is known of the time asked for."""


class Buffer:
    """Keeps ten seconds of each transform; between two stamps it interpolates.

    Of several transforms with one stamp the last one counts.

    Transforms that are none are left out: of a frame to itself, without a name, with a number that
    is not finite, or with a quaternion that is no rotation.
    """

    def __init__(self, cache_time: Any = None, node: Any = None) -> None:
        """Start without any; ``node`` is not used."""
        self._keep_ns = cache_time.nanoseconds if cache_time is not None else CACHE_NS
        self._parents: dict[str, str] = {}
        self._history: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {}
        self._static: set[str] = set()
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forget all transforms but the static ones."""
        with self._lock:
            for child in self._history.keys() - self._static:
                del self._history[child], self._parents[child]

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Take in a transform of its stamp."""
        with self._lock:
            self._set(transform, static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Take in a transform that always holds."""
        with self._lock:
            self._set(transform, static=True)

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Any, timeout: Any = None,
    ) -> TransformStamped:
        """Return the transform that takes points of the source frame to the target frame.

        :param time: rclpy.time.Time or builtin_interfaces/Time; 0: the latest.
        :param timeout: rclpy.duration.Duration to wait, while another thread spins the node.
        :raises TransformException: when there is none in time.
        """
        end = clock.monotonic() + (timeout.nanoseconds * 1e-9 if timeout is not None else 0.0)
        while True:
            try:
                with self._lock:
                    return self._lookup(target_frame, source_frame, _nanoseconds(time))
            except TransformException:
                if clock.monotonic() >= end:
                    raise
            clock.sleep(0.01)

    def can_transform(
        self, target_frame: str, source_frame: str, time: Any, timeout: Any = None,
    ) -> bool:
        """Tell whether :meth:`lookup_transform` finds one."""
        try:
            self.lookup_transform(target_frame, source_frame, time, timeout)
        except TransformException:
            return False
        return True

    def _set(self, message: TransformStamped, *, static: bool) -> None:
        child, parent = (name.lstrip('/')
                         for name in (message.child_frame_id, message.header.frame_id))
        t, q = _parts(message.transform)
        if child == parent or not (child and parent) or not np.isfinite([*t, *q]).all() or (
                abs(q @ q - 1.0) > DENORMALISED):
            return
        if self._parents.get(child) != parent or (child in self._static and not static):
            self._history[child] = []
            self._static.discard(child)
        self._parents[child] = parent
        if static:
            self._static.add(child)
            self._history[child] = [(0, t, q)]
            return
        history, stamp = self._history[child], _nanoseconds(message.header.stamp)
        at = bisect.bisect_left(history, stamp, key=lambda entry: entry[0])
        again = at < len(history) and history[at][0] == stamp
        history[at:at + again] = [(stamp, t, q)]
        while history[0][0] < history[-1][0] - self._keep_ns:
            del history[0]

    def _lookup(self, target: str, source: str, stamp: int) -> TransformStamped:
        known = self._parents.keys() | set(self._parents.values())
        for frame in (target, source):
            if frame not in known:
                raise LookupException(f'frame {frame!r} does not exist; known: {sorted(known)}')
        up_target, up_source = self._way_up(target), self._way_up(source)
        common = next((frame for frame in up_source if frame in up_target), None)
        if common is None:
            raise ConnectivityException(f'{target!r} and {source!r} are not in one tree')
        links = (up_target[:up_target.index(common)], up_source[:up_source.index(common)])
        moving = [child for way in links for child in way if child not in self._static]
        if not stamp and moving:
            stamp = min(self._history[child][-1][0] for child in moving)
        T_common_target, T_common_source = (self._chain(way, stamp) for way in links)
        return _message(target, source, stamp, np.linalg.inv(T_common_target) @ T_common_source)

    def _way_up(self, frame: str) -> list[str]:
        way = [frame]
        while (parent := self._parents.get(way[-1])) is not None and parent not in way:
            way.append(parent)
        return way

    def _chain(self, children: list[str], stamp: int) -> np.ndarray:
        T = np.eye(4)
        for child in children:
            T = self._at(child, stamp) @ T
        return T

    def _at(self, child: str, stamp: int) -> np.ndarray:
        history = self._history[child]
        if child in self._static:
            return _matrix(*history[0][1:])
        after = bisect.bisect_left(history, stamp, key=lambda entry: entry[0])
        if after < len(history) and history[after][0] == stamp:
            return _matrix(*history[after][1:])
        if after in (0, len(history)):
            raise ExtrapolationException(
                f'{child!r} is known from {history[0][0]} to {history[-1][0]} ns, not at {stamp}')
        (start, t0, q0), (end, t1, q1) = history[after - 1:after + 1]
        part = (stamp - start) / (end - start)
        q = (1 - part) * q0 + part * (q1 if q0 @ q1 >= 0 else -q1)
        return _matrix((1 - part) * t0 + part * t1, q)


class TransformListener:
    """Fills a buffer from /tf and /tf_static while the node is spun."""

    def __init__(self, buffer: Buffer, node: Any, **_: Any) -> None:
        """Subscribe."""
        self.buffer = buffer
        self.tf_sub = node.create_subscription(
            TFMessage, '/tf', lambda m: [buffer.set_transform(t, '') for t in m.transforms], 100)
        self.tf_static_sub = node.create_subscription(
            TFMessage, '/tf_static',
            lambda m: [buffer.set_transform_static(t, '') for t in m.transforms], STATIC)


def _nanoseconds(time: Any) -> int:
    return time.nanoseconds if hasattr(time, 'nanoseconds') else time.sec * 10**9 + time.nanosec


def _parts(transform: Any) -> tuple[np.ndarray, np.ndarray]:
    t, q = transform.translation, transform.rotation
    return np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w])


def _matrix(t: np.ndarray, quat_xyzw: np.ndarray) -> np.ndarray:
    x, y, z, w = quat_xyzw / np.linalg.norm(quat_xyzw)
    T = np.eye(4)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    T[:3, :3] += 2 * (w * skew + skew @ skew)
    T[:3, 3] = t
    return T


def _message(target: str, source: str, stamp: int, T: np.ndarray) -> TransformStamped:
    message = TransformStamped(child_frame_id=source)
    message.header.frame_id = target
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    message.transform.translation = Vector3(**dict(zip('xyz', T[:3, 3].tolist(), strict=True)))
    # the eigenvector of this matrix with the largest eigenvalue is the quaternion
    R = T[:3, :3]
    K = np.zeros((4, 4))
    K[:3, :3] = R + R.T - np.trace(R) * np.eye(3)
    K[:3, 3] = K[3, :3] = R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]
    K[3, 3] = np.trace(R)
    q = np.linalg.eigh(K)[1][:, -1]
    message.transform.rotation = Quaternion(**dict(zip('xyzw', q.tolist(), strict=True)))
    return message
