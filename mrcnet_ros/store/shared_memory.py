"""How much memory the processes of this machine can share."""

from __future__ import annotations

import os
from pathlib import Path

SHARED_MEMORY = Path('/dev/shm')
MIB = 2**20  # bytes


def shared_room() -> tuple[float, float]:
    """Return all and free shared memory [byte], infinite where nobody knows."""
    try:
        room = os.statvfs(SHARED_MEMORY)
    except OSError:
        return float('inf'), float('inf')
    return room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize


def room_told() -> str:
    """Return how much shared memory there is, as the beginning of a message."""
    total, free = shared_room()
    return f'{SHARED_MEMORY} has {total / MIB:.0f} MiB, of which {free / MIB:.0f} are free'
