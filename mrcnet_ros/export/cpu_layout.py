"""Makes exported graphs fit for processors, on which moving pixels costs as much as computing.

ONNX Runtime convolves in blocks of 8 or 16 channels. Steps between convolutions that know no such
blocks have the pixels brought into another order and back; convolutions of other numbers of
channels are computed in a slower way. Neither changes what a graph computes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ..runtimes.engine_graph import drop_unused

# The larger block: channels that fill blocks of 16 fill those of 8 too.
BLOCK = 16


def fit_for_cpu(data: bytes) -> bytes:
    """Return a graph that computes the same in less time on a processor.

    :param data: ONNX, as PyTorch exports it.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data))
    absorb_padding(model.graph)
    fill_blocks(model.graph)
    drop_unused(model.graph)
    del model.graph.value_info[:]  # of shapes that may have changed
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def absorb_padding(graph: Any) -> None:
    """Let convolutions put zeros around their inputs themselves.

    PyTorch does so in a step of its own where there are more on one side than on the other.
    """
    readers = _readers(graph)
    for node in [n for n in graph.node if n.op_type == 'Pad']:
        by = readers.get(node.output[0], [])
        pads = _zeros_around(graph, node)
        if pads is None or not by or any(reader.op_type != 'Conv' for reader in by):
            continue
        for reader in by:
            _pad_more(reader, pads)
            reader.input[0] = node.input[0]


def fill_blocks(graph: Any) -> None:
    """Give convolutions of joined maps channels that make their number one of whole blocks.

    The channels are copies of others, with weights of zero.
    """
    makers = {output: node for node in graph.node for output in node.output}
    readers = _readers(graph)
    held = {tensor.name: tensor for tensor in graph.initializer}
    known = {v.name: v.type.tensor_type.shape.dim for v in (*graph.input, *graph.value_info)}
    for conv in [n for n in graph.node if n.op_type == 'Conv' and n.input[1] in held]:
        joined, weight = makers.get(conv.input[0]), held[conv.input[1]]
        alone = len(readers[conv.input[0]]) == len(readers[conv.input[1]]) == 1
        kernels, channels = weight.dims[:2]
        missing = -channels % BLOCK
        grouped = any(a.name == 'group' and a.i != 1 for a in conv.attribute)
        if joined is None or joined.op_type != 'Concat' or not missing or not alone or grouped:
            continue
        shape = known.get(joined.input[0], ())
        if len(shape) != 4 or shape[1].dim_value < missing:
            continue
        zeros = np.zeros((kernels, missing, *weight.dims[2:]), np.float32)
        whole = np.concatenate([numpy_helper.to_array(weight), zeros], axis=1)
        weight.CopyFrom(numpy_helper.from_array(whole, weight.name))
        name = f'{conv.name}/fill'
        bounds = [f'{name}/{part}' for part in ('first', 'last', 'axis')]
        graph.initializer.extend(numpy_helper.from_array(np.array([value], np.int64), bound)
                                 for bound, value in zip(bounds, (0, missing, 1), strict=True))
        copies = helper.make_node('Slice', [joined.input[0], *bounds], [name], name=name)
        graph.node.insert(list(graph.node).index(joined), copies)
        joined.input.append(name)


def _readers(graph: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _zeros_around(graph: Any, node: Any) -> list[int] | None:
    """Return how many zeros a node puts before and after height and width, ONNX's order.

    :return: top, left, bottom, right; None when it does anything else.
    """
    mode = next((a.s for a in node.attribute if a.name == 'mode'), b'constant')
    axes = node.input[3] if len(node.input) > 3 else ''
    filled = len(node.input) > 2 and node.input[2]
    pads = constant_value(graph, node.input[1])
    if mode != b'constant' or axes or pads is None or pads.size != 8 or (pads < 0).any():
        return None
    if filled:
        value = constant_value(graph, node.input[2])
        if value is None or np.any(value != 0):
            return None
    if pads[[0, 1, 4, 5]].any():
        return None
    return [int(n) for n in pads[[2, 3, 6, 7]]]


def _pad_more(conv: Any, pads: list[int]) -> None:
    attribute = next((a for a in conv.attribute if a.name == 'pads'), None)
    known = list(attribute.ints) if attribute is not None else [0] * 4
    if attribute is not None:
        conv.attribute.remove(attribute)
    conv.attribute.append(
        helper.make_attribute('pads', [a + b for a, b in zip(known, pads, strict=True)]))


def constant_value(graph: Any, name: str) -> NDArray[Any] | None:
    """Return what a tensor always is, None when it depends on an input."""
    makers = {output: node for node in graph.node for output in node.output}
    held = {tensor.name: tensor for tensor in graph.initializer}
    nodes: dict[int, Any] = {}
    waiting, tensors = [name], []
    while waiting:
        wanted = waiting.pop()
        if wanted in held:
            tensors.append(held[wanted])
        elif wanted in makers:
            node = makers[wanted]
            if id(node) not in nodes:
                nodes[id(node)] = node
                waiting += [i for i in node.input if i]
        else:
            return None
    chain = [node for node in graph.node if id(node) in nodes]
    output = helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)
    part = helper.make_graph(chain, 'constant', [], [output], tensors)
    return np.asarray(ReferenceEvaluator(part, opsets={'': 17}).run(None, {})[0])
