"""A file that one process at a time has locked."""

from __future__ import annotations

import errno
import fcntl
from typing import IO, Any


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file until it is closed, or its process ends.

    :return: whether it is locked now; False where another process has it. A file system without
        locks counts as locked.
    :raises OSError: when it cannot be locked for another reason.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno != errno.ENOLCK:
            raise
    return True
