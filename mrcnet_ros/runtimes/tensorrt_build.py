"""Builds TensorRT engines, in a process of its own: a crash there is an error here.

The other process reads the graph from its input, writes the engine to its output, and says how
far it is on its error stream. It works without a GPU where the library does (``tensorrt_rtx``).
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict
from threading import Thread
from typing import IO, Any

from ..errors import BackendError
from ..specs import DETECTOR_STRIDES
from .engine_store import EngineSettings

PROGRESS = 'progress: '
TAIL_LINES = 12  # of the builder's output in an error: the last ones have the cause
SAY_EVERY_S = 5.0  # a build takes up to minutes; its progress is logged this often
FREE = -1  # a size that is not fixed, as the library writes it
SIDE_STEP = DETECTOR_STRIDES[-1]  # sides of images are multiples of it


def build_engine(graph: bytes, settings: EngineSettings, say: Callable[[str], None]) -> bytes:
    """Build an engine in a process of its own.

    :param graph: an exported graph, ONNX.
    :param say: is told how far it is.
    :return: the serialised engine.
    :raises BackendError: when it cannot be built; with what the library said.
    """
    command = [sys.executable, '-m', __name__, json.dumps(asdict(settings))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        try:
            engine, tail = _attend(process, graph, say)
        except BaseException:
            process.kill()
            raise
    code = process.returncode
    if code != 0 or not engine:
        how = f'signal {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'
        said = '\n'.join(tail) or 'it said nothing'
        raise BackendError(
            f'{settings.library} cannot build a {settings.precision} engine for compute '
            f'capability {settings.capability} ({how}):\n{said}')
    return engine


def _attend(process: subprocess.Popen[bytes], graph: bytes, say: Callable[[str], None]
            ) -> tuple[bytes, list[str]]:
    """Feed a process until it ends; return the engine and the last that it said."""
    assert process.stdin and process.stdout and process.stderr
    engine: list[bytes] = []
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    progress = deque(['starting'], maxlen=1)
    threads = [Thread(target=_feed, args=(process.stdin, graph), daemon=True),
               Thread(target=_listen, args=(process.stderr, tail, progress), daemon=True),
               Thread(target=_collect, args=(process.stdout, engine), daemon=True)]
    for thread in threads:
        thread.start()
    start = time.monotonic()
    while process.poll() is None:
        try:
            process.wait(SAY_EVERY_S)
        except subprocess.TimeoutExpired:
            say(f'{progress[0]}, {time.monotonic() - start:.0f} s so far')
    for thread in threads:
        thread.join()
    return b''.join(engine), list(tail)


def _feed(pipe: IO[bytes], data: bytes) -> None:
    try:
        with pipe:
            pipe.write(data)
    except BrokenPipeError:
        pass  # the process ended early; its exit code tells more


def _collect(pipe: IO[bytes], engine: list[bytes]) -> None:
    engine.append(pipe.read())


def _listen(pipe: IO[bytes], tail: deque[str], progress: deque[str]) -> None:
    for raw in pipe:
        line = raw.decode(errors='replace').rstrip()
        if line.startswith(PROGRESS):
            progress.append(line.removeprefix(PROGRESS))
        else:
            tail.append(line)


def main() -> int:
    """Build one engine: graph from standard input, engine to standard output."""
    from .engine_graph import engine_graph

    settings = EngineSettings(**json.loads(sys.argv[1]))
    output = os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)  # what libraries print must not get into the engine
    graph = engine_graph(sys.stdin.buffer.read(), settings.precision)
    engine = _build(importlib.import_module(settings.library), graph, settings)
    if engine is None:
        return 1
    with output:
        output.write(engine)
    return 0


def _build(trt: Any, graph: bytes, settings: EngineSettings) -> bytes | None:
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    # 10.x has to be asked for it, newer ones have nothing else
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        for i in range(parser.num_errors):
            print(parser.get_error(i), file=sys.stderr)
        return None
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # fp32 means fp32
    config.progress_monitor = _progress_monitor(trt)
    if not _aim(trt, config, settings.capability):
        return None
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        profile.set_shape(tensor.name, *input_shapes(tensor.shape, settings))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    return None if engine is None else bytes(memoryview(engine))


def input_shapes(shape: Iterable[int], settings: EngineSettings) -> list[tuple[int, ...]]:
    """Return the smallest, the usual and the largest shape of an input.

    :param shape: as the graph has it, :data:`FREE` where it is not fixed: rows first, then sides
        of images.
    """
    longest = settings.longest_px
    sides = (SIDE_STEP, max(1, 2 * (longest // SIDE_STEP) // 3) * SIDE_STEP, longest)
    return [tuple(size if size != FREE else rows if axis == 0 else side
                  for axis, size in enumerate(shape))
            for rows, side in zip(settings.profile, sides, strict=True)]


def _aim(trt: Any, config: Any, capability: str) -> bool:
    """Say for which GPU; only ``tensorrt_rtx`` can build for another than the one here."""
    if not hasattr(trt, 'ComputeCapability'):
        return True
    wanted = f'SM{capability.replace(".", "")}'
    known = trt.ComputeCapability.__members__
    if wanted not in known:
        there = [name for name in known if name.startswith('SM')]
        print(f'no compute capability {capability}; this release has {", ".join(there)}',
              file=sys.stderr)
        return False
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[wanted], 0)
    return True


def _progress_monitor(trt: Any) -> Any:
    """Return a monitor that prints the phase it is in and the steps done of it."""
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Prints lines that the other process takes for progress."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            print(f'{PROGRESS}{phase_name}, {step + 1} of {self._steps[phase_name]}',
                  file=sys.stderr, flush=True)
            return True

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()


if __name__ == '__main__':
    sys.exit(main())
