"""The training loop: a few one-thread processes that share gradients, or one on a GPU.

On a CPU, processes of one thread each train about twice as fast as one process of many threads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError, SpecError
from ..network.mrcnet import MrcNet
from .backgrounds import check_images, find_images
from .checkpoint import load_checkpoint, save_checkpoint
from .config import TrainConfig, plain
from .exchange import Exchange
from .feed import Compositions, batches
from .identity import IDENTITY, check_identity, check_known, identity_of
from .job import Job, build_network, check_device, known_classes
from .material import Material, load_material, load_templates, load_views, target_classes
from .metrics import append_metrics, drop_metrics
from .preparation import draw_ahead
from .processes import train_together
from .schedule import half_cosine
from .step import train_step
from .targets import Batch, stack_samples
from .warm_start import clear_gradients, freeze_norms, read_start

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
        configuration leaves no object to train, or names a GPU that is not there, or its
        ``minutes`` are over before the first step.
    :raises DatasetError: when there are no backgrounds, or they cannot be read.
    :raises ModelError: when the last checkpoint is damaged, or of another model, other objects,
        another view prior or seed; or when ``init`` knows an object otherwise than the
        configuration, whose answers must stay.
    """
    if stop_after is not None and (stop_after < 1 or stop_after % config.refresh):
        raise SpecError(f'stop_after must be a positive multiple of refresh ({config.refresh}), '
                        f'got {stop_after}')
    deadline = None if config.minutes is None else time.monotonic() + 60.0 * config.minutes
    check_device(config)
    check_images(find_images(config.backgrounds))  # before views are rendered for minutes
    objects = config.load_objects()
    target_classes(config, objects, known_classes(config))
    identity = identity_of(objects, config.view_prior, config.seed)
    if config.freeze_shared and config.init is not None and config.init_knows:
        check_known(config.init, read_start(config.init, config.spec).objects, identity)
    last, spent = config.output / 'checkpoint.pt', 0.0
    if last.exists():
        state = load_checkpoint(last, config.spec)
        check_identity(last, state, identity)
        if config.shared_minutes:
            spent = float(state.get('spent', 0.0))
    config.output.mkdir(parents=True, exist_ok=True)
    draw_ahead(config, objects, config.composers)
    views = load_views(config, objects)
    bank = load_templates(config, objects)
    network = build_network(config, objects, stem)
    job = Job(config, views, bank, stem, deadline, spent)
    train_together(partial(_run, job, stop_after), network, config.processes)
    return last


def _run(job: Job, stop_after: int | None, exchange: Exchange) -> None:
    objects = job.config.load_objects()
    material = load_material(job.config, objects, job.views, known_classes(job.config))
    network = build_network(job.config, objects, job.stem)
    TrainingRun(job, material, network, exchange).go(stop_after)


