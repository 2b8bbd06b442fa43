"""What the estimator asks of a runtime: named arrays in, named arrays out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, SpecError
from ..specs import COORDINATES, SEEN, TEMPLATE_FEATURES

Arrays = Mapping[str, NDArray[Any]]
PRECISIONS = ('fp32', 'bf16', 'fp16')

# What only goes back into the same backend. The estimator takes rows of these arrays, keeps single
# rows, joins those with Backend.stack and never looks inside, so a runtime may return arrays of
# its own for them, which stay on its device. Such an array has `nbytes`, `array[i]` (one row, or
# several for an array of indices), `copy()`, and `__array__` for whoever wants it on the host.
RESIDENT = (*SEEN, *TEMPLATE_FEATURES, COORDINATES)


# as the parameter threads of the node
MOST_THREADS = 256


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """What a model is to run on, and how.

    :param backend: name of a runtime, or ``auto`` for the best one present.
    :param device: of the runtime, as it calls it; '' for its usual one.
    :param precision: of :data:`PRECISIONS`; ``auto`` for the lowest that the model has been
        verified in, here and with this runtime, and fp32 when there is none.
    :param threads: processor threads, None for one on each CPU that this process may use.
    :param max_batch: largest batch that engines are built for; larger ones run in parts.
    :param rows_together: rows that one detection takes in a batch; of the model's spec.
    :param longest_px: longest side of the images of a graph that takes images of any size, 0 where
        there is none; engines are built for these.
    :param allow_unverified: run in a precision that the model has not been verified in.
    :param say: is told what was chosen and why, and the progress of what takes long.
    """

    backend: str = 'onnxruntime'
    device: str = ''
    precision: str = 'auto'
    threads: int | None = None
    max_batch: int = 32
    rows_together: int = 1
    longest_px: int = 0
    allow_unverified: bool = False
    say: Callable[[str], None] = field(
        default=logging.getLogger(__package__).info, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check precision and numbers.

        :raises BackendError: when the precision is unknown.
        :raises SpecError: when a number is out of range.
        """
        if self.threads is not None and (self.threads not in range(1, MOST_THREADS + 1)
                                         or self.threads is True):
            raise SpecError(f'threads must be None or a whole number from 1 to {MOST_THREADS}, '
                            f'got {self.threads!r}')
        if self.precision not in ('auto', *PRECISIONS):
            raise BackendError(f'unknown precision {self.precision!r}; there are: auto, '
                               f'{", ".join(PRECISIONS)}')


class Backend(Protocol):
    """A loaded model; loaded, run and closed by one thread.

    :param name: of the runtime, as in the registry.
    :param device: name of the processor where it really runs.
    :param precision: in which it computes, of :data:`PRECISIONS`.
    """

    name: str
    device: str
    precision: str
    version: str

    def run(self, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run one graph on a batch.

        :param inputs: arrays with the batch as first axis, as the graph names them; numpy's, or
            for :data:`RESIDENT` names what this backend returned.
        :return: all outputs by name, numpy's but for :data:`RESIDENT` names.
        """

    def keep(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a numpy array as this runtime keeps :data:`RESIDENT` ones."""

    def stack(self, rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Join single rows of a :data:`RESIDENT` array into a batch."""

    def close(self) -> None:
        """Let go of the device; nothing can be run afterwards."""


class HostBackend:
    """What all runtimes share whose arrays are numpy's."""

    def keep(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array itself."""
        return array

    def stack(self, rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Join single rows into a batch."""
        return np.stack(rows)

    def close(self) -> None:
        """Do nothing: memory is freed with the object."""
