"""Writing a file so that it is either the old or the new one, never a part."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import DatasetError

STALE_SECONDS = 24 * 3600  # no write takes a day: its process was killed


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write to, which replaces another once all its bytes are on the disk.

    :raises OSError: with the name of the file, which that of a full disk lacks.
    """
    try:
        with _partial_file(path) as file:
            yield file
    except OSError as error:
        error.filename = str(path)
        raise


@contextmanager
def _partial_file(path: Path) -> Iterator[IO[bytes]]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.stem}.', suffix='.partial')
    try:
        with os.fdopen(handle, 'wb') as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # other users may read it
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_atomically(path: Path, data: bytes) -> None:
    """Make a file appear with all its bytes on the disk, or not at all."""
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a file, and say which file or folder cannot be written, and why.

    :raises DatasetError: in place of an OSError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DatasetError(f'{path}: cannot be written ({error.strerror or error})') from error


def remove_stale(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder."""
    for file in folder.glob('.*.partial'):
        with suppress(OSError):  # its writer has finished by now, or it is another user's
            if time.time() - file.stat().st_mtime > STALE_SECONDS:
                file.unlink()
