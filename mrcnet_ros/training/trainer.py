"""The training loop: a few one-thread processes that share gradients.

On a CPU, processes of one thread each train about twice as fast as one process of many threads.
"""

from __future__ import annotations

import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import cv2
import numpy as np
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor

from ..errors import ModelError, MrcnetError, SpecError
from ..network.mrcnet import MrcNet
from ..objects import ObjectModel
from .backgrounds import check_images, find_images
from .checkpoint import load_checkpoint, save_checkpoint
from .config import TrainConfig, plain
from .exchange import Exchange, end_with_parent, watch
from .identity import IDENTITY, check_identity, check_known, identity_of
from .material import Material, load_material, load_templates, load_views, target_classes
from .metrics import append_metrics, drop_metrics
from .schedule import half_cosine
from .step import train_step
from .targets import collate
from .template_bank import TemplateBank
from .view_bank import SharedViews
from .warm_start import clear_gradients, freeze_norms, freeze_shared, read_start, warm_start

LOG_EVERY = 50
CLIP_NORM = 10.0
EMA_DECAY = 0.999
VALIDATION_SAMPLES = 512
VALIDATION_SEED = 1_000_003
TEMPLATE_CHOICE = 2_000_003


def train(config: TrainConfig, stem: dict[str, Tensor], stop_after: int | None = None) -> Path:
    """Train to the end of the schedule, going on from the last checkpoint when there is one.

    :param stem: ImageNet weights for the frozen layers.
    :param stop_after: stop at this step instead, leaving a checkpoint, as a kill would.
    :return: the last checkpoint.
    :raises SpecError: when ``stop_after`` is no multiple of ``refresh``: a run that goes on from
        there would see other template features than one that was not stopped; or when the
        configuration leaves no object to train.
    :raises DatasetError: when there are no backgrounds, or they cannot be read.
    :raises ModelError: when the last checkpoint is damaged, or of another model, other objects,
        another view prior or seed; or when ``init`` knows an object otherwise than the
        configuration, whose answers must stay.
    """
    if stop_after is not None and (stop_after < 1 or stop_after % config.refresh):
        raise SpecError(f'stop_after must be a positive multiple of refresh ({config.refresh}), '
                        f'got {stop_after}')
    check_images(find_images(config.backgrounds))  # before views are rendered for minutes
    objects = config.load_objects()
    target_classes(config, objects, known_classes(config))
    identity = identity_of(objects, config.view_prior, config.seed)
    if config.freeze_shared and config.init is not None:
        check_known(config.init, read_start(config.init, config.spec).objects, identity)
    last = config.output / 'checkpoint.pt'
    if last.exists():
        check_identity(last, load_checkpoint(last, config.spec), identity)
    config.output.mkdir(parents=True, exist_ok=True)
    views = load_views(config, objects)
    bank = load_templates(config, objects)
    network = build_network(config, objects, stem)
    numbers = sum(p.numel() for p in network.parameters() if p.requires_grad)
    numbers = max(numbers, sum(b.numel() for b in network.buffers()))
    slots = torch.zeros((config.processes, numbers)).share_memory_()
    context = multiprocessing.get_context('spawn')
    barrier = context.Barrier(config.processes)
    arguments = (config, views, bank, slots, barrier, stem, stop_after)
    others = [context.Process(target=_worker, args=(rank, *arguments), daemon=True)
              for rank in range(1, config.processes)]
    for process in others:
        process.start()
    watcher = watch(others, barrier)
    try:
        _worker(0, *arguments)
    except BrokenBarrierError as error:
        raise MrcnetError('a training process died; what it said is above') from error
    watcher.join()
    for process in others:
        if process.exitcode:
            raise MrcnetError(f'a training process ended with exit code {process.exitcode}')
    return last


def build_network(config: TrainConfig, objects: list[ObjectModel],
                  stem: dict[str, Tensor]) -> MrcNet:
    """Return the network at its first step, the same for every process."""
    torch.manual_seed(config.seed)
    network = MrcNet(spec=config.spec, objects=len(objects))
    network.backbone.stem.load_imagenet(stem)
    if config.init is not None:
        warm_start(network, read_start(config.init, config.spec), [o.label for o in objects])
    if config.freeze_shared:
        freeze_shared(network)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _worker(rank: int, config: TrainConfig, views: list[SharedViews], bank: TemplateBank,
            slots: Tensor, barrier: Barrier, stem: dict[str, Tensor],
            stop_after: int | None) -> None:
    if rank:
        end_with_parent()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        objects = config.load_objects()
        material = load_material(config, objects, views, known_classes(config))
        network = build_network(config, objects, stem)
        Run(config, material, bank, network, Exchange(rank, slots, barrier)).go(stop_after)
    except BaseException:
        barrier.abort()  # or the others would wait for this process
        raise