class TrainingRun:
    """The state of one training process."""

    def __init__(self, job: Job, material: Material, network: MrcNet,
                 exchange: Exchange) -> None:
        """Prepare optimiser and averages, or restore them from the last checkpoint."""
        config = job.config
        self.config, self.exchange, self.deadline = config, exchange, job.deadline
        self.device = torch.device(config.device)
        self.network, self.bank = network.to(self.device), job.bank.to(self.device)
        self.composer = material.composer
        self.shapes, self.grid = material.shapes.to(self.device), material.grid.to(self.device)
        self.trained = [p for p in network.parameters() if p.requires_grad]
        self.known = known_classes(config)
        self.compositions = Compositions(config, job.views, self.known, material.composer)
        decayed = [p for p in self.trained if p.ndim > 1]
        plain = [p for p in self.trained if p.ndim <= 1]
        decay = 0.0 if config.freeze_shared else config.weight_decay
        self.optimizer = torch.optim.AdamW([
            {'params': decayed, 'weight_decay': decay},
            {'params': plain, 'weight_decay': 0.0}], betas=(0.9, 0.98), fused=True)
        self.average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self.step, self.samples, self.seconds = 0, 0, 0.0
        self.started, self.spent, self.spent_before = time.monotonic(), job.spent, job.spent
        if config.shared_minutes and config.minutes is not None:  # rendering does not count
            self.deadline = self.started + 60.0 * config.minutes * (1 - job.spent)
        elif job.deadline is not None and job.deadline <= self.started:
            raise SpecError(f'the {config.minutes} minutes are over before the first step: views '
                            'and templates had to be drawn; they are kept, so try again')
        self.identity = identity_of(config.load_objects(), config.view_prior, config.seed)
        self.path = config.output / 'checkpoint.pt'
        if self.path.exists():
            self._restore(load_checkpoint(self.path, config.spec))

    def go(self, stop_after: int | None) -> None:
        """Run the rest of the schedule."""
        end = min(self.config.steps, stop_after or self.config.steps)
        self._train_mode()
        sums: dict[str, float] = {}
        feed = batches(self.compositions, self._numbers(end), self.device)
        since, counted = time.monotonic(), 0
        first = self.step
        while self.step < end and self.spent < 1:
            if self.step == first or self.step % self.config.refresh == 0:
                self._refresh()
            parts = self._one_step(next(feed))
            self.step, counted = self.step + 1, counted + 1
            self.samples += self._at_once
            for key, value in parts.items():
                sums[key] = sums.get(key, 0.0) + value
            if self.step % LOG_EVERY == 0:
                now = time.monotonic()
                self.seconds += now - since
                means = {k: v / counted for k, v in sums.items()}
                self._log({'rate': counted * self._at_once / (now - since), **means})
                sums, since, counted = {}, now, 0
            over = self.step == end or self.spent >= 1
            if self.step % self.config.validation == 0:
                self._validate()
            if self.step % self.config.checkpoint == 0 or over:
                self._save()

    @property
    def _at_once(self) -> int:
        """Return the number of samples of a step, of all processes."""
        return self.config.batch_size * self.exchange.world

    def _numbers(self, end: int) -> Iterator[range]:
        """Return the numbers of this process's samples in each step to come."""
        size = self.config.batch_size
        first = self.samples + self.exchange.rank * size
        for number in range(end - self.step):
            yield range(first + number * self._at_once, first + number * self._at_once + size)

    def _train_mode(self) -> None:
        self.network.train()
        if self.config.freeze_shared:
            freeze_norms(self.network)

    def _one_step(self, batch: Batch) -> dict[str, float]:
        config, rank = self.config, self.exchange.rank
        first = self.samples + rank * config.batch_size
        rng = np.random.default_rng([config.seed, TEMPLATE_CHOICE, first])
        result = train_step(self.network, batch, self.bank, self.shapes, self.grid, config.spec,
                            rng)
        self.optimizer.zero_grad(set_to_none=False)
        result.loss.backward()
        clear_gradients(self.network, self.known)
        self._share([p.grad for p in self.trained if p.grad is not None])
        torch.nn.utils.clip_grad_norm_(self.trained, CLIP_NORM)
        for group in self.optimizer.param_groups:
            group['lr'] = min(learning_rate(config, self.step),
                              half_cosine(self.spent, config.learning_rate))
        self.optimizer.step()
        if rank == 0:
            self._update_average()
        return {'loss': float(result.loss.detach()), **result.parts}

    def _share(self, gradients: list[Tensor]) -> None:
        """Average gradients, and the part of the time that is spent: clocks read differently."""
        if self.deadline is None:
            self.exchange.average(gradients)
            return
        left = max(self.deadline - self.started, 1e-9)
        here = torch.tensor([(time.monotonic() - self.started) / left])
        self.exchange.average([*gradients, here])
        self.spent = self.spent_before + (1 - self.spent_before) * float(here)

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
                batch = stack_samples([self.composer.sample(VALIDATION_SEED, first + i)
                                       for i in range(self.config.batch_size)])
                with torch.no_grad():
                    parts = train_step(
                        self.network, batch.ready(self.device), self.bank, self.shapes, self.grid,
                        self.config.spec, np.random.default_rng([first, TEMPLATE_CHOICE])).parts
                for key, value in parts.items():
                    sums.setdefault(key, []).append(value)
            self._log({f'validation_{k}': float(np.mean(v)) for k, v in sums.items()})
            self.network.load_state_dict(kept)
            self._train_mode()
        self.exchange.wait()
        self.bank.refresh(self.network, self.exchange.rank, self.exchange.world)
        self.exchange.wait()

    def _log(self, values: dict[str, float]) -> None:
        if self.exchange.rank:
            return
        append_metrics(self.config.output, {
            'step': self.step, 'samples': self.samples,
            'hours': round(self.seconds / 3600, 4), **values})

    def _save(self) -> None:
        self.exchange.average([b for b in self.network.buffers() if b.is_floating_point()])
        if self.exchange.rank == 0:
            save_checkpoint(self.path, {
                'step': self.step, 'samples': self.samples, 'seconds': self.seconds,
                'spent': min(self.spent, 1.0), 'network': self.network.state_dict(),
                'average': self.average, 'optimizer': self.optimizer.state_dict(),
                'config': plain(self.config), IDENTITY: self.identity,
            }, self.config.spec)
        self.exchange.wait()

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            self.network.load_state_dict(state['network'])
            if 'optimizer' in state:  # a checkpoint in pieces may have been cut down
                self.optimizer.load_state_dict(state['optimizer'])
        except (RuntimeError, ValueError) as error:
            raise ModelError(self.path, f'does not fit the objects of this run ({error})',
                             'train in another output folder, or remove it') from error
        for name, value in self.average.items():
            value.copy_(state['average'][name])
        self.step, self.seconds = int(state['step']), float(state['seconds'])
        # older checkpoints count steps alone
        self.samples = int(state.get('samples', self.step * self._at_once))
        if self.exchange.rank == 0:
            drop_metrics(self.config.output, self.step)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up, then half a cosine down to nothing."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    part = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return half_cosine(part, config.learning_rate)
