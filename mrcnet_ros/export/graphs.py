"""Inputs of the right shapes for the three graphs of a model."""

from __future__ import annotations

import torch
from torch import Tensor

from ..network.graphs import Stage2Graph
from ..specs import ModelSpec


def example_inputs(spec: ModelSpec, count: int) -> dict[str, dict[str, Tensor]]:
    """Return inputs of the right shapes for every graph.

    :param count: size of the batch.
    """
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
