"""Depth images that wait for the frames they belong to; shared by two threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from .message_types import StampedMessage
from .messages import stamp_ns

# Asked by the worker: the depth image of a frame, None while none has come.
DepthLookup = Callable[[], StampedMessage | None]


def no_depth() -> None:
    """Find no depth image."""


class DepthBuffer:
    """Keeps the last depth images; no frame waits for one.

    :param length: how many.
    :param slop_s: by how much stamps may differ.
    """

    def __init__(self, length: int, slop_s: float) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._messages: deque[StampedMessage] = deque(maxlen=length)
        self._slop_ns = slop_s * 1e9

    def add(self, message: StampedMessage) -> None:
        """Keep a depth image; the one that came first makes room."""
        with self._lock:
            self._messages.append(message)

    def nearest(self, stamp: int) -> StampedMessage | None:
        """Return the depth image nearest to a stamp [ns], None when none is near enough.

        Of several equally near ones, the one that came last: a bag may start again.
        """
        with self._lock:
            near = [(abs(stamp_ns(m.header) - stamp), m) for m in reversed(self._messages)]
        gap, message = min(near, key=lambda pair: pair[0], default=(0, None))
        return message if gap <= self._slop_ns else None

    def lookup(self, stamp: int) -> DepthLookup:
        """Return what finds the depth image of a frame.

        What has come already is kept for the frame, which may wait for its turn for longer than
        the buffer keeps it. What comes while the frame waits is found as well.
        """
        early = self.nearest(stamp)

        def find() -> StampedMessage | None:
            late = self.nearest(stamp)
            known = [m for m in (early, late) if m is not None]
            return min(known, key=lambda m: abs(stamp_ns(m.header) - stamp), default=None)

        return find
