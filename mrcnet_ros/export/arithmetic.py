"""How much arithmetic a model is, and how much of it the machine can do in a second."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..model_json import read_model_json, refiner_spec
from ..network.graphs import RefinerGraph, Stage2Graph, graphs_of, refiner_graphs_of
from ..network.mrcnet import MrcNet, RefinerNetwork
from ..specs import ModelSpec, PoseNetworkSpec, RefinerSpec

# large enough to be limited by arithmetic, small enough for a laptop's cache and patience
SIDES = (768, 1536)
TRIALS = 3  # the best one counts: others are disturbed by other processes


def example_inputs(spec: ModelSpec, count: int, objects: int = 1) -> dict[str, dict[str, Tensor]]:
    """Return inputs for every graph, random where values matter.

    :param objects: that rows are of, in turns.
    """
    image, classes = _image(spec, count, objects)
    # at 0 a warp to the wrong side would not be seen; these are places and sizes as in crops
    xy, log_size = 0.5 * torch.rand(count, 2) - 0.25, 0.8 * torch.rand(count) - 0.6
    stage2 = [*_features(spec, count), *_features(spec, count), xy, log_size, classes]
    return {
        'stage1': {'image': image, 'class_index': classes},
        'template': {'image': image, 'class_index': classes},
        'stage2': dict(zip(Stage2Graph.inputs, stage2, strict=True)),
    }


def refiner_inputs(spec: RefinerSpec, count: int, objects: int = 1
                   ) -> dict[str, dict[str, Tensor]]:
    """Return inputs for the graphs of a refiner.

    :param objects: that rows are of, in turns.
    """
    image, classes = _image(spec, count, objects)
    refiner = [image, *_features(spec, count), classes]
    return {'refiner': dict(zip(RefinerGraph.inputs, refiner, strict=True)),
            'refiner_template': {'image': image, 'class_index': classes}}


def _image(spec: PoseNetworkSpec, count: int, objects: int) -> tuple[Tensor, Tensor]:
    """Return crops, and the class of each."""
    size = spec.crop.size_px
    return (torch.randint(0, 255, (count, size, size, 3), dtype=torch.uint8),
            torch.arange(count) % objects)


def _features(spec: PoseNetworkSpec, count: int) -> list[Tensor]:
    """Return feature maps at strides 4, 8 and 16, and coordinates."""
    size, (e4, e8, e16) = spec.crop.size_px, spec.network.embedding
    shapes = ((e4, 4), (e8, 8), (e16, 16), (4, 4))
    return [torch.rand(count, c, size // s, size // s) for c, s in shapes]


def stage_flops(model_dir: Path) -> dict[str, int]:
    """Count the arithmetic of one row by graph, for a model of the default preset.

    :raises ModelError: when the directory has no readable ``model.json``.
    """
    values = read_model_json(model_dir)[1]
    spec = ModelSpec.from_dict(values['spec'])
    count, refiner = len(values['objects']), refiner_spec(values)
    network = MrcNet(spec=spec, objects=count).eval()
    flops = graph_flops(graphs_of(network), example_inputs(spec, 1))
    if refiner is not None:
        third = RefinerNetwork(spec=refiner, objects=count).eval()
        flops |= graph_flops(refiner_graphs_of(third), refiner_inputs(refiner, 1))
    return flops


def graph_flops(graphs: Mapping[str, Any], inputs: Mapping[str, Mapping[str, torch.Tensor]]
                ) -> dict[str, int]:
    """Count the arithmetic of modules as their exported graphs do it.

    Convolutions and matrix products count, a multiplication with its addition as two.

    :param graphs: modules by name.
    """
    counts = {}
    for name, graph in graphs.items():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            graph(*inputs[name].values())
        counts[name] = int(counter.get_total_flops())
    return counts


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
