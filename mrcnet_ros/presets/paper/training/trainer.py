"""The training of the paper preset: one process for each GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ....cpus import usable_cpus
from ....errors import MrcnetError, SpecError
from ....rendering.background_files import PHOTO_SUFFIXES, check_images, find_images
from ....training.feed import made_ahead
from ....training.identity import identity_of
from ....training.loop import TrainingLoop, alone_in, decay_groups, half_cosine
from ..network.losses import PaperLosses
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
    :raises SpecError: when ``stop_after`` or the precision cannot be used here, or another
        training works in the output.
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
        with nullcontext() if ranks.rank else alone_in(config.output):
            run = PaperRun(config, ranks)
            run.go(stop_after)
    return run.path


class PaperRun(TrainingLoop[PaperTrainConfig, PaperBatch]):
    """One process of a training of the paper preset."""

    def __init__(self, config: PaperTrainConfig, ranks: Ranks) -> None:
        objects, self.device = config.load_objects(), ranks.device
        self.dataset = load_samples(config)
        per_epoch = len(self.dataset.index) // (config.batch_size * ranks.world)
        self.net = starting_network(config.spec, len(objects), config.imagenet, config.seed)
        self.net.to(ranks.device)
        super().__init__(
            config, ranks, self.net, steps=config.steps or max(1, config.epochs * per_epoch),
            log_every=config.log, identity=identity_of(objects, None, config.seed),
            optimizer=torch.optim.AdamW(
                decay_groups(self.net.named_parameters(), config.weight_decay, is_plain),
                lr=config.final_rate, fused=True))
        self.scaler = torch.amp.GradScaler(ranks.device.type,
                                           enabled=config.precision == 'float16')
        self.sums = torch.zeros(len(PaperLosses._fields), device=ranks.device)
        self.restore()
        shapes = PaperShapes.build(objects, config.label_vertices, ranks.device)
        self.artist = TemplateArtist(objects, config.spec)
        self.forward: nn.Module = PaperStep(self.net, config.spec, shapes, self.artist,
                                            getattr(torch, config.precision)).to(ranks.device)
        if ranks.world > 1:
            self.forward = DistributedDataParallel(self.forward, broadcast_buffers=False,
                                                   gradient_as_bucket_view=True)

    def feed(self, numbers: Iterator[range]) -> Iterator[PaperBatch]:
        """Return samples of the dataset, made ahead by ``workers``."""
        pin = self.device.type == 'cuda'
        for batch in made_ahead(self.dataset, numbers, stack, self.config.workers, pin=pin):
            yield batch.to(self.device)

    def one_step(self, batch: PaperBatch) -> None:
        for group in self.optimizer.param_groups:
            group['lr'] = paper_rate(self.config, self.steps, self.step)
        losses = self.forward(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.sum()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.sums += losses.detach()

    def means(self) -> dict[str, float]:
        """Return the means of the seven losses over all processes, and reset them."""
        means = self.sums / self.counted
        self.group.average([means])
        self.sums = torch.zeros_like(self.sums)
        values = means.tolist()
        return {'loss': sum(values), **dict(zip(PaperLosses._fields, values, strict=True))}

    def own_state(self) -> dict[str, Any]:
        """Return the scale of gradients, and the sums for the next line of metrics.

        :raises MrcnetError: when the weights are not finite any more.
        """
        if not all(bool(torch.isfinite(p).all()) for p in self.net.parameters()):
            raise MrcnetError(
                f'step {self.step}: the weights are not finite any more; {self.path} is kept as '
                'it was: go on from it with a lower learning_rate or in float32')
        self.group.average([self.sums])
        return {'scaler': self.scaler.state_dict(), 'sums': self.sums, 'counted': self.counted}

    def restore_own(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state['scaler'])
        self.sums.copy_(state['sums'])
        self.counted = int(state['counted'])


def load_samples(config: PaperTrainConfig) -> PaperSamples:
    """Read the annotations of a configuration's dataset, but no pixels.

    :raises DatasetError: when dataset or backgrounds cannot be used.
    """
    index = read_index(config.dataset, config.splits, [o.object_id for o in config.load_objects()])
    found = find_images(config.backgrounds) if config.backgrounds else []
    photos = [path for path in found if path.suffix.lower() in PHOTO_SUFFIXES]
    check_images(photos)
    return PaperSamples(index, config.spec, photos, config.seed)


def is_plain(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether a parameter has no weight decay: biases and norms."""
    return name.endswith('bias') or parameter.ndim == 1


def paper_rate(config: PaperTrainConfig, steps: int, step: int) -> float:
    """Return the learning rate of a step: linear from the lowest, then half a cosine back."""
    low, high = config.final_rate, config.learning_rate
    if step < config.warmup:
        return low + (high - low) * step / config.warmup
    return half_cosine((step - config.warmup) / max(steps - config.warmup, 1), high, low)
