"""Frames that wait for the estimator."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar('Item')


class FrameQueue(Generic[Item]):
    """A queue between the thread that receives frames and the one that answers them.

    :param capacity: how many frames may wait.
    :param replace: when full, drop the oldest waiting frame; otherwise :meth:`put` waits.
    """

    def __init__(self, capacity: int, *, replace: bool) -> None:
        """Start empty and open."""
        self._capacity, self._replace = capacity, replace
        self._items: deque[Item] = deque()
        self._closed = False
        self._reader: object = None
        self._changed = threading.Condition()

    def put(self, item: Item) -> int:
        """Add a frame.

        :return: how many frames were dropped: replaced ones, or this one when closed.
        """
        with self._changed:
            dropped = 0
            if self._replace:
                while len(self._items) >= self._capacity:
                    self._items.popleft()
                    dropped += 1
            else:
                self._changed.wait_for(
                    lambda: self._closed or len(self._items) < self._capacity)
            if self._closed:
                return dropped + 1
            self._items.append(item)
            self._changed.notify_all()
            return dropped

    def hand_to(self, reader: object) -> None:
        """Give the frames to another reader from now on."""
        with self._changed:
            self._reader = reader
            self._changed.notify_all()

    def get(self, reader: object = None) -> Item | None:
        """Wait for the oldest frame.

        :param reader: the one that asks, as given to :meth:`hand_to`.
        :return: None when the queue has been closed or handed to another reader.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or reader is not self._reader or bool(self._items))
            if self._closed or reader is not self._reader:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> int:
        """End all waiting, now and later.

        :return: how many frames were still waiting; they are dropped.
        """
        with self._changed:
            self._closed = True
            waiting = len(self._items)
            self._items.clear()
            self._changed.notify_all()
            return waiting
