"""Writes the graphs of a network as ONNX and checks that they compute the same."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..network.graphs import graphs_of
from ..network.mrcnet import MrcNet
from ..runtimes.onnxruntime_backend import OnnxRuntimeBackend
from ..specs import ModelSpec
from .arithmetic import example_inputs
from .cpu_layout import fit_for_cpu

# Runtimes of all supported releases read it; a later one would exclude the older of them.
OPSET = 17
# Numbers of a tensor; smaller ones (biases, gains) keep full precision, as halving them saves
# nothing.
LARGE = 1024
TOLERANCE = 2e-2  # of the largest value; weights in half precision alone make up to 6e-3
# One detection and several: a batch size that was fixed by tracing fails here.
CHECK_COUNTS = (1, 3)
Inputs = Mapping[str, Mapping[str, Tensor]]  # of graphs by name, and there by name
MakeInputs = Callable[[int], Inputs]  # of a batch of some rows


def export_graphs(network: MrcNet, spec: ModelSpec, folder: Path) -> dict[str, Path]:
    """Write stage1.onnx, template.onnx and stage2.onnx for any number of detections.

    :param network: in evaluation mode.
    :return: the files by graph.
    :raises ModelError: when a written graph computes something else than the network.
    """
    return write_checked(graphs_of(network), partial(example_inputs, spec), folder)


def write_checked(graphs: Mapping[str, nn.Module], inputs: MakeInputs, folder: Path
                  ) -> dict[str, Path]:
    """Write modules as ONNX, small and fast, and compare them with the modules.

    :param graphs: as of :func:`write_graphs`.
    :param inputs: returns those of a batch of some rows.
    :return: the files by graph.
    :raises ModelError: when a written graph computes something else than its module.
    """
    files = write_graphs(graphs, inputs(2), folder, small_and_fast)
    for count in CHECK_COUNTS:
        torch.manual_seed(count)
        check_graphs(graphs, files, inputs(count))
    return files


def write_graphs(graphs: Mapping[str, nn.Module], examples: Inputs, folder: Path,
                 finish: Callable[[bytes], bytes] = bytes,
                 axes: Mapping[str, Mapping[int, str]] | None = None) -> dict[str, Path]:
    """Write modules as ONNX, each as a file with its name.

    :param graphs: modules with the names of their ``inputs`` and ``outputs``.
    :param finish: changes each graph after it was traced.
    :param axes: as :func:`trace_graph` takes them.
    :return: the files by graph.
    """
    files = {}
    for name, graph in graphs.items():
        files[name] = folder / f'{name}.onnx'
        files[name].write_bytes(finish(trace_graph(graph.eval(), examples[name], axes)))
    return files


def trace_graph(graph: Any, example: Mapping[str, Tensor],
                axes: Mapping[str, Mapping[int, str]] | None = None) -> bytes:
    """Return a module as ONNX.

    :param graph: a module with the names of its ``inputs`` and ``outputs``.
    :param example: its arguments by name.
    :param axes: names of axes that may have any length; by default the first one of all, which is
        the batch.
    """
    buffer: Any = io.BytesIO()
    if axes is None:
        axes = {name: {0: 'batch'} for name in (*graph.inputs, *graph.outputs)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            graph, tuple(example.values()), buffer, opset_version=OPSET, dynamo=False,
            input_names=list(graph.inputs), output_names=list(graph.outputs),
            dynamic_axes=dict(axes))
    return bytes(buffer.getvalue())


def check_graphs(graphs: Mapping[str, Any], files: Mapping[str, Path], inputs: Inputs,
                 tolerance: float = TOLERANCE, smallest: float = 1.0) -> None:
    """Compare written graphs with the modules, with inputs that the tracer did not see.

    :param tolerance: largest difference, as a part of the largest value of an output.
    :param smallest: outputs with smaller values are compared as if their largest were this.
    :raises ModelError: when a graph computes something else.
    """
    backend = OnnxRuntimeBackend(files, threads=torch.get_num_threads())
    for name, example in inputs.items():
        with torch.no_grad():
            expected = graphs[name](*example.values())
        found = backend.run(name, {k: v.numpy() for k, v in example.items()})
        for (output, array), tensor in zip(found.items(), expected, strict=True):
            if array.shape != tuple(tensor.shape):
                raise ModelError(files[name], f'output {output} has shape {array.shape}, '
                                              f'expected {tuple(tensor.shape)}')
            scale = max(smallest, float(tensor.abs().max()))
            difference = float(np.abs(array - tensor.numpy()).max()) / scale
            if not difference < tolerance:
                shapes = [tuple(v.shape) for v in example.values()]
                raise ModelError(files[name], f'output {output} differs from the network by '
                                              f'{difference:.2g} for inputs of {shapes}')


def small_and_fast(data: bytes) -> bytes:
    """Return a graph in the layout that processors like, its weights in half precision."""
    return store_halves(fit_for_cpu(data))


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
