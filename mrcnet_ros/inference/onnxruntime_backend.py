"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import BackendError, ModelError
from .backend import Arrays


class OnnxRuntimeBackend:
    """Runs the graphs of a model directory with ONNX Runtime.

    :param graphs: ONNX file of each graph.
    :param threads: threads of one run, None for all cores.
    :raises BackendError: when ONNX Runtime is not installed.
    :raises ModelError: when a graph cannot be loaded.
    """

    name = 'onnxruntime'
    device = 'cpu'

    def __init__(self, graphs: Mapping[str, Path], threads: int | None = None) -> None:
        """Load every graph."""
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise BackendError(
                'backend onnxruntime is not installed; pip install onnxruntime') from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._sessions = {}
        for graph, path in graphs.items():
            try:
                self._sessions[graph] = onnxruntime.InferenceSession(
                    str(path), options, providers=['CPUExecutionProvider'])
            except Exception as error:
                raise ModelError(path, f'ONNX Runtime cannot load it: {error}') from error
        self._outputs = {g: [o.name for o in s.get_outputs()] for g, s in self._sessions.items()}

    def run(self, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run one graph on a batch."""
        names = self._outputs[graph]
        return dict(zip(names, self._sessions[graph].run(names, dict(inputs)), strict=True))
