"""Which engines a model needs, and how to come by them: from the store or else built."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ..errors import BackendError, with_extra
from ..model_json import check_file, check_seal, read_model_json
from .engine_store import EngineKey, EngineSettings, EngineStore
from .tensorrt_build import build_engine

CONVERTER = 1  # raise it when :mod:`.engine_graph` gives other graphs than before
USUAL_BATCH = 8  # rows that an engine is made fast for; it takes others, too
RTX = 'tensorrt_rtx'


def graph_files(model_dir: Path, names: Sequence[str]) -> dict[str, Path]:
    """Return checked files of the graphs of a model directory; meshes are not needed.

    :raises ModelError: when one is missing, damaged, or of another model.
    """
    values = read_model_json(model_dir)[1]
    check_seal(model_dir, values)
    files = values.get('files', {})
    graphs = {name: model_dir / f'{name}.onnx' for name in names}
    for file in graphs.values():
        check_file(file, files.get(file.name, ''))
    return graphs


def batch_profile(max_batch: int, rows_together: int) -> tuple[int, int, int]:
    """Return the smallest, the usual and the largest batch of a model's graphs.

    :param rows_together: rows that one detection takes; a batch holds whole detections.
    :raises BackendError: when the largest is below the smallest.
    """
    least = rows_together
    largest = max_batch // least * least
    if largest < least:
        raise BackendError(f'the largest batch is {max_batch}, expected {least} or more')
    usual = least if least > 1 else min(USUAL_BATCH, largest)
    return least, usual, largest


def get_engine(graph: str, graphs: Mapping[str, Path], settings: EngineSettings,
               store: EngineStore, say: Callable[[str], None]) -> tuple[bytes, EngineKey]:
    """Return the engine of a graph, from the store or else built.

    :param say: is told what is built, why it takes a while, and how far it is.
    :raises BackendError: when it cannot be built.
    """
    data = graphs[graph].read_bytes()
    if settings.library == RTX:
        settings = replace(settings, gpu='')  # its engines fit every GPU of the capability
    key = EngineKey(graph=graph, graph_sha256=hashlib.sha256(data).hexdigest(),
                    converter=CONVERTER, **asdict(settings))

    def build() -> bytes:
        what = f'{key.library} {key.version} engine of {graph} in {key.precision}'
        sizes = (f'images of up to {key.longest_px} px' if key.longest_px
                 else f'{key.profile[0]} to {key.profile[2]} rows')
        say(f'building the {what} for {key.gpu or "compute capability"} {key.capability}, '
            f'{sizes}; only this once, it may take minutes')
        engine = build_engine(data, settings, lambda text: say(f'{graph}: {text}'))
        say(f'built the {what}, {len(engine) / 1e6:.1f} MB')
        return engine

    return store.load_or_build(key, build, say), key


def library_version(library: str) -> str:
    """Return the version of a TensorRT library, asked in a process of its own.

    :raises BackendError: when it is not installed, or cannot even be imported here.
    """
    script = f'import {library}; print({library}.__version__)'
    found = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                           check=False)
    if found.returncode != 0:
        said = found.stderr.strip().splitlines()[-1:] or [f'exit code {found.returncode}']
        raise BackendError(f'{library} cannot be imported ({said[0]}); '
                           + with_extra(library.replace('_', '-')))
    return found.stdout.strip().splitlines()[-1]
