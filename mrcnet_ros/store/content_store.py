"""Caches on disk: files that can be made again, named by the digest of their inputs."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ..errors import DatasetError
from .atomic import remove_stale, write_atomically


def user_cache_folder() -> Path:
    """Return mrcnet_ros in $XDG_CACHE_HOME, if that is absolute, or ~/.cache; nothing is created.

    A user without a home, as in some containers, gets a folder of his own in the temporary one.
    """
    home = os.path.expanduser('~')
    cache = os.environ.get('XDG_CACHE_HOME', '')
    if not os.path.isabs(cache):
        cache = os.path.join(home, '.cache')
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


T = TypeVar('T')


class ContentStore:
    """A folder of files, shared by any number of processes.

    Files appear whole or not at all, are verified when read, and are made anew when damaged.
    When the folder cannot be written, its users keep what they made in memory.

    :param root: the folder, made when needed.
    :param what: its files hold, for the log, such as ``templates``.
    :param making: what is done when a file cannot be used, such as ``drawing them anew``.
    :param again: what is done next time when none can be stored, such as ``drawn again``.
    """

    def __init__(self, root: Path, what: str, *, making: str, again: str) -> None:
        """Remember the folder; nothing is touched yet."""
        self.root, self._what, self._making, self._again = root, what, making, again
        self._log = logging.getLogger(f'{__name__}.{what}')

    def path(self, key: str, ending: str, prefix: str = '') -> Path:
        """Return where what was made from a key is kept.

        :param key: text of everything it depends on.
        """
        return self.root / f'{prefix}{hashlib.sha256(key.encode()).hexdigest()[:32]}{ending}'

    def read(self, path: Path, decode: Callable[[bytes], T]) -> T | None:
        """Return the content of a file; None when there is none, or none that can be used.

        :param decode: may raise ValueError or KeyError when the bytes are damaged.
        """
        try:
            return decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            self._log.warning('%s %s cannot be used (%s); %s', self._what, path, error,
                              self._making)
            return None

    def write(self, path: Path, data: bytes) -> None:
        """Store a file; a folder that cannot be written is told in the log."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            remove_stale(self.root)
            write_atomically(path, data)
        except OSError as error:
            self._log.warning('%s cannot be stored in %s (%s); kept in memory only and %s next '
                              'time', self._what, self.root, error, self._again)


def default_root(folder: str) -> Path:
    """Return a folder below $MRCNET_CACHE or the user's cache folder; nothing is created."""
    return (chosen_cache_folder() or user_cache_folder()) / folder