class Run:
    """The state of one training process."""

    def __init__(self, config: TrainConfig, material: Material, bank: TemplateBank,
                 network: MrcNet, exchange: Exchange) -> None:
        """Prepare optimiser and averages, or restore them from the last checkpoint."""
        self.config, self.material, self.bank = config, material, bank
        self.network, self.exchange = network, exchange
        self.trained = [p for p in network.parameters() if p.requires_grad]
        self.known = known_classes(config)
        decayed = [p for p in self.trained if p.ndim > 1]
        plain = [p for p in self.trained if p.ndim <= 1]
        decay = 0.0 if config.freeze_shared else config.weight_decay
        self.optimizer = torch.optim.AdamW([
            {'params': decayed, 'weight_decay': decay},
            {'params': plain, 'weight_decay': 0.0}], betas=(0.9, 0.98), fused=True)
        self.average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self.step, self.seconds = 0, 0.0
        self.identity = identity_of(config.load_objects(), config.view_prior, config.seed)
        self.path = config.output / 'checkpoint.pt'
        if self.path.exists():
            self._restore(load_checkpoint(self.path, config.spec))

    def go(self, stop_after: int | None) -> None:
        """Run the rest of the schedule."""
        end = min(self.config.steps, stop_after or self.config.steps)
        self._train_mode()
        sums: dict[str, float] = {}
        since, counted = time.monotonic(), 0
        first = self.step
        while self.step < end:
            if self.step == first or self.step % self.config.refresh == 0:
                self._refresh()
            parts = self._one_step()
            self.step, counted = self.step + 1, counted + 1
            for key, value in parts.items():
                sums[key] = sums.get(key, 0.0) + value
            if self.step % LOG_EVERY == 0:
                now = time.monotonic()
                self.seconds += now - since
                means = {k: v / counted for k, v in sums.items()}
                self._log({'rate': self._samples(counted) / (now - since), **means})
                sums, since, counted = {}, now, 0
            if self.step % self.config.validation == 0:
                self._validate()
            if self.step % self.config.checkpoint == 0 or self.step == end:
                self._save()

    def _train_mode(self) -> None:
        self.network.train()
        if self.config.freeze_shared:
            freeze_norms(self.network)

    def _one_step(self) -> dict[str, float]:
        config, rank, world = self.config, self.exchange.rank, self.exchange.world
        first = (self.step * world + rank) * config.batch_size
        batch = collate([self.material.composer.sample(config.seed, first + i)
                         for i in range(config.batch_size)])
        rng = np.random.default_rng([config.seed, TEMPLATE_CHOICE, first])
        result = train_step(self.network, batch, self.bank, self.material.shapes,
                            self.material.grid, config.spec, rng)
        self.optimizer.zero_grad(set_to_none=False)
        result.loss.backward()
        clear_gradients(self.network, self.known)
        self.exchange.average([p.grad for p in self.trained if p.grad is not None])
        torch.nn.utils.clip_grad_norm_(self.trained, CLIP_NORM)
        for group in self.optimizer.param_groups:
            group['lr'] = learning_rate(config, self.step)
        self.optimizer.step()
        if rank == 0:
            self._update_average()
        return {'loss': float(result.loss.detach()), **result.parts}

    def _update_average(self) -> None:
        decay = min(EMA_DECAY, (1 + self.step) / (20 + self.step))
        for key, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - decay)

    def _refresh(self) -> None:
        """Bring batch statistics and template features of all processes to the same state."""
        self.exchange.average([b for b in self.network.buffers() if b.is_floating_point()])
        self.bank.refresh(self.network, self.exchange.rank, self.exchange.world)
        self.exchange.wait()

    def _validate(self) -> None:
        """Measure the averaged weights on synthetic images that training never draws."""
        self.exchange.wait()
        if self.exchange.rank == 0:
            kept = {k: v.clone() for k, v in self.network.state_dict().items()}
            self.network.load_state_dict(self.average)
            self.bank.refresh(self.network)
            self.network.eval()
            sums: dict[str, list[float]] = {}
            for first in range(0, VALIDATION_SAMPLES, self.config.batch_size):
                batch = collate([self.material.composer.sample(VALIDATION_SEED, first + i)
                                 for i in range(self.config.batch_size)])
                with torch.no_grad():
                    parts = train_step(
                        self.network, batch, self.bank, self.material.shapes, self.material.grid,
                        self.config.spec, np.random.default_rng([first, TEMPLATE_CHOICE])).parts
                for key, value in parts.items():
                    sums.setdefault(key, []).append(value)
            self._log({f'validation_{k}': float(np.mean(v)) for k, v in sums.items()})
            self.network.load_state_dict(kept)
            self._train_mode()
        self.exchange.wait()
        self.bank.refresh(self.network, self.exchange.rank, self.exchange.world)
        self.exchange.wait()

    def _samples(self, steps: int) -> int:
        return steps * self.config.batch_size * self.exchange.world

    def _log(self, values: dict[str, float]) -> None:
        if self.exchange.rank:
            return
        append_metrics(self.config.output, {
            'step': self.step, 'samples': self._samples(self.step),
            'hours': round(self.seconds / 3600, 4), **values})

    def _save(self) -> None:
        self.exchange.average([b for b in self.network.buffers() if b.is_floating_point()])
        if self.exchange.rank == 0:
            save_checkpoint(self.path, {
                'step': self.step, 'seconds': self.seconds, 'network': self.network.state_dict(),
                'average': self.average, 'optimizer': self.optimizer.state_dict(),
                'config': plain(self.config), IDENTITY: self.identity,
            }, self.config.spec)
        self.exchange.wait()

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            self.network.load_state_dict(state['network'])
            self.optimizer.load_state_dict(state['optimizer'])
        except (RuntimeError, ValueError) as error:
            raise ModelError(self.path, f'does not fit the objects of this run ({error})',
                             'train in another output folder, or remove it') from error
        self.average = {k: v.clone() for k, v in state['average'].items()}
        self.step, self.seconds = int(state['step']), float(state['seconds'])
        if self.exchange.rank == 0:
            drop_metrics(self.config.output, self.step)


def known_classes(config: TrainConfig) -> list[int]:
    """Return the classes whose rows must not move: those that a frozen model knows already."""
    if not config.freeze_shared or config.init is None:
        return []
    labels = read_start(config.init, config.spec).labels
    return [i for i, o in enumerate(config.load_objects()) if o.label in labels]


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up, then half a cosine down to nothing."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    part = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return half_cosine(part, config.learning_rate)
