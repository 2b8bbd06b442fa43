"""The training loop of the detector: a few one-thread processes that share gradients."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..detector.decode import cell_grid, decode
from ..detector.top_boxes import TopBoxes
from ..errors import ModelError, SpecError
from ..network.detector import DetectorNetwork
from ..network.detector_losses import WANTED, detection_loss
from .backgrounds import check_images, find_images
from .checkpoint import load_checkpoint, save_checkpoint
from .config import plain
from .detector_config import DetectorConfig
from .detector_feed import load_scene_composer, load_scene_views, stack_scenes
from .exchange import Exchange
from .identity import IDENTITY, check_identity, identity_of
from .metrics import append_metrics, drop_metrics
from .processes import train_together
from .scenes import SceneComposer
from .schedule import half_cosine
from .view_bank import SharedViews

LOG_EVERY = 20
CLIP_NORM = 10.0
EMA_DECAY = 0.998
VALIDATION_SCENES = 96
VALIDATION_SEED = 1_000_003
VALIDATION_SCORE = 0.01


@dataclass(frozen=True, eq=False)
class DetectorJob:
    """What all training processes are told.

    :param views: of all classes, then of what only disturbs, in shared memory.
    :param weights: of EfficientNet-Lite0.
    :param deadline: of the last step on the monotonic clock [s], or None.
    """

    config: DetectorConfig
    views: list[SharedViews]
    weights: dict[str, Tensor]
    deadline: float | None


def build_detector(config: DetectorConfig, classes: int,
                   weights: dict[str, Tensor]) -> DetectorNetwork:
    """Return the network at its first step, the same for every process."""
    torch.manual_seed(config.seed)
    network = DetectorNetwork(spec=config.spec, objects=classes)
    network.backbone.load_imagenet(weights)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def train_detector(config: DetectorConfig, weights: dict[str, Tensor],
                   stop_after: int | None = None) -> Path:
    """Train to the end of the schedule, going on from the last checkpoint when there is one.

    :param weights: ImageNet weights of EfficientNet-Lite0.
    :param stop_after: stop at this step instead, leaving a checkpoint.
    :return: the last checkpoint.
    :raises SpecError: when ``stop_after`` is not positive, or ``minutes`` are over before the
        first step.
    :raises DatasetError: when there are no backgrounds, or they cannot be read.
    :raises ModelError: when the last checkpoint is damaged or of another run.
    """
    if stop_after is not None and stop_after < 1:
        raise SpecError(f'stop_after must be positive, got {stop_after}')
    deadline = None if config.minutes is None else time.monotonic() + 60.0 * config.minutes
    check_images(find_images(config.backgrounds))  # before views are rendered for minutes
    objects = config.load_objects()
    last = config.output / 'checkpoint.pt'
    if last.exists():
        check_identity(last, load_checkpoint(last, config.spec),
                       identity_of(objects, config.view_prior, config.seed))
    config.output.mkdir(parents=True, exist_ok=True)
    job = DetectorJob(config, load_scene_views(config, objects), weights, deadline)
    network = build_detector(config, len(objects), weights)
    train_together(partial(_run, job, stop_after), network, config.processes)
    return last


def _run(job: DetectorJob, stop_after: int | None, exchange: Exchange) -> None:
    DetectorRun(job, exchange).go(stop_after)


class DetectorRun:
    """The state of one training process."""

    def __init__(self, job: DetectorJob, exchange: Exchange) -> None:
        """Prepare optimiser and averages, or restore them from the last checkpoint."""
        config = job.config
        self.config, self.exchange, self.deadline = config, exchange, job.deadline
        objects = config.load_objects()
        self.labels = [o.label for o in objects]
        self.composer = load_scene_composer(config, len(objects), job.views)
        self.network = build_detector(config, len(objects), job.weights)
        self.cells = torch.from_numpy(cell_grid(config.size_px, config.size_px))
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = _optimizer(self.network, config)
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.step, self.samples, self.seconds = 0, 0, 0.0
        self.started, self.spent = time.monotonic(), 0.0
        if job.deadline is not None and job.deadline <= self.started:
            raise SpecError(f'the {config.minutes} minutes are over before the first step: views '
                            'had to be drawn; they are kept, so try again')
        self.identity = identity_of(objects, config.view_prior, config.seed)
        self.path = config.output / 'checkpoint.pt'
        if self.path.exists():
            self._restore(load_checkpoint(self.path, config.spec))

    def go(self, stop_after: int | None) -> None:
        """Run the rest of the schedule."""
        end = min(self.config.steps, stop_after or self.config.steps)
        self.network.train()
        sums: dict[str, float] = {}
        since, counted = time.monotonic(), 0
        while self.step < end and self.spent < 1:
            for key, value in self._one_step().items():
                sums[key] = sums.get(key, 0.0) + value
            self.step, counted = self.step + 1, counted + 1
            at_once = self.config.batch_size * self.exchange.world
            self.samples += at_once
            if self.step % LOG_EVERY == 0:
                now = time.monotonic()
                self.seconds += now - since
                self._log({'rate': counted * at_once / (now - since),
                           **{k: v / counted for k, v in sums.items()}})
                sums, since, counted = {}, now, 0
            over = self.step >= end or self.spent >= 1
            if self.step % self.config.validation == 0 or over:
                self._validate()
            if self.step % self.config.checkpoint == 0 or over:
                self._save()

    def _one_step(self) -> dict[str, float]:
        config, rank = self.config, self.exchange.rank
        first = self.samples + rank * config.batch_size
        batch = stack_scenes([self.composer.scene(config.seed, first + i)
                              for i in range(config.batch_size)])
        with torch.autocast('cpu', torch.bfloat16):
            logits, distances = self.network(batch.image)
        parts = detection_loss(logits.float(), distances.float(), self.cells, batch.targets)
        self.optimizer.zero_grad(set_to_none=False)
        parts['loss'].backward()
        self._share([p.grad for p in self.trained if p.grad is not None])
        torch.nn.utils.clip_grad_norm_(self.trained, CLIP_NORM)
        for group in self.optimizer.param_groups:
            group['lr'] = group['part'] * self._rate()
        self.optimizer.step()
        if rank == 0:
            self._update_average()
        return {k: float(v.detach()) for k, v in parts.items()}

    def _rate(self) -> float:
        config = self.config
        if self.step < config.warmup:
            return config.learning_rate * (self.step + 1) / config.warmup
        part = (self.step - config.warmup) / max(config.steps - config.warmup, 1)
        return half_cosine(max(part, self.spent), config.learning_rate)

    def _share(self, gradients: list[Tensor]) -> None:
        """Average gradients, and the part of the time that is spent: clocks read differently."""
        if self.deadline is None:
            self.exchange.average(gradients)
            return
        left = max(self.deadline - self.started, 1e-9)
        spent = torch.tensor([(time.monotonic() - self.started) / left])
        self.exchange.average([*gradients, spent])
        self.spent = float(spent)

    def _update_average(self) -> None:
        decay = min(EMA_DECAY, (1 + self.step) / (20 + self.step))
        for key, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - decay)

    def _validate(self) -> None:
        """Measure the averaged weights on scenes that training never draws."""
        if self.exchange.rank == 0:
            kept = {k: v.clone() for k, v in self.network.state_dict().items()}
            self.network.load_state_dict(self.average)
            self.network.eval()
            recalls = measure_scenes(self.network, self.composer, self.labels)
            self._log({f'recall_{k}': v for k, v in recalls.items()})
            self.network.load_state_dict(kept)
            self.network.train()
        self.exchange.wait()

    def _log(self, values: dict[str, float]) -> None:
        if self.exchange.rank == 0:
            append_metrics(self.config.output, {
                'step': self.step, 'samples': self.samples,
                'hours': round(self.seconds / 3600, 4), **values})

    def _save(self) -> None:
        self.exchange.average([b for b in self.network.buffers() if b.is_floating_point()])
        if self.exchange.rank == 0:
            save_checkpoint(self.path, {
                'step': self.step, 'samples': self.samples, 'seconds': self.seconds,
                'network': self.network.state_dict(), 'average': self.average,
                'optimizer': self.optimizer.state_dict(), 'config': plain(self.config),
                IDENTITY: self.identity}, self.config.spec)
        self.exchange.wait()

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            self.network.load_state_dict(state['network'])
            self.optimizer.load_state_dict(state['optimizer'])
        except (RuntimeError, ValueError) as error:
            raise ModelError(self.path, f'does not fit the objects of this run ({error})',
                             'train in another output folder, or remove it') from error
        for name, value in self.average.items():
            value.copy_(state['average'][name])
        self.step, self.samples = int(state['step']), int(state['samples'])
        self.seconds = float(state['seconds'])
        if self.exchange.rank == 0:
            drop_metrics(self.config.output, self.step)


def _optimizer(network: DetectorNetwork, config: DetectorConfig) -> torch.optim.AdamW:
    """Return AdamW: slower for what starts from ImageNet, decay only for what multiplies."""
    groups: list[dict[str, Any]] = []
    for pretrained in (True, False):
        for decayed in (True, False):
            own = [p for name, p in network.named_parameters() if p.requires_grad
                   and name.startswith('backbone.') == pretrained and (p.ndim > 1) == decayed]
            if own:
                groups.append({'params': own, 'part': config.backbone_rate if pretrained else 1.0,
                               'weight_decay': config.weight_decay if decayed else 0.0})
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)


def measure_scenes(network: DetectorNetwork, composer: SceneComposer,
                   labels: Sequence[str], count: int = VALIDATION_SCENES) -> dict[str, float]:
    """Return the part of the objects whose best box fits, of each and of all.

    :param network: in evaluation mode.
    :param labels: of the classes.
    """
    cells = cell_grid(composer.size_px, composer.size_px)
    top = TopBoxes(len(labels))
    for index in range(count):
        scene = composer.scene(VALIDATION_SEED, index)
        with torch.no_grad():
            logits, distances = network(stack_scenes([scene]).image)
        found = decode(logits[0].numpy(), distances[0].numpy(), cells, VALIDATION_SCORE)
        wanted = scene.kind == WANTED
        top.add(scene.class_index[wanted], scene.boxes[wanted], found)
    return top.recalls(labels)
