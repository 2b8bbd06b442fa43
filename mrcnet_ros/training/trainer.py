"""The trainings for poses: of both stages, and of the refiner."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import SpecError
from ..network.mrcnet import RefinerNetwork
from ..objects import ObjectModel
from ..specs import ModelSpec
from .composed_run import ComposedRun, Job, check_start, deadline_of
from .config import PoseConfig
from .drawing_ahead import draw_ahead
from .feed import Compositions, batches
from .gradient_exchange import Exchange, train_together
from .identity import check_known, identity_of
from .loop import CHECKPOINT, alone_in, decay_groups
from .seeds import TEMPLATE_CHOICE, VALIDATION_SEED
from .step import StepResult, refiner_step, train_step
from .targets import Batch, stack_samples
from .template_bank import TemplateBank
from .training_data import load_material, load_templates, load_views, target_classes
from .training_start import build_network, check_device, known_classes, start_of
from .warm_start import clear_gradients, freeze_norms

LOG_EVERY = 50  # steps between two lines of the log
EMA_DECAY = 0.999  # the exported weights are about the mean of the last 1000 steps
# More give steadier figures and take longer.
VALIDATION_SAMPLES = 512


def train(config: PoseConfig, stem: dict[str, Tensor], stop_after: int | None = None) -> Path:
    """Train to the end of the schedule, going on from the last checkpoint when there is one.

    :param stem: ImageNet weights for the frozen layers.
    :param stop_after: stop at this step instead, leaving a checkpoint, as a kill would.
    :return: the last checkpoint.
    :raises SpecError: when ``stop_after`` is no multiple of ``refresh``: a run that goes on from
        there would see other template features than one that was not stopped; or when the
        configuration leaves no object to train, or names a GPU that is not there, or distances
        from which images cut an object off, or its ``minutes`` are over before the first step; or
        when another training works in the output.
    :raises DatasetError: when there are no backgrounds, or they cannot be read.
    :raises ModelError: when the last checkpoint is damaged, or of another model, other objects,
        another view prior or seed; or when ``freeze_shared`` must keep the answers for an object
        that ``init`` knows with another mesh, size or view prior.
    """
    if stop_after is not None and (stop_after < 1 or stop_after % config.refresh):
        raise SpecError(f'stop_after must be a positive multiple of refresh ({config.refresh}), '
                        f'got {stop_after}')
    deadline = deadline_of(config)
    objects = checked_objects(config)
    spent = check_start(config, objects)
    network = build_network(config, objects, stem)  # before views take minutes
    with alone_in(config.output):
        draw_ahead(config, objects, max(config.composers, config.processes))
        job = Job(config, load_views(config, objects), stem, deadline, spent)
        bank = load_templates(config, objects)
        train_together(partial(_run, job, bank, stop_after), network, config.processes)
    return config.output / CHECKPOINT


def checked_objects(config: PoseConfig) -> list[ObjectModel]:
    """Return the objects in class order, if a training can start; renders nothing.

    :raises SpecError: when there is no object to train, or no such GPU.
    :raises ModelError: when ``init`` cannot be read, or ``freeze_shared`` must keep the answers
        for an object that it knows otherwise.
    """
    check_device(config)
    objects = config.load_objects()
    target_classes(config, objects, known_classes(config))
    if config.init is not None:
        start = start_of(config.init, config.spec)
        if config.freeze_shared and config.init_knows:
            check_known(config.init, start.objects,
                        identity_of(objects, config.view_prior, config.seed),
                        'with freeze_shared the objects it knows must stay as they are')
    return objects


def _run(job: Job[PoseConfig], bank: TemplateBank, stop_after: int | None,
         exchange: Exchange) -> None:
    TrainingRun(job, bank, exchange).go(stop_after)


class TrainingRun(ComposedRun[PoseConfig, Batch]):
    """One process of a training for poses.

    :param bank: of templates, in shared memory.
    """

    def __init__(self, job: Job[PoseConfig], bank: TemplateBank, exchange: Exchange) -> None:
        config, self.device = job.config, torch.device(job.config.device)
        objects, self.known = config.load_objects(), known_classes(config)
        material = load_material(config, objects, job.views, self.known)
        # a second name, because the type of the loop's network is nn.Module
        self.net = build_network(config, objects, job.stem).to(self.device)
        super().__init__(
            job, exchange, self.net, decay_groups(
                self.net.named_parameters(), 0.0 if config.freeze_shared else config.weight_decay),
            log_every=LOG_EVERY, decay=EMA_DECAY)
        self.bank, self.composer = bank.to(self.device), material.composer
        self.shapes, self.grid = material.shapes.to(self.device), material.grid.to(self.device)
        self.compositions = Compositions(config, job.views, self.known, material.composer)
        self.restore()

    def feed(self, numbers: Iterator[range]) -> Iterator[Batch]:
        return batches(self.compositions, numbers, self.device)

    def train_mode(self) -> None:
        """Set all layers that are not frozen to training mode."""
        self.network.train()
        if self.config.freeze_shared:
            freeze_norms(self.net)

    def before_step(self, first: bool) -> None:
        """Recompute the features of all templates every ``refresh`` steps."""
        if first or self.step % self.config.refresh == 0:
            self.average_buffers()
            self._refresh()

    def _refresh(self) -> None:
        self.bank.refresh(self.net, self.exchange.rank, self.exchange.world)
        self.exchange.wait()

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and its parts."""
        first = self.samples + self.exchange.rank * self.config.batch_size
        result = self._result(batch, [self.config.seed, TEMPLATE_CHOICE, first])
        return result.loss, {'loss': float(result.loss.detach()), **result.parts}

    def _result(self, batch: Batch, seed: list[int]) -> StepResult:
        network, spec = self.net, self.config.spec
        if isinstance(network, RefinerNetwork):
            return refiner_step(network, batch, self.bank, self.shapes, self.grid)
        assert isinstance(spec, ModelSpec)
        return train_step(network, batch, self.bank, self.shapes, self.grid, spec,
                          np.random.default_rng(seed))

    def share_gradients(self) -> None:
        clear_gradients(self.net, self.known)
        super().share_gradients()

    def validate(self) -> None:
        """Measure the averaged weights, then recompute the features with the current ones."""
        super().validate()
        self._refresh()

    def measure(self) -> dict[str, float]:
        """Return the parts of the loss on images that training never draws."""
        self.bank.refresh(self.net)
        sums: dict[str, list[float]] = {}
        size = self.config.batch_size
        for first in range(0, VALIDATION_SAMPLES, size):
            batch = stack_samples([self.composer.sample(VALIDATION_SEED, first + i)
                                   for i in range(size)]).ready(self.device)
            for key, value in self._result(batch, [first, TEMPLATE_CHOICE]).parts.items():
                sums.setdefault(key, []).append(value)
        return {f'validation_{k}': float(np.mean(v)) for k, v in sums.items()}
