"""TensorRT on an NVIDIA GPU; the inputs of stage 2 stay there."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from .backend import RESIDENT, Arrays, Backend, RuntimeOptions
from .cuda_driver import cuda_problem
from .engine_store import EngineSettings, EngineStore
from .engines import batch_profile, get_engine
from .gpu_memory import Gpu, GpuArray
from .tensorrt_build import FREE

log = logging.getLogger(__name__)

# Engines and their memory are made on the first GPU; choose it with CUDA_VISIBLE_DEVICES.
DEVICES = ('', 'cuda', 'cuda:0')


def load_tensorrt(graphs: Mapping[str, Path], options: RuntimeOptions) -> Backend:
    """Load the graphs of a model into TensorRT, building engines that are not there yet.

    :param options: ``backend`` is ``tensorrt`` or ``tensorrt_rtx``, ``precision`` fp32 or fp16.
    :raises BackendError: when there is no GPU, the library is missing, or a build fails.
    """
    if problem := cuda_problem():  # before anything touches CUDA: some libraries crash without
        raise BackendError(f'backend {options.backend} {problem}')
    if options.device not in DEVICES:
        raise BackendError(
            f'backend {options.backend} has no device {options.device!r}; there is cuda:0, the '
            'first GPU that the environment variable CUDA_VISIBLE_DEVICES leaves visible')
    library = importlib.import_module(options.backend)
    gpu = Gpu()
    try:
        backend: Backend = TensorRtBackend(graphs, options, library, gpu, EngineStore())
    except BaseException:
        gpu.close()
        raise
    return backend


class TensorRtBackend:
    """Runs the graphs of a model directory on an NVIDIA GPU.

    Arrays of ``RESIDENT`` names are returned as :class:`GpuArray`; all others are on the host.

    :param graphs: ONNX file of each graph.
    :param options: with the precision and the largest batch.
    :param library: the module tensorrt or tensorrt_rtx.
    :param gpu: to run on; closed with the backend.
    :raises BackendError: when an engine cannot be built or loaded.
    """

    def __init__(self, graphs: Mapping[str, Path], options: RuntimeOptions, library: Any,
                 gpu: Gpu, store: EngineStore) -> None:
        self.name, self.precision = options.backend, options.precision
        self.version, self.device = str(library.__version__), gpu.name
        self._gpu, self._trt = gpu, library
        self._runtime = library.Runtime(_logger(library))
        profile = batch_profile(options.max_batch, options.rows_together)
        self._largest = profile[2]
        settings = EngineSettings(
            library=options.backend, version=self.version, gpu=gpu.name,
            capability=gpu.capability, precision=options.precision, profile=profile,
            longest_px=options.longest_px)
        self._engines = {graph: self._engine(graph, graphs, settings, store, options.say)
                         for graph in graphs}

    def _engine(self, graph: str, graphs: Mapping[str, Path], settings: EngineSettings,
                store: EngineStore, say: Callable[[str], None]) -> _Engine:
        for _ in range(2):
            data, key = get_engine(graph, graphs, settings, store, say)
            engine = self._runtime.deserialize_cuda_engine(data)
            if engine is not None:
                return _Engine(graph, engine, self._trt, self._gpu)
            log.warning('%s refuses the engine of %s; it is built anew', self.name, graph)
            store.discard(key)
        raise BackendError(f'{self.name} {self.version} cannot load the engine that it built of '
                           f'{graph} for {self.device}; see its messages in the log')

    def run(self, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run one graph on a batch, in parts when it is larger than the engines are for.

        :raises BackendError: when an input is missing or of another type or shape.
        """
        engine = self._engines[graph]
        count = len(next(iter(inputs.values())))
        parts = []
        for start in range(0, count, self._largest):
            rows = slice(start, start + self._largest)
            parts.append(engine.enqueue({name: a[rows] for name, a in inputs.items()}))
        outputs: dict[str, Any] = {name: parts[0][name] if len(parts) == 1 else self._gpu.join(
            [part[name] for part in parts], (count, *parts[0][name].shape[1:]))
            for name in parts[0]}
        host = {name: self._gpu.download(array) for name, array in outputs.items()
                if name not in RESIDENT}
        if host:
            self._gpu.synchronise()
        return {**outputs, **host}

    def keep(self, array: NDArray[Any]) -> Any:
        """Return a copy of a numpy array on the GPU."""
        return self._gpu.upload(array)

    def stack(self, rows: Sequence[Any]) -> Any:
        """Join single rows into a batch, on the GPU."""
        return self._gpu.stack(rows)

    def close(self) -> None:
        """Let go of the engines and the GPU; nothing can be run afterwards."""
        self._engines.clear()
        self._gpu.close()


class _Engine:
    """A graph ready to run, and what it is run with."""

    def __init__(self, graph: str, engine: Any, trt: Any, gpu: Gpu) -> None:
        self._graph, self._gpu = graph, gpu
        self._context = engine.create_execution_context()
        if self._context is None:
            raise BackendError(f'the GPU has no room for the engine of {graph}')
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self._types = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in names}
        self._inputs = {name: tuple(engine.get_tensor_shape(name)) for name in names
                        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        self._outputs = [name for name in names if name not in self._inputs]

    def enqueue(self, inputs: Mapping[str, Any]) -> dict[str, GpuArray]:
        """Queue running it on a batch that it is for.

        :return: outputs, to be read after the stream was waited for.
        """
        held = []  # until the run is queued
        for name, expected in self._inputs.items():
            array = self._on_gpu(name, inputs)
            fits = len(array.shape) == len(expected) and all(
                wanted in (FREE, side) for wanted, side in zip(expected, array.shape, strict=True))
            if not fits or array.dtype != self._types[name]:
                raise BackendError(
                    f'input {name} of {self._graph} is {array.shape} {array.dtype}, expected '
                    f'{tuple("N" if side == FREE else side for side in expected)} '
                    f'{self._types[name]}')
            if not self._context.set_input_shape(name, array.shape):
                raise BackendError(f'the engine of {self._graph} is not for inputs of '
                                   f'{array.shape}')
            self._context.set_tensor_address(name, array.address)
            held.append(array)
        outputs = {}
        for name in self._outputs:
            outputs[name] = self._gpu.empty(tuple(self._context.get_tensor_shape(name)),
                                            self._types[name])
            self._context.set_tensor_address(name, outputs[name].address)
        if not self._context.execute_async_v3(self._gpu.stream):
            raise BackendError(f'TensorRT could not run {self._graph}; see its messages in the '
                               'log')
        return outputs

    def _on_gpu(self, name: str, inputs: Mapping[str, Any]) -> GpuArray:
        if name not in inputs:
            raise BackendError(f'{self._graph} needs the input {name}, got {sorted(inputs)}')
        array = inputs[name]
        if not isinstance(array, GpuArray):
            return self._gpu.upload(array)
        return array.copy() if array.offset else array  # allocations are aligned, rows may not be


def _logger(trt: Any) -> Any:
    """Return a logger that passes TensorRT's warnings and errors on."""
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Writes to the log of this module."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            levels = {trt.ILogger.INTERNAL_ERROR: logging.ERROR, trt.ILogger.ERROR: logging.ERROR,
                      trt.ILogger.WARNING: logging.WARNING}
            log.log(levels.get(severity, logging.DEBUG), 'TensorRT: %s', text)

    return Logger()
