"""Writes the graphs of a network as ONNX and checks that they compute the same."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..inference.onnxruntime_backend import OnnxRuntimeBackend
from ..network.graphs import Stage1Graph, Stage2Graph, TemplateGraph
from ..network.mrcnet import MrcNet
from ..specs import ModelSpec
from .cpu_layout import fit_for_cpu
from .graphs import example_inputs

OPSET = 17
LARGE = 1024
TOLERANCE = 2e-2  # of the largest value; weights in half precision alone make up to 6e-3
CHECK_COUNTS = (1, 3)


def export_graphs(network: MrcNet, spec: ModelSpec, folder: Path) -> dict[str, Path]:
    """Write stage1.onnx, template.onnx and stage2.onnx for any number of detections.

    :param network: in evaluation mode.
    :return: the files by graph.
    :raises ModelError: when a written graph computes something else than the network.
    """
    graphs: dict[str, nn.Module] = {
        'stage1': Stage1Graph(network), 'template': TemplateGraph(network),
        'stage2': Stage2Graph(network)}
    files = {}
    for name, graph in graphs.items():
        graph.eval()
        files[name] = folder / f'{name}.onnx'
        data = fit_for_cpu(trace_graph(graph, example_inputs(spec, 2)[name]))
        files[name].write_bytes(store_halves(data))
    _check(graphs, files, spec)
    return files


def trace_graph(graph: Any, example: dict[str, Tensor]) -> bytes:
    """Return a module as ONNX, for batches of any size.

    :param graph: a module with the names of its ``inputs`` and ``outputs``.
    :param example: its arguments by name.
    """
    buffer: Any = io.BytesIO()
    names = [*graph.inputs, *graph.outputs]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            graph, tuple(example.values()), buffer, opset_version=OPSET, dynamo=False,
            input_names=list(graph.inputs), output_names=list(graph.outputs),
            dynamic_axes={n: {0: 'batch'} for n in names})
    return bytes(buffer.getvalue())


def store_halves(data: bytes) -> bytes:
    """Store large weights in half precision; the runtime widens them once when it loads."""
    model = onnx.load_model_from_string(data)
    casts = []
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.size >= LARGE:
            name = tensor.name
            half = onnx.numpy_helper.from_array(array.astype(np.float16), f'{name}.half')
            tensor.CopyFrom(half)
            casts.append(onnx.helper.make_node(
                'Cast', [half.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _check(graphs: dict[str, nn.Module], files: dict[str, Path], spec: ModelSpec) -> None:
    """Compare with the network at batch sizes the tracer did not see."""
    backend = OnnxRuntimeBackend(files, threads=1)
    for count in CHECK_COUNTS:
        torch.manual_seed(count)
        for name, example in example_inputs(spec, count).items():
            with torch.no_grad():
                expected = graphs[name](*example.values())
            found = backend.run(name, {k: v.numpy() for k, v in example.items()})
            for (output, array), tensor in zip(found.items(), expected, strict=True):
                scale = max(1.0, float(tensor.abs().max()))
                difference = float(np.abs(array - tensor.numpy()).max()) / scale
                if array.shape != tuple(tensor.shape) or not difference < TOLERANCE:
                    raise ModelError(files[name], f'output {output} differs from the network by '
                                                  f'{difference:.2g} at batch size {count}')
