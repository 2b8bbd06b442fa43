"""Makes exported graphs fit for TensorRT, whose networks are strongly typed.

TensorRT computes everything in the type the graph says, takes uint8 only straight into a cast, and
wants weights that are constants. Half precision is therefore a change of the graph: products and
what moves or rectifies their results become float16; the geometry (sampling positions,
exponentials, sums of probabilities, the numbers of the pose) and all inputs and outputs keep their
types.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
PRODUCTS = {'Conv', 'ConvTranspose', 'MatMul', 'Gemm'}
LAST_PRODUCTS = {'MatMul', 'Gemm'}
# keep to the type of what they are given
FOLLOWERS = {'Add', 'Clip', 'Concat', 'Expand', 'Flatten', 'Gather', 'MaxPool', 'Mul', 'Pad',
             'Relu', 'Reshape', 'Resize', 'Slice', 'Split', 'Squeeze', 'Sub', 'Transpose',
             'Unsqueeze'}


def engine_graph(data: bytes, precision: str) -> bytes:
    """Return a graph that TensorRT takes and that computes the same.

    :param data: an exported graph, ONNX.
    :param precision: ``fp32``, or ``fp16`` for products in half precision.
    :return: ONNX with the inputs and outputs of the given one, of the same types.
    """
    model = onnx.load_model_from_string(data)
    _hold_constants(model.graph)
    drop_unused(model.graph)
    _cast_bytes_first(model.graph)
    if precision == 'fp16':
        _halve(model)
        drop_unused(model.graph)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _hold_constants(graph: Any) -> None:
    """Turn constant nodes and casts of constants into initializers, and drop casts to the same."""
    held = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        if node.op_type == 'Constant':
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
        elif node.op_type == 'Cast' and node.input[0] in held and node.output[0] not in outputs:
            to = helper.tensor_dtype_to_np_dtype(node.attribute[0].i)
            array = numpy_helper.to_array(held[node.input[0]]).astype(to)
            tensor = numpy_helper.from_array(array, node.output[0])
        else:
            kept.append(node)
            continue
        held[tensor.name] = tensor
        graph.initializer.append(tensor)
    _replace_nodes(graph, kept)


def _cast_bytes_first(graph: Any) -> None:
    """Swap a transposition of uint8 with the cast that follows: TensorRT moves no bytes."""
    makers = {name: node for node in graph.node for name in node.output}
    pictures = {v.name for v in graph.input if v.type.tensor_type.elem_type == TensorProto.UINT8}
    for cast in graph.node:
        turn = makers.get(cast.input[0]) if cast.op_type == 'Cast' else None
        if turn is not None and turn.op_type == 'Transpose' and turn.input[0] in pictures:
            turn.op_type, cast.op_type = cast.op_type, turn.op_type
            attributes = list(turn.attribute)
            del turn.attribute[:]
            turn.attribute.extend(cast.attribute)
            del cast.attribute[:]
            cast.attribute.extend(attributes)


def _halve(model: Any) -> None:
    """Compute products, and what only moves or rectifies their results, in half precision."""
    graph = model.graph
    types = _element_types(model)
    _drop_casts_to_same(graph, types)
    half = _half_nodes(graph, types)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    casts: dict[tuple[str, int], str] = {}
    nodes = []

    def as_type(name: str, to: int) -> str:
        if (name, to) not in casts:
            casts[name, to] = f'{name}.{"half" if to == HALF else "float"}'
            if name in constants:
                array = numpy_helper.to_array(constants[name]).astype(np.float16)
                graph.initializer.append(numpy_helper.from_array(array, casts[name, to]))
            else:
                nodes.append(helper.make_node('Cast', [name], [casts[name, to]], to=to))
        return casts[name, to]

    is_half: set[str] = set()
    for i, node in enumerate(graph.node):
        for k, name in enumerate(node.input):
            if i in half and _follows(node, k) and types.get(name) == FLOAT:
                node.input[k] = name if name in is_half else as_type(name, HALF)
            elif i not in half and name in is_half:
                node.input[k] = as_type(name, FLOAT)
        nodes.append(node)
        if i not in half:
            continue
        for k, name in enumerate(node.output):
            if name not in outputs:
                is_half.add(name)
                continue
            # readers inside the graph take the half, the outside the float
            node.output[k] = f'{name}.half'
            casts[name, HALF] = node.output[k]
            nodes.append(helper.make_node('Cast', [node.output[k]], [name], to=FLOAT))
    del graph.value_info[:]
    _replace_nodes(graph, nodes)


def _half_nodes(graph: Any, types: dict[str, int]) -> set[int]:
    """Return the positions of the nodes that compute in half precision."""
    nodes = list(graph.node)
    constants = {tensor.name for tensor in graph.initializer}
    readers = _readers(nodes)
    outputs = {value.name for value in graph.output}
    feeds_product: set[int] = set()
    for i in reversed(range(len(nodes))):
        after = [j for name in nodes[i].output for j in readers.get(name, ())]
        if any(nodes[j].op_type in PRODUCTS or j in feeds_product for j in after):
            feeds_product.add(i)
    half: set[int] = set()
    halves: set[str] = set()
    for i, node in enumerate(nodes):
        if types.get(node.output[0]) != FLOAT:
            continue
        live = [name for k, name in enumerate(node.input)
                if types.get(name) == FLOAT and name not in constants and _follows(node, k)]
        known = [name in halves for name in live]
        enough = any(known) if node.op_type == 'Concat' else bool(known) and all(known)
        product = node.op_type in PRODUCTS and (
            node.op_type not in LAST_PRODUCTS or i in feeds_product)
        if product or (node.op_type in FOLLOWERS and enough):
            half.add(i)
            halves.update(node.output)
    for i in reversed(range(len(nodes))):  # cast before what is moved around, not after
        after = [j for name in nodes[i].output for j in readers.get(name, ())]
        if (nodes[i].op_type in FOLLOWERS and types.get(nodes[i].output[0]) == FLOAT and after
                and all(j in half for j in after) and not outputs & set(nodes[i].output)):
            half.add(i)
    return half


def _follows(node: Any, position: int) -> bool:
    """Tell whether an input of a node has the type of its data; the scales of Resize have not."""
    return node.op_type != 'Resize' or position == 0


def _element_types(model: Any) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def _drop_casts_to_same(graph: Any, types: dict[str, int]) -> None:
    outputs = {value.name for value in graph.output}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = same.get(name, name)
        if (node.op_type == 'Cast' and types.get(node.input[0]) == node.attribute[0].i
                and node.output[0] not in outputs):
            same[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    _replace_nodes(graph, kept)


def drop_unused(graph: Any) -> None:
    """Remove nodes and initializers that no output depends on."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    kept.reverse()
    initializers = [t for t in graph.initializer if t.name in needed]
    del graph.node[:]
    del graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(initializers)


def _readers(nodes: Iterable[Any]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, name in _inputs(nodes):
        found.setdefault(name, []).append(i)
    return found


def _inputs(nodes: Iterable[Any]) -> Iterator[tuple[int, str]]:
    for i, node in enumerate(nodes):
        for name in node.input:
            yield i, name


def _replace_nodes(graph: Any, nodes: list[Any]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)
