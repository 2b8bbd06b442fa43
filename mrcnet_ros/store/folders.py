"""Folders for what this package can make again, and for what it needs for a while only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DatasetError


def user_cache_folder() -> Path:
    """Return mrcnet_ros in $XDG_CACHE_HOME or ~/.cache; nothing is created.

    A user without a home, as in some containers, gets a folder of his own in the temporary one.
    """
    home = os.path.expanduser('~')
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.join(home, '.cache')
    if os.path.isabs(cache):
        return Path(cache) / 'mrcnet_ros'
    return Path(tempfile.gettempdir()) / f'mrcnet_ros-{os.getuid()}'


def chosen_cache_folder() -> Path | None:
    """Return $MRCNET_CACHE, None without it; nothing is created.

    A ~ in it is replaced, which no shell does in a file of variables or in quotes.
    """
    chosen = os.environ.get('MRCNET_CACHE')
    return Path(os.path.expanduser(chosen)) if chosen else None


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Make a folder that is removed at the end.

    :raises DatasetError: when none can be made.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix=prefix)
    except OSError as error:
        raise DatasetError(f'no temporary folder can be made ({error}); set TMPDIR to a folder '
                           'that can be written') from error
    with folder as name:
        yield Path(name)
