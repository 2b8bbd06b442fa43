"""Frames that wait for the estimator."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Item = TypeVar('Item')


class FrameQueue(Generic[Item]):
    """A queue between the thread that receives frames and the one that answers them.

    Nobody waits to put a frame in: with a queue that keeps everything, whoever receives frames
    asks :attr:`full` and leaves them with the middleware meanwhile.

    :param capacity: how many frames may wait.
    :param replace: when more would wait, drop the first ones.
    :param order: of two waiting frames, the one with the lower value is first; that which came
        first by default.
    :param kind: frames of one kind do not push out those of another.
    :param on_room: told that the queue is not full any more, by the thread that reads.
    """

    def __init__(self, capacity: int, *, replace: bool, order: Callable[[Item], Any] = lambda _: 0,
                 on_room: Callable[[], object] = lambda: None,
                 kind: Callable[[Item], object] = lambda _: None) -> None:
        self._capacity, self._replace, self._order = capacity, replace, order
        self._on_room, self._kind = on_room, kind
        self._items: list[Item] = []
        self._closed = False
        self._reader: object = None
        self._changed = threading.Condition()

    @property
    def full(self) -> bool:
        """Whether the queue keeps everything and has no room."""
        return not self._replace and len(self._items) >= self._capacity

    def put(self, item: Item) -> int:
        """Add a frame.

        :return: how many frames were dropped: the first ones of too many, or this one when closed.
        """
        with self._changed:
            if self._closed:
                return 1
            bisect.insort_right(self._items, item, key=self._order)
            alike = [i for i, other in enumerate(self._items)
                     if self._kind(other) == self._kind(item)]
            surplus = alike[:max(0, len(alike) - self._capacity)] if self._replace else []
            for i in reversed(surplus):
                del self._items[i]
            self._changed.notify_all()
            return len(surplus)

    def hand_to(self, reader: object) -> None:
        """Give the frames to another reader from now on."""
        with self._changed:
            self._reader = reader
            self._changed.notify_all()

    def get(self, reader: object = None) -> Item | None:
        """Wait for the first frame.

        :param reader: the one that asks, as given to :meth:`hand_to`.
        :return: None when the queue has been closed or handed to another reader.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or reader is not self._reader or bool(self._items))
            if self._closed or reader is not self._reader:
                return None
            was_full = self.full
            item = self._items.pop(0)
        if was_full:
            self._on_room()
        return item

    def close(self) -> int:
        """End all waiting, now and later.

        :return: how many frames were still waiting; they are dropped.
        """
        with self._changed:
            self._closed, self._reader = True, None
            waiting = len(self._items)
            self._items.clear()
            self._changed.notify_all()
            return waiting
