"""A bounded memory of template features: the least recently used give way."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError

Features = Mapping[str, NDArray[Any]]


class FeatureCache:
    """Named arrays by key, bounded in bytes; safe to use from several threads.

    :param capacity_bytes: most the held arrays may add up to; 0 holds nothing.
    """

    def __init__(self, capacity_bytes: int) -> None:
        if not capacity_bytes >= 0:
            raise SpecError(f'capacity must not be negative, got {capacity_bytes} bytes')
        self.capacity_bytes = capacity_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, dict[str, NDArray[Any]]] = OrderedDict()
        self._size_bytes = 0

    def __len__(self) -> int:
        """Return the number of entries."""
        with self._lock:
            return len(self._entries)

    def __contains__(self, key: object) -> bool:
        """Tell whether an entry is held, without using it."""
        with self._lock:
            return key in self._entries

    def get(self, key: Hashable) -> Features | None:
        """Look up an entry and mark it as used; None when it is not held.

        :return: read-only arrays.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry

    def put(self, key: Hashable, features: Features) -> None:
        """Hold copies of some arrays, dropping the entries unused for longest.

        An entry larger than the whole cache is not held.
        """
        entry = {name: array.copy() for name, array in features.items()}
        for array in entry.values():
            if isinstance(array, np.ndarray):  # others are on a device
                array.setflags(write=False)
        with self._lock:
            self._drop(key)
            if _size_bytes(entry) > self.capacity_bytes:
                return
            self._entries[key] = entry
            self._size_bytes += _size_bytes(entry)
            while self._size_bytes > self.capacity_bytes:
                self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Drop all entries."""
        with self._lock:
            self._entries.clear()
            self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Return how much the held arrays add up to."""
        with self._lock:
            return self._size_bytes

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size_bytes -= _size_bytes(entry)


def _size_bytes(entry: Features) -> int:
    return sum(array.nbytes for array in entry.values())
