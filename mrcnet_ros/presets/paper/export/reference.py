"""The published network as ONNX, and with seeded weights in PyTorch.

A batch is a row of detections, each of ``spec.turns`` in-plane rotations; batch statistics are
those of each detection, for any number of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ....export.arithmetic import graph_flops
from ....export.onnx_export import check_graphs, write_graphs
from ....runtimes.torch_backend import run_module, torch_device
from ..network.blocks import ObjectConv
from ..network.graphs import ResidualGraph, graphs_of
from ..network.mrcnet import EMBEDDING, PaperNet
from ..parity.seeded import seeded_network
from ..spec import PaperSpec

# published weights stay in single precision, so that only the order of sums differs
TOLERANCE = 1e-3
TRACED, CHECKED = 1, 2  # detections: a size that tracing fixed fails with another number


def export_paper_graphs(network: PaperNet, spec: PaperSpec, folder: Path) -> dict[str, Path]:
    """Write embed.onnx, stage1.onnx and stage2.onnx for any number of detections.

    :param network: in evaluation mode.
    :return: the files by graph.
    :raises ModelError: when a written graph computes something else than the network, or
        something else for several detections than for each alone.
    """
    kernels = [m for m in network.modules() if isinstance(m, ObjectConv)]
    graphs = graphs_of(network)
    for kernel in kernels:
        kernel.as_products = True
    try:
        files = write_graphs(graphs, example_inputs(network, spec, TRACED), folder)
    finally:
        for kernel in kernels:
            kernel.as_products = False
    torch.manual_seed(0)
    check_graphs(graphs, files, example_inputs(network, spec, CHECKED), TOLERANCE, smallest=0.0)
    return files


def example_inputs(network: PaperNet, spec: PaperSpec, detections: int
                   ) -> dict[str, dict[str, Tensor]]:
    """Return inputs of the right shapes for every graph, a class for each detection."""
    count, size = detections * spec.turns, spec.size_px
    objects = len(network.backbone.decoder.conv_last.weights)
    shapes = ((EMBEDDING + 1, 4), (128, 8), (128, 16))
    features = [torch.rand(count, c, size // s, size // s) for c, s in (*shapes, *shapes)]
    view = torch.rand(count, 3)
    classes = torch.arange(count) // spec.turns % objects
    return {
        'embed': {'image': torch.rand(count, 4, size, size), 'class_index': classes},
        'stage1': {'x16': features[2], 'view': view},
        'stage2': dict(zip(ResidualGraph.inputs, [*features, view], strict=True)),
    }


class PaperReference:
    """Runs the network of the paper as PyTorch does, without any runtime.

    :param device: ``cpu`` or ``cuda``, in full precision.
    :raises BackendError: when PyTorch cannot compute there.
    """

    def __init__(self, spec: PaperSpec, objects: int, salt: str, device: str = 'cpu') -> None:
        self._where = torch_device(device)
        self._spec, self._network = spec, seeded_network(salt, spec, objects).to(self._where)
        self._graphs = graphs_of(self._network)

    def export(self, folder: Path) -> dict[str, Path]:
        """Write the graphs as ONNX and return the files."""
        return export_paper_graphs(self._network, self._spec, folder)

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return run_module(self._graphs[graph], inputs, self._where)

    def flops(self) -> dict[str, int]:
        """Count the arithmetic of one detection by graph."""
        return graph_flops(self._graphs, example_inputs(self._network, self._spec, 1))


def set_threads(count: int) -> None:
    """Set how many threads PyTorch uses in this process."""
    torch.set_num_threads(count)
