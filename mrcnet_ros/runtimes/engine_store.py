"""Engines on disk. An engine is used only if it is whole and its key matches."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from ..store.content_store import ContentStore, default_root
from ..store.lock import try_lock

log = logging.getLogger(__name__)

MAGIC = b'mrcnet engine\n'
# How often a lock is tried and how often the wait is logged [s]: building takes seconds to
# minutes.
POLL_S, SAY_EVERY_S = 0.1, 10.0


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What the engines of a model are built with and for.

    :param library: ``tensorrt`` or ``tensorrt_rtx``.
    :param version: of the library.
    :param gpu: name of the GPU they are tuned on, '' when they are for all of the capability.
    :param capability: compute capability, such as ``8.9``.
    :param precision: of the products, ``fp32`` or ``fp16``.
    :param profile: smallest, usual and largest batch.
    :param longest_px: longest side of images whose size is free, 0 where it is fixed.
    """

    library: str
    version: str
    gpu: str
    capability: str
    precision: str
    profile: tuple[int, int, int]
    longest_px: int = 0


@dataclass(frozen=True, kw_only=True)
class EngineKey(EngineSettings):
    """Everything one engine depends on: the settings and its graph.

    :param graph: name of the graph.
    :param graph_sha256: of its ONNX file.
    :param converter: version of what is done to the graph before the engine is built.
    """

    graph: str
    graph_sha256: str
    converter: int

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


class EngineStore:
    """A folder of engines, shared by any number of processes.

    Files are named by their key and hold it; see
    :class:`mrcnet_ros.store.content_store.ContentStore`. If several processes want the same
    engine, one builds it and the others wait.

    :param root: the folder, made when needed; :func:`default_engine_root` by default.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        """Remember the folder; nothing is touched yet."""
        self.root = default_engine_root() if root is None else Path(root)
        self._files = ContentStore(self.root, 'engines', making='it is built anew',
                                   again='built again')

    def path(self, key: EngineKey) -> Path:
        """Return where the engine of a key is kept."""
        return self._files.path(key.text(), '.engine', f'{key.graph}-{key.precision}-')

    def load(self, key: EngineKey) -> bytes | None:
        """Return a stored engine; None when there is none, or none that can be used."""
        return self._files.read(self.path(key), lambda data: _decode(data, key))

    def load_or_build(self, key: EngineKey, build: Callable[[], bytes],
                      say: Callable[[str], None] = log.info) -> bytes:
        """Return an engine, from disk or else built and stored.

        :param build: makes the engine; what it raises passes through, and nothing is stored.
        :param say: is told what is waited for.
        """
        engine = self.load(key)
        if engine is not None:
            return engine
        with self._alone(key, say):
            engine = self.load(key)  # another process may have been quicker
            if engine is None:
                engine = build()
                self._files.write(self.path(key), _encode(engine, key))
        return engine

    def discard(self, key: EngineKey) -> None:
        """Remove an engine that is whole, yet refused by the library."""
        try:
            self.path(key).unlink(missing_ok=True)
        except OSError as error:
            log.warning('engine %s cannot be removed (%s)', self.path(key), error)

    @contextmanager
    def _alone(self, key: EngineKey, say: Callable[[str], None]) -> Iterator[None]:
        """Wait until no other process builds this engine; locks end with their process."""
        path = self.path(key).with_suffix('.lock')
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = path.open('ab')
        except OSError as error:
            log.warning('engines cannot be locked in %s (%s); other processes may build the same',
                        self.root, error)
            yield
            return
        with file:
            _wait_for_lock(file, key, say)
            yield


def default_engine_root() -> Path:
    """Return engines in $MRCNET_CACHE, or mrcnet_ros/engines in $XDG_CACHE_HOME or ~/.cache."""
    return default_root('engines')


def _wait_for_lock(file: IO[bytes], key: EngineKey, say: Callable[[str], None]) -> None:
    said = -SAY_EVERY_S
    start = time.monotonic()
    while not try_lock(file):
        waited = time.monotonic() - start
        if waited - said >= SAY_EVERY_S:
            said = waited
            say(f'another process builds the engine of {key.graph}; waited {waited:.0f} s')
        time.sleep(POLL_S)


def _encode(engine: bytes, key: EngineKey) -> bytes:
    head = {'key': json.loads(key.text()), 'sha256': hashlib.sha256(engine).hexdigest()}
    return MAGIC + json.dumps(head).encode() + b'\n' + engine


def _decode(data: bytes, key: EngineKey) -> bytes:
    """Undo :func:`_encode`.

    :raises ValueError: when the data are damaged or of another key.
    """
    if not data.startswith(MAGIC):
        raise ValueError('not an engine file')
    head, _, engine = data[len(MAGIC):].partition(b'\n')
    values = json.loads(head)
    if not isinstance(values, dict) or values.get('sha256') != hashlib.sha256(engine).hexdigest():
        raise ValueError(f'checksum differs, {len(data)} bytes')
    if values.get('key') != json.loads(key.text()):
        raise ValueError('it was built for something else')
    return engine
