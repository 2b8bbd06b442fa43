"""Arrays in the memory of an NVIDIA GPU, and the stream that all work on them uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import BackendError


@dataclass(frozen=True, eq=False)
class GpuArray:
    """Numbers on the GPU; what is asked of a ``RESIDENT`` array in :mod:`.backend`.

    :param memory: allocation that the numbers are in; several arrays may share one.
    :param offset: of the first number in it [bytes].
    """

    gpu: Gpu
    memory: Any
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def address(self) -> int:
        """Return where the first number is."""
        return int(self.memory) + self.offset

    @property
    def nbytes(self) -> int:
        """Return the size [bytes]."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | NDArray[np.int64]) -> GpuArray:
        """Return a row or a range of rows, which share this memory, or a copy of several rows."""
        if isinstance(index, slice):
            rows = range(len(self))[index]
            if rows.step != 1:
                raise IndexError('rows of an array on the GPU are taken one after the other')
            return self._view(rows.start, (len(rows), *self.shape[1:]))
        if isinstance(index, np.ndarray) and index.ndim == 1:
            return self.gpu.stack([self[int(i)] for i in index])
        return self._view(range(len(self))[int(index)], self.shape[1:])

    def _view(self, row: int, shape: tuple[int, ...]) -> GpuArray:
        stride = math.prod(self.shape[1:]) * self.dtype.itemsize
        return GpuArray(self.gpu, self.memory, self.offset + row * stride, shape, self.dtype)

    def copy(self) -> GpuArray:
        """Return the same numbers in memory of their own."""
        return self.gpu.join([self], self.shape)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the numbers on the host, once everything queued before is done."""
        if copy is False:
            raise ValueError('numbers on the GPU can only be copied')
        host = self.gpu.download(self)
        self.gpu.synchronise()
        return np.array(host, dtype)


class Gpu:
    """The first GPU that CUDA shows, used by one thread.

    Everything is queued on one stream, so memory may be used again as soon as nobody holds it.

    :raises BackendError: when CUDA cannot use it.
    """

    def __init__(self) -> None:
        """Take the GPU's primary context; call only where there is a driver."""
        import pycuda.driver as cuda
        import pycuda.tools

        self._cuda = cuda
        try:
            cuda.init()
            device = cuda.Device(0)
            self._context = device.retain_primary_context()
            self._context.push()
            self._stream = cuda.Stream()
        except cuda.Error as error:
            raise BackendError(f'the GPU cannot be used: {error}') from error
        self.name = str(device.name())
        self.capability = '.'.join(str(part) for part in device.compute_capability())
        self._memory = pycuda.tools.DeviceMemoryPool()
        self._pinned = pycuda.tools.PageLockedMemoryPool()
        self._in_flight: list[NDArray[Any]] = []

    @property
    def stream(self) -> int:
        """Return the handle of the stream."""
        return int(self._stream.handle)

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> GpuArray:
        """Return an array with any numbers in it.

        :raises BackendError: when the memory is full.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            memory = self._memory.allocate(max(1, size))
        except self._cuda.MemoryError as error:
            raise BackendError(f'the memory of {self.name} is full: {error}; lower cache_mb') \
                from error
        return GpuArray(self, memory, 0, tuple(shape), np.dtype(dtype))

    def upload(self, array: NDArray[Any]) -> GpuArray:
        """Queue copying an array to the GPU, by way of pinned memory."""
        pinned = self._pinned.allocate(array.shape, array.dtype)
        pinned[...] = array
        self._in_flight.append(pinned)
        result = self.empty(array.shape, array.dtype)
        self._cuda.memcpy_htod_async(result.address, pinned, self._stream)
        return result

    def download(self, array: GpuArray) -> NDArray[Any]:
        """Queue copying an array to pinned memory; wait for :meth:`synchronise` to read it."""
        pinned: NDArray[Any] = self._pinned.allocate(array.shape, array.dtype)
        self._cuda.memcpy_dtoh_async(pinned, array.address, self._stream)
        return pinned

    def join(self, parts: Sequence[GpuArray], shape: Sequence[int]) -> GpuArray:
        """Queue copying arrays one after the other into one."""
        result = self.empty(shape, parts[0].dtype)
        address = result.address
        for part in parts:
            self._cuda.memcpy_dtod_async(address, part.address, part.nbytes, self._stream)
            address += part.nbytes
        return result

    def stack(self, rows: Sequence[GpuArray]) -> GpuArray:
        """Queue copying single rows into a batch."""
        return self.join(rows, (len(rows), *rows[0].shape))

    def synchronise(self) -> None:
        """Wait until everything queued is done."""
        self._stream.synchronize()
        self._in_flight.clear()

    def close(self) -> None:
        """Let go of the memory that nobody holds, and of the context."""
        self.synchronise()
        self._memory.stop_holding()
        self._pinned.stop_holding()
        self._context.pop()
