"""Pair messages of several topics by the stamps of their headers."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ['ApproximateTimeSynchronizer', 'SimpleFilter', 'Subscriber', 'TimeSynchronizer']


class SimpleFilter:
    """Something that hands messages on to registered callbacks."""

    def __init__(self) -> None:
        """Start without callbacks."""
        self._callbacks: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._numbers = itertools.count()

    def registerCallback(self, cb: Callable[..., Any], *args: Any) -> int:
        number = next(self._numbers)
        self._callbacks[number] = (cb, args)
        return number

    def signalMessage(self, *msg: Any) -> None:
        for callback, args in list(self._callbacks.values()):
            callback(*msg, *args)


class Subscriber(SimpleFilter):
    """A subscription as the source of a filter chain."""

    def __init__(self, node: Any, msg_type: type, topic: str, **kwargs: Any) -> None:
        """Subscribe; keyword arguments such as ``qos_profile`` go to ``create_subscription``."""
        super().__init__()
        self.node = node
        self.topic = topic
        kwargs.setdefault('qos_profile', 10)
        self.sub = node.create_subscription(msg_type, topic, self.callback, **kwargs)

    def callback(self, msg: Any) -> None:
        """Hand one received message on."""
        self.signalMessage(msg)


class TimeSynchronizer(SimpleFilter):
    """Hands on one message of each input when their stamps are equal.

    :param fs: the inputs.
    :param queue_size: how many messages of each input wait for their partners.
    """

    def __init__(self, fs: Sequence[SimpleFilter], queue_size: int) -> None:
        """Listen to the inputs."""
        super().__init__()
        self.queue_size = queue_size
        self.lock = threading.Lock()
        self.queues: list[dict[int, Any]] = [{} for _ in fs]
        for index, source in enumerate(fs):
            source.registerCallback(self._receive, index)

    def _receive(self, msg: Any, index: int) -> None:
        with self.lock:
            queue = self.queues[index]
            queue[_stamp_ns(msg)] = msg
            while len(queue) > self.queue_size:
                del queue[min(queue)]
            stamps = self._partners(_stamp_ns(msg))
            if stamps is None:
                return
            group = [q.pop(stamp) for q, stamp in zip(self.queues, stamps, strict=True)]
        self.signalMessage(*group)

    def _partners(self, stamp: int) -> list[int] | None:
        return [stamp] * len(self.queues) if all(stamp in q for q in self.queues) else None


class ApproximateTimeSynchronizer(TimeSynchronizer):
    """Hands on one message of each input when their stamps lie within ``slop`` seconds."""

    def __init__(self, fs: Sequence[SimpleFilter], queue_size: int, slop: float) -> None:
        """Listen to the inputs."""
        super().__init__(fs, queue_size)
        self.slop_ns = round(slop * 1e9)

    def _partners(self, stamp: int) -> list[int] | None:
        if not all(self.queues):
            return None
        nearest = [min(q, key=lambda other: abs(other - stamp)) for q in self.queues]
        return nearest if max(nearest) - min(nearest) <= self.slop_ns else None


def _stamp_ns(msg: Any) -> int:
    return int(msg.header.stamp.sec) * 1_000_000_000 + int(msg.header.stamp.nanosec)
