"""What the estimator asks of a runtime: named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError

Arrays = Mapping[str, NDArray[Any]]
GRAPHS = ('stage1', 'template', 'stage2')


class Backend(Protocol):
    """A loaded model.

    :param name: of the runtime.
    :param device: where it runs, as the runtime itself says.
    """

    name: str
    device: str

    def run(self, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run one of :data:`GRAPHS` on a batch.

        :param inputs: arrays with the batch as first axis, as the graph names them.
        :return: all outputs by name.
        """
        ...


def load_backend(name: str, graphs: Mapping[str, Path], threads: int | None) -> Backend:
    """Load the graphs of a model into a runtime.

    :param name: ``onnxruntime``, or ``auto`` for the best one present.
    :param graphs: file of each graph.
    :param threads: processor threads, None for the runtime's choice.
    :raises BackendError: when the runtime is unknown or not installed.
    """
    loaders: dict[str, Callable[[Mapping[str, Path], int | None], Backend]] = {
        'onnxruntime': _onnxruntime}
    chosen = 'onnxruntime' if name == 'auto' else name
    if chosen not in loaders:
        raise BackendError(f'unknown backend {name!r}; there are: auto, {", ".join(loaders)}')
    return loaders[chosen](graphs, threads)


def _onnxruntime(graphs: Mapping[str, Path], threads: int | None) -> Backend:
    from .onnxruntime_backend import OnnxRuntimeBackend

    return OnnxRuntimeBackend(graphs, threads)


def stack(rows: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """Stack arrays of single items into a batch."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
