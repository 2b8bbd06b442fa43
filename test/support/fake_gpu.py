"""Stand-ins for pycuda and TensorRT that keep their rules on the processor, to test bookkeeping.

They prove nothing about a GPU: engines are ONNX files that ONNX Runtime runs. What they do prove
is that memory is used as CUDA allows: everything queued runs only when the stream is waited for,
freed device memory is handed out again at once, and pinned memory is overwritten as soon as
nobody holds it.
"""

from __future__ import annotations

import ctypes
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

ALIGNMENT = 256


class FakeCuda:
    """Memory, one stream, and what was copied where."""

    def __init__(self) -> None:
        self.queue: list[Callable[[], None]] = []
        self.copied = {'up': 0, 'down': 0, 'within': 0}
        self.runs: list[tuple[str, int]] = []
        self._blocks: list[np.ndarray] = []
        self._free: dict[int, list[int]] = {}
        self.full = False

    def take(self, size: int) -> int:
        """Return the address of a block, one that was freed last if there is any of the size."""
        free = self._free.setdefault(size, [])
        if not free:
            block = np.full(size + ALIGNMENT, 0xFF, np.uint8)
            self._blocks.append(block)
            free.append(-(-block.ctypes.data // ALIGNMENT) * ALIGNMENT)
        return free.pop()

    def give(self, address: int, size: int) -> None:
        """Free a block."""
        self._free[size].append(address)

    def in_use(self) -> int:
        """Return the number of blocks that are not free."""
        return len(self._blocks) - sum(len(free) for free in self._free.values())

    def wait(self) -> None:
        """Do everything that is queued."""
        while self.queue:
            self.queue.pop(0)()


class Allocation:
    """Device memory, freed when nobody holds it."""

    def __init__(self, cuda: FakeCuda, size: int) -> None:
        address = cuda.take(size)
        self._address = address
        weakref.finalize(self, cuda.give, address, size)

    def __int__(self) -> int:
        return self._address


def fake_pycuda(cuda: FakeCuda) -> dict[str, types.ModuleType]:
    """Return the modules pycuda, pycuda.driver and pycuda.tools, as far as they are used."""
    class Error(Exception):
        """Base of pycuda's errors."""

    class OutOfMemory(Error):
        """Raised when there is no device memory left."""

    class Context:
        def push(self) -> None: ...
        def pop(self) -> None: ...

    class Device:
        def __init__(self, number: int) -> None:
            assert number == 0

        def name(self) -> str:
            return 'Fake GPU'

        def compute_capability(self) -> tuple[int, int]:
            return 8, 9

        def retain_primary_context(self) -> Context:
            return Context()

    class Stream:
        handle = 77

        def synchronize(self) -> None:
            cuda.wait()

    class DevicePool:
        def allocate(self, size: int) -> Allocation:
            if cuda.full:
                raise OutOfMemory('cuMemAlloc failed: out of memory')
            return Allocation(cuda, size)

        def stop_holding(self) -> None: ...

    class PinnedPool:
        def __init__(self) -> None:
            self._memory: list[bytearray] = []

        def allocate(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            memory = bytearray(size)
            lent = (ctypes.c_uint8 * size).from_buffer(memory)
            held = np.frombuffer(lent, dtype).reshape(shape)
            weakref.finalize(lent, ctypes.memset, ctypes.addressof(lent), 0xFF, size)
            self._memory.append(memory)
            return held

        def stop_holding(self) -> None: ...

    def copy(kind: str, to: int, source: int, size: int) -> None:
        cuda.copied[kind] += size
        cuda.queue.append(lambda: ctypes.memmove(to, source, size) and None)

    def htod(dest: int, src: np.ndarray, stream: Stream) -> None:
        copy('up', dest, src.ctypes.data, src.nbytes)

    def dtoh(dest: np.ndarray, src: int, stream: Stream) -> None:
        copy('down', dest.ctypes.data, src, dest.nbytes)

    def dtod(dest: int, src: int, size: int, stream: Stream) -> None:
        copy('within', dest, src, size)

    driver, tools = types.ModuleType('pycuda.driver'), types.ModuleType('pycuda.tools')
    vars(driver).update(
        init=lambda: None, Device=Device, Stream=Stream, Error=Error, MemoryError=OutOfMemory,
        memcpy_htod_async=htod, memcpy_dtoh_async=dtoh, memcpy_dtod_async=dtod)
    vars(tools).update(DeviceMemoryPool=DevicePool, PageLockedMemoryPool=PinnedPool)
    package = types.ModuleType('pycuda')
    vars(package).update(driver=driver, tools=tools)
    return {'pycuda': package, 'pycuda.driver': driver, 'pycuda.tools': tools}


def fake_tensorrt(cuda: FakeCuda, largest: int, version: str = '10.0.0') -> types.ModuleType:
    """Return the module tensorrt, whose engines are ONNX files.

    :param largest: batch that engines are for.
    """
    kinds = {'tensor(float)': np.float32, 'tensor(int64)': np.int64, 'tensor(uint8)': np.uint8}

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    class Context:
        def __init__(self, session: Any) -> None:
            self._session = session
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._addresses: dict[str, int] = {}
            self._known: dict[str, tuple[int, ...]] = {}
            self._results: dict[str, tuple[int, ...]] = {}

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self._shapes[name] = shape
            return 1 <= shape[0] <= largest

        def set_tensor_address(self, name: str, address: int) -> bool:
            assert address % ALIGNMENT == 0
            self._addresses[name] = address
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            if self._known != self._shapes:  # the graph does not say: try it on nothing
                feeds = {i.name: np.zeros(self._shapes[i.name], kinds[i.type])
                         for i in self._session.get_inputs()}
                names = [o.name for o in self._session.get_outputs()]
                answers = self._session.run(names, feeds)
                self._results = {n: a.shape for n, a in zip(names, answers, strict=True)}
                self._known = dict(self._shapes)
            return self._results[name]

        def execute_async_v3(self, stream: int) -> bool:
            assert stream == 77
            inputs = {i.name: (self._addresses[i.name], self._shapes[i.name], kinds[i.type])
                      for i in self._session.get_inputs()}
            outputs = {o.name: self._addresses[o.name] for o in self._session.get_outputs()}
            rows = {shape[0] for _, shape, _ in inputs.values()}
            assert len(rows) == 1
            cuda.runs.append((self._session.get_outputs()[0].name, *rows))
            cuda.queue.append(lambda: self._execute(inputs, outputs))
            return True

        def _execute(self, inputs: dict[str, Any], outputs: dict[str, int]) -> None:
            feeds = {name: read(*what) for name, what in inputs.items()}
            for address, array in zip(outputs.values(), self._session.run(list(outputs), feeds),
                                      strict=True):
                whole = np.ascontiguousarray(array)
                ctypes.memmove(address, whole.ctypes.data, whole.nbytes)

    class Engine:
        def __init__(self, session: Any) -> None:
            self._session = session
            self._all = [*session.get_inputs(), *session.get_outputs()]
            self.num_io_tensors = len(self._all)

        def get_tensor_name(self, i: int) -> str:
            return str(self._all[i].name)

        def get_tensor_dtype(self, name: str) -> str:
            return next(t.type for t in self._all if t.name == name)

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            shape = next(t.shape for t in self._all if t.name == name)
            return tuple(side if isinstance(side, int) else -1 for side in shape)

        def get_tensor_mode(self, name: str) -> str:
            return 'in' if name in {t.name for t in self._session.get_inputs()} else 'out'

        def create_execution_context(self) -> Context:
            return Context(self._session)

    class Runtime:
        def __init__(self, logger: ILogger) -> None: ...

        def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
            try:
                return Engine(onnxruntime.InferenceSession(
                    data, providers=['CPUExecutionProvider']))
            except Exception:  # as TensorRT does, it says so in the log and returns nothing
                return None

    module = types.ModuleType('tensorrt')
    vars(module).update(
        __version__=version, ILogger=ILogger, Runtime=Runtime, nptype=kinds.__getitem__,
        TensorIOMode=types.SimpleNamespace(INPUT='in'))
    return module


def read(address: int, shape: tuple[int, ...], kind: type) -> np.ndarray:
    """Return a copy of the numbers at an address."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer(ctypes.string_at(address, size), kind).reshape(shape)
