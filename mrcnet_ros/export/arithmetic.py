"""How much arithmetic a model is, and how much of it the machine can do in a second."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..model_json import read_model_json
from ..network.graphs import Stage2Graph, graphs_of
from ..network.mrcnet import MrcNet
from ..specs import ModelSpec

# large enough to be limited by arithmetic, small enough for a laptop's cache and patience
SIDES = (768, 1536)
TRIALS = 3  # the best one counts: others are disturbed by other processes


def example_inputs(spec: ModelSpec, count: int) -> dict[str, dict[str, Tensor]]:
    """Return inputs of the right shapes for every graph."""
    size, (e4, e8, e16) = spec.crop.size_px, spec.network.embedding
    image = torch.randint(0, 255, (count, size, size, 3), dtype=torch.uint8)
    classes = torch.zeros(count, dtype=torch.int64)
    shapes = ((e4, 4), (e8, 8), (e16, 16), (4, 4))
    crop, template = ([torch.rand(count, c, size // s, size // s) for c, s in shapes]
                      for _ in range(2))
    stage2 = [*crop, *template, torch.zeros(count, 2), torch.zeros(count), classes]
    return {
        'stage1': {'image': image, 'class_index': classes},
        'template': {'image': image, 'class_index': classes},
        'stage2': dict(zip(Stage2Graph.inputs, stage2, strict=True)),
    }


def stage_flops(model_dir: Path) -> dict[str, int]:
    """Count the arithmetic of one row by graph, for a model of the default preset.

    :raises ModelError: when the directory has no readable ``model.json``.
    """
    values = read_model_json(model_dir)[1]
    spec = ModelSpec.from_dict(values['spec'])
    network = MrcNet(spec=spec, objects=len(values['objects'])).eval()
    return graph_flops(graphs_of(network), example_inputs(spec, 1))


def graph_flops(graphs: Mapping[str, Any], inputs: Mapping[str, Mapping[str, torch.Tensor]]
                ) -> dict[str, int]:
    """Count the arithmetic of modules as their exported graphs do it.

    Convolutions and matrix products count, a multiplication with its addition as two.

    :param graphs: modules by name.
    """
    counts = {}
    for name, graph in graphs.items():
        with torch.no_grad(), _as_exported(), FlopCounterMode(display=False) as counter:
            graph(*inputs[name].values())
        counts[name] = int(counter.get_total_flops())
    return counts


@contextmanager
def _as_exported() -> Iterator[None]:
    """Let modules take the way that they take in exported graphs."""
    usual = torch.onnx.is_in_onnx_export
    torch.onnx.is_in_onnx_export = lambda: True
    try:
        yield
    finally:
        torch.onnx.is_in_onnx_export = usual


def gemm_flops_per_s(threads: int) -> dict[str, float]:
    """Time products of square matrices in PyTorch and return the best rate of each precision."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return {name: max(_rate(side, kind) for side in SIDES)
                for name, kind in (('fp32', torch.float32), ('bf16', torch.bfloat16))}
    finally:
        torch.set_num_threads(before)


def _rate(side: int, kind: torch.dtype) -> float:
    a, b = (torch.rand(side, side).to(kind) for _ in range(2))
    out = a @ b
    best_s = float('inf')
    for _ in range(TRIALS):
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        best_s = min(best_s, time.perf_counter() - start)
    return 2.0 * side**3 / best_s
