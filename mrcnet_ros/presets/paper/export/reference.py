"""The published network with seeded weights: as files for runtimes, and plain in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from ....export.arithmetic import graph_flops
from ....inference.torch_backend import run_module, torch_device
from ..network.graphs import graphs_of
from ..parity.seeded import seeded_network
from ..spec import PaperSpec
from .graphs import example_inputs, export_paper_graphs


class PaperReference:
    """Runs the network of the paper as PyTorch does, without any runtime.

    :param spec: of the network.
    :param objects: number of its decoders.
    :param salt: of the weights.
    :param device: ``cpu`` or ``cuda``, in full precision.
    :raises BackendError: when PyTorch cannot compute there.
    """

    def __init__(self, spec: PaperSpec, objects: int, salt: str, device: str = 'cpu') -> None:
        """Make the weights."""
        self._where = torch_device(device)
        self._spec, self._network = spec, seeded_network(salt, spec, objects).to(self._where)
        self._graphs = graphs_of(self._network)

    def export(self, folder: Path) -> dict[str, Path]:
        """Write the graphs as ONNX and return the files."""
        return export_paper_graphs(self._network, self._spec, folder)

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run one graph on a batch."""
        return run_module(self._graphs[graph], inputs, self._where)

    def flops(self) -> dict[str, int]:
        """Count the arithmetic of one detection by graph."""
        return graph_flops(self._graphs, example_inputs(self._network, self._spec, 1))


def set_threads(count: int) -> None:
    """Set how many threads PyTorch uses in this process."""
    torch.set_num_threads(count)
