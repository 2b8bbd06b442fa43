"""The graphs of the paper preset: one that embeds crops and templates alike, and two heads.

A batch is a row of detections, each of ``spec.turns`` in-plane rotations; batch statistics are
those of each detection, for any number of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....errors import ModelError
from ....export.onnx_export import trace_graph
from ....inference.onnxruntime_backend import OnnxRuntimeBackend
from ..model import PAPER_GRAPHS
from ..network.blocks import ObjectConv
from ..network.graphs import CoarseGraph, EmbedGraph, ResidualGraph
from ..network.mrcnet import EMBEDDING, PaperNet
from ..spec import PaperSpec

TOLERANCE = 1e-3
TRACED, CHECKED = 1, 2


def export_paper_graphs(network: PaperNet, spec: PaperSpec, folder: Path) -> dict[str, Path]:
    """Write embed.onnx, stage1.onnx and stage2.onnx for any number of detections.

    :param network: in evaluation mode.
    :return: the files by graph.
    :raises ModelError: when a written graph computes something else than the network, or
        something else for several detections than for each alone.
    """
    kernels = [m for m in network.modules() if isinstance(m, ObjectConv)]
    graphs = dict(zip(PAPER_GRAPHS, (
        EmbedGraph(network), CoarseGraph(network), ResidualGraph(network)), strict=True))
    files = {}
    for kernel in kernels:
        kernel.as_products = True
    try:
        for name, graph in graphs.items():
            files[name] = folder / f'{name}.onnx'
            files[name].write_bytes(
                trace_graph(graph.eval(), example_inputs(network, spec, TRACED)[name]))
    finally:
        for kernel in kernels:
            kernel.as_products = False
    _check(network, graphs, files, spec)
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


def _check(network: PaperNet, graphs: dict[str, Any], files: dict[str, Path],
           spec: PaperSpec) -> None:
    """Compare with the network at a number of detections the tracer did not see."""
    backend = OnnxRuntimeBackend(files, threads=torch.get_num_threads())
    torch.manual_seed(0)
    for name, example in example_inputs(network, spec, CHECKED).items():
        with torch.no_grad():
            expected = graphs[name](*example.values())
        found = backend.run(name, {k: v.numpy() for k, v in example.items()})
        for (output, array), tensor in zip(found.items(), expected, strict=True):
            if array.shape != tuple(tensor.shape):
                raise ModelError(files[name], f'output {output} has shape {array.shape}, '
                                              f'expected {tuple(tensor.shape)}')
            difference = np.abs(array - tensor.numpy()).max() / float(tensor.abs().max())
            if not difference < TOLERANCE:
                raise ModelError(files[name], f'output {output} differs from the network by '
                                              f'{difference:.2g} for {CHECKED} detections')
