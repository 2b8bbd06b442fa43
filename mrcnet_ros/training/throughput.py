"""Measures the speed of a training on a device, and compares it with the CPU."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count as numbers_from
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..objects import ObjectModel
from .config import TrainConfig
from .drawing_ahead import draw_ahead
from .feed import Compositions, batches
from .step import StepResult, train_step
from .targets import Batch, stack_samples
from .template_bank import TemplateBank
from .training_data import TrainingMaterial, load_material, load_templates, load_views
from .training_start import build_network, check_device
from .view_bank import SharedViews

CPU = torch.device('cpu')
# steps before the clock starts: libraries choose their kernels in the first ones
WARM_UP = 3


@dataclass(frozen=True, eq=False)
class Bench:
    """What the steps of a configuration need, on the processor.

    :param bank: without features yet.
    """

    config: TrainConfig
    objects: list[ObjectModel]
    views: list[SharedViews]
    material: TrainingMaterial
    bank: TemplateBank
    stem: dict[str, Tensor]


def load_bench(config: TrainConfig, stem: dict[str, Tensor]) -> Bench:
    """Draw or load everything.

    :raises SpecError: when the configuration names a GPU that is not there.
    :raises MeshError: when a mesh cannot be used.
    """
    check_device(config)
    objects = config.load_objects()
    draw_ahead(config, objects, max(config.composers, config.processes))
    views = load_views(config, objects)
    material = load_material(config, objects, views, [])
    return Bench(config, objects, views, material, load_templates(config, objects), stem)


def widened_network(config: TrainConfig, factor: float) -> TrainConfig:
    """Return a configuration whose network is wider, and starts from noise.

    :param factor: of all its channels; 1 changes nothing.
    """
    if factor == 1:
        return config
    given = config.spec.network
    c4, c8, c16, c32 = (round(c * factor) for c in given.channels)
    e4, e8, e16 = (round(c * factor) for c in given.embedding)
    network = dataclasses.replace(given, hidden=round(given.hidden * factor),
                                  channels=(c4, c8, c16, c32), embedding=(e4, e8, e16))
    return dataclasses.replace(
        config, init=None, spec=dataclasses.replace(config.spec, network=network))


def compare_devices(bench: Bench, samples: int) -> dict[str, Any]:
    """Compute one step on the processor and on the configuration's device.

    In float32, which tells whether the device is right, and in bfloat16, in which networks train.
    There stage 2 may start from another rotation bin after the smallest difference, so that right
    answers differ too.

    :return: for ``float32`` and ``bfloat16`` the ``loss`` and ``gradient_norm`` by place, and the
        largest relative difference of the terms of the loss, and of the gradients by the norm of
        all.
    """
    batch = stack_samples([bench.material.composer.sample(bench.config.seed, i)
                           for i in range(samples)])
    device = torch.device(bench.config.device)
    with _without_tf32():
        return {'samples': samples, 'devices': ['cpu', str(device)],
                'float32': _differences(bench, batch, device, torch.float32),
                'bfloat16': _differences(bench, batch, device, torch.bfloat16)}


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Let float32 mean float32 on a GPU, which rounds it to TF32 otherwise."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def _differences(bench: Bench, batch: Batch, device: torch.device,
                 precision: torch.dtype) -> dict[str, Any]:
    here, there = (_one_step(bench, batch, d, precision) for d in (CPU, device))
    norms = [float(torch.linalg.vector_norm(g)) for _, g in (here, there)]
    return {
        'loss': [float(result.loss.detach()) for result, _ in (here, there)],
        'gradient_norm': norms,
        'largest_relative_difference': float(np.max([  # not a number if one of them is none
            abs(a - b) / max(abs(a), 1e-3) for a, b in zip(
                here[0].parts.values(), there[0].parts.values(), strict=True)])),
        'relative_difference_of_gradients': float(
            torch.linalg.vector_norm(here[1] - there[1])) / max(norms[0], 1e-12),
    }


def _one_step(bench: Bench, stack: Batch, device: torch.device,
              precision: torch.dtype) -> tuple[StepResult, Tensor]:
    """Return the result of a first step, and all its gradients on the processor."""
    config = bench.config
    network = build_network(config, bench.objects, bench.stem).to(device)
    bank = bench.bank.to(device, precision)
    bank.refresh(network)
    network.train()
    result = train_step(
        network, stack.ready(device), bank, bench.material.shapes.to(device),
        bench.material.grid.to(device), config.spec, np.random.default_rng(0))
    result.loss.backward()
    gradients = [p.grad.reshape(-1).float().cpu() for p in network.parameters()
                 if p.grad is not None]
    return result, torch.cat(gradients)


def step_rate(bench: Bench, factor: float, steps: int) -> dict[str, Any]:
    """Time steps on one batch that is on the device already: what the network alone can do.

    :param factor: of the width of the network.
    :return: ``samples_per_s``, ``parameters`` and, on a GPU, ``memory_gib`` at its highest.
    """
    config = widened_network(bench.config, factor)
    device = torch.device(config.device)
    network = build_network(config, bench.objects, bench.stem).to(device)
    bank = load_templates(config, bench.objects).to(device)
    bank.refresh(network)
    network.train()
    batch = stack_samples([bench.material.composer.sample(config.seed, i)
                           for i in range(min(config.batch_size, 64))])
    rows = torch.arange(config.batch_size) % len(batch.class_index)
    ready = Batch(*(values[rows] for values in batch)).ready(device)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], fused=True)
    shapes, grid = bench.material.shapes.to(device), bench.material.grid.to(device)
    rng, started = np.random.default_rng(0), 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            _wait(device)
            started = time.perf_counter()
        result = train_step(network, ready, bank, shapes, grid, config.spec, rng)
        optimizer.zero_grad(set_to_none=False)
        result.loss.backward()
        optimizer.step()
    _wait(device)
    seconds = time.perf_counter() - started
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == 'cuda' else None
    return {'width': factor, 'parameters': sum(p.numel() for p in network.parameters()),
            'batch_size': config.batch_size, 'memory_gib': memory,
            'samples_per_s': steps * config.batch_size / seconds}


def feed_rate(bench: Bench, steps: int) -> dict[str, Any]:
    """Time how fast the configuration's composers bring batches to the device."""
    config = bench.config
    compositions = Compositions(config, bench.views, [], bench.material.composer)
    feed = batches(compositions, _ranges(config.batch_size), torch.device(config.device))
    ahead = max(1, 2 * config.composers)  # batches made while the composers start
    for _ in range(ahead):
        next(feed)
    started = time.perf_counter()
    for _ in range(steps):
        next(feed)
    _wait(torch.device(config.device))
    return {'composers': config.composers,
            'samples_per_s': steps * config.batch_size / (time.perf_counter() - started)}


def _ranges(size: int) -> Iterator[Sequence[int]]:
    return (range(n * size, (n + 1) * size) for n in numbers_from())


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
