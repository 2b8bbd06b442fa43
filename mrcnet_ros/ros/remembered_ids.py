"""What identities of instances mean, until they have not been seen for a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

# Frames after which an unseen id is forgotten: ten seconds at 30 Hz. Longer ones keep a name
# through a longer absence, and the table grows.
REMEMBERED_FRAMES = 300

K = TypeVar('K')
V = TypeVar('V')


class RememberedIds(Generic[K, V]):
    """A table of ids; used by one thread at a time."""

    def __init__(self) -> None:
        self._frame = 0
        self._known: dict[K, tuple[V, int]] = {}

    def get(self, identity: K) -> V | None:
        """Return what an id meant when it was last seen, None where it is not known."""
        entry = self._known.get(identity)
        return None if entry is None else entry[0]

    def see(self, meanings: Mapping[K, V]) -> None:
        """Take in the ids of a frame, and forget those that were not seen for long."""
        self._frame += 1
        self._known.update({key: (meaning, self._frame) for key, meaning in meanings.items()})
        oldest = self._frame - REMEMBERED_FRAMES
        self._known = {key: entry for key, entry in self._known.items() if entry[1] > oldest}

    def add(self, identity: K, meaning: V) -> None:
        """Take in an id between two frames, unless it is known."""
        self._known.setdefault(identity, (meaning, self._frame))
