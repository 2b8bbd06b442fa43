"""The training loop of the paper preset: one process for each GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ....cpus import usable_cpus
from ....errors import ModelError, MrcnetError, SpecError
from ....rendering.background_files import PHOTO_SUFFIXES, find_images
from ....training.checkpoint import load_checkpoint, save_checkpoint
from ....training.config import plain
from ....training.identity import IDENTITY, check_identity, identity_of
from ....training.metrics import append_metrics
from ....training.schedule import half_cosine
from ..network.losses import PaperLosses
from ..network.mrcnet import PaperNet
from .config import PaperTrainConfig
from .index import read_index
from .ranks import Ranks, joined_ranks
from .samples import PaperBatch, PaperSamples, stack
from .start import starting_network
from .step import PaperShapes, PaperStep, TemplateArtist


def train_paper(config: PaperTrainConfig, stop_after: int | None = None) -> Path:
    """Train to the end of the schedule, going on from the last checkpoint when there is one.

    Started by torchrun, this is one of the processes that share each step.

    :param stop_after: stop at this step instead, leaving a checkpoint, as a kill would.
    :return: the last checkpoint; its entry ``network`` is as published checkpoints have it.
    :raises SpecError: when ``stop_after`` or the precision cannot be used here.
    :raises DatasetError: when the dataset or a background cannot be used.
    :raises MeshError: when a mesh cannot be used.
    :raises ModelError: when the last checkpoint is damaged or of another model.
    """
    if stop_after is not None and stop_after < 1:
        raise SpecError(f'stop_after must be at least 1, got {stop_after}')
    torch.set_num_threads(min(torch.get_num_threads(), usable_cpus()))
    with joined_ranks() as ranks:
        if config.precision == 'float16' and ranks.device.type != 'cuda':
            raise SpecError('precision float16 needs a GPU; use bfloat16 or float32')
        run = PaperRun(config, ranks)
        run.go(stop_after)
    return run.path


class PaperRun:
    """The state of one training process."""

    def __init__(self, config: PaperTrainConfig, ranks: Ranks) -> None:
        """Prepare everything, or restore it from the last checkpoint."""
        self.config, self.ranks = config, ranks
        objects = config.load_objects()
        self.samples = load_samples(config)
        per_epoch = len(self.samples.index) // (config.batch_size * ranks.world)
        self.steps = config.steps or max(1, config.epochs * per_epoch)
        network = starting_network(config.spec, len(objects), config.imagenet, config.seed)
        self.network = network.to(ranks.device)
        groups = parameter_groups(network, config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.final_rate, fused=True)
        self.scaler = torch.amp.GradScaler(ranks.device.type,
                                           enabled=config.precision == 'float16')
        self.step, self.seconds, self.counted = 0, 0.0, 0
        self.sums = torch.zeros(len(PaperLosses._fields), device=ranks.device)
        self.identity = identity_of(objects, None, config.seed)
        self.path = config.output / 'checkpoint.pt'
        if self.path.exists():
            self._restore(load_checkpoint(self.path, config.spec))
        shapes = PaperShapes.build(objects, config.label_vertices, ranks.device)
        self.artist = TemplateArtist(objects, config.spec)
        self.forward: nn.Module = PaperStep(network, config.spec, shapes, self.artist,
                                            getattr(torch, config.precision)).to(ranks.device)
        if ranks.world > 1:
            self.forward = DistributedDataParallel(self.forward, broadcast_buffers=False,
                                                   gradient_as_bucket_view=True)

    def go(self, stop_after: int | None) -> None:
        """Run the rest of the schedule."""
        config, end = self.config, min(self.steps, stop_after or self.steps)
        if self.step >= end:
            return
        config.output.mkdir(parents=True, exist_ok=True)
        since = time.monotonic()
        for batch in batches(config, self.ranks, self.samples, self.step, end):
            self._one_step(batch.to(self.ranks.device))
            self.step, self.counted = self.step + 1, self.counted + 1
            logs, saves = self.step % config.log == 0, self.step % config.checkpoint == 0
            if logs or saves or self.step == end:
                now = time.monotonic()
                self.seconds, since = self.seconds + now - since, now
            if logs:
                self._log()
            if saves or self.step == end:
                self._save()

    def _one_step(self, batch: PaperBatch) -> None:
        for group in self.optimizer.param_groups:
            group['lr'] = paper_rate(self.config, self.steps, self.step)
        losses = self.forward(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.sum()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.sums += losses.detach()

    def _log(self) -> None:
        means = self.ranks.average(self.sums / self.counted).tolist()
        self.sums, self.counted = torch.zeros_like(self.sums), 0
        if self.ranks.rank == 0:
            samples = self.step * self.ranks.world * self.config.batch_size
            append_metrics(self.config.output, {
                'step': self.step, 'samples': samples, 'hours': self.seconds / 3600,
                'rate': samples / max(self.seconds, 1e-9), 'loss': sum(means),
                **dict(zip(PaperLosses._fields, means, strict=True))})

    def _save(self) -> None:
        if not all(bool(torch.isfinite(p).all()) for p in self.network.parameters()):
            raise MrcnetError(
                f'step {self.step}: the weights are not finite any more; {self.path} is kept as '
                'it was: go on from it with a lower learning_rate or in float32')
        self.sums = self.ranks.average(self.sums)
        if self.ranks.rank == 0:
            save_checkpoint(self.path, {
                'step': self.step, 'seconds': self.seconds, 'network': self.network.state_dict(),
                'optimizer': self.optimizer.state_dict(), 'scaler': self.scaler.state_dict(),
                'sums': self.sums, 'counted': self.counted, 'config': plain(self.config),
                IDENTITY: self.identity,
            }, self.config.spec)
        self.ranks.wait()

    def _restore(self, state: dict[str, Any]) -> None:
        check_identity(self.path, state, self.identity)
        try:
            self.network.load_state_dict(state['network'])
            self.optimizer.load_state_dict(state['optimizer'])
            self.scaler.load_state_dict(state['scaler'])
            self.sums.copy_(state['sums'])
            self.step, self.counted = int(state['step']), int(state['counted'])
            self.seconds = float(state['seconds'])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ModelError(self.path, f'does not fit the objects of this run ({error})',
                             'train in another output folder, or remove it') from error


def batches(config: PaperTrainConfig, ranks: Ranks, samples: PaperSamples, step: int,
            end: int) -> Iterator[PaperBatch]:
    """Return what a process sees from a step to another, made ahead by ``workers``."""
    size = config.batch_size
    firsts = ((s * ranks.world + ranks.rank) * size for s in range(step, end))
    loader: DataLoader[PaperBatch] = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_sampler=(list(range(first, first + size)) for first in firsts),
        collate_fn=stack, num_workers=config.workers, worker_init_fn=_start_worker,
        # a fork of a process with threads of its own may wait for a lock for ever
        multiprocessing_context='spawn' if config.workers else None,
        pin_memory=ranks.device.type == 'cuda')
    return iter(loader)


def load_samples(config: PaperTrainConfig) -> PaperSamples:
    """Read the annotations of a configuration's dataset, but no pixels.

    :raises DatasetError: when dataset or backgrounds cannot be used.
    """
    index = read_index(config.dataset, config.splits, [o.object_id for o in config.load_objects()])
    found = find_images(config.backgrounds) if config.backgrounds else []
    photos = [path for path in found if path.suffix.lower() in PHOTO_SUFFIXES]
    return PaperSamples(index, config.spec, photos, config.seed)


def parameter_groups(network: PaperNet, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimiser's groups: kernels and matrices decay, biases and norms do not."""
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    plain_ = [p for name, p in trained if name.endswith('bias') or p.ndim == 1]
    kept = {id(p) for p in plain_}
    return [{'params': [p for _, p in trained if id(p) not in kept],
             'weight_decay': weight_decay}, {'params': plain_, 'weight_decay': 0.0}]


def paper_rate(config: PaperTrainConfig, steps: int, step: int) -> float:
    """Return the learning rate of a step: linear from the lowest, then half a cosine back."""
    low, high = config.final_rate, config.learning_rate
    if step < config.warmup:
        return low + (high - low) * step / config.warmup
    return half_cosine((step - config.warmup) / max(steps - config.warmup, 1), high, low)


def _start_worker(_: int) -> None:
    cv2.setNumThreads(1)
