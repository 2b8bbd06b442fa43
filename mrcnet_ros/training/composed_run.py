"""What the trainings on composed images share: averaged weights, the time limit, one step.

A few processes of one thread each share gradients. On a CPU they train about twice as fast as one
process of many threads.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..errors import SpecError
from ..objects import ObjectModel
from .backgrounds import check_images, find_images
from .gradient_exchange import Exchange
from .identity import identity_of
from .loop import BatchT, TrainingLoop, half_cosine, last_checkpoint, learning_rate
from .scene_config import SceneConfig
from .view_bank import SharedViews, check_nearest

# cuts the few gradients that a strange image makes ten times as large as usual
CLIP_NORM = 10.0
SceneConfigT = TypeVar('SceneConfigT', bound=SceneConfig)


@dataclass(frozen=True, eq=False)
class Job(Generic[SceneConfigT]):
    """What every training process gets.

    :param views: of all classes, then of what only disturbs, in shared memory.
    :param stem: ImageNet weights for the first layers.
    :param deadline: of the last step on the monotonic clock [s], or None.
    :param spent: part of the time that earlier starts have spent, 0 to 1.
    """

    config: SceneConfigT
    views: list[SharedViews]
    stem: dict[str, Tensor]
    deadline: float | None
    spent: float = 0.0


def deadline_of(config: SceneConfig) -> float | None:
    """Return when the last step of a training that starts now must end, on the monotonic clock."""
    return None if config.minutes is None else time.monotonic() + 60.0 * config.minutes


def check_start(config: SceneConfig, objects: list[ObjectModel]) -> float:
    """Check what a training needs before views are rendered for minutes.

    :return: the part of the time that earlier starts have spent, 0 to 1.
    :raises SpecError: when ``distance_m`` begins nearer than the diameter of an object.
    :raises DatasetError: when there are no backgrounds, or they cannot be read.
    :raises ModelError: when the last checkpoint is damaged or of another run.
    """
    check_nearest(config.distance_m[0], {o.label: o.diameter_m for o in objects})
    check_images(find_images(config.backgrounds))
    state = last_checkpoint(config, _identity(config, objects))
    if state is None or not config.shared_minutes or config.minutes is None:
        return 0.0
    before = state.get('config', {}).get('minutes') or config.minutes  # may differ from today's
    return min(float(state.get('spent', 0.0)) * before / config.minutes, 1.0)


def _identity(config: SceneConfig, objects: list[ObjectModel]) -> dict[str, Any]:
    return identity_of(objects, config.view_prior, config.seed, config.frozen, config.series)


class ComposedRun(TrainingLoop[SceneConfigT, BatchT]):
    """One process of a training on composed images.

    :param network: at its first step, on its device.
    :param groups: of the optimiser; ``part`` of a group is its part of the learning rate, 1 where
        there is none.
    :param decay: share of the averaged weights that stays after each step.
    """

    def __init__(self, job: Job[SceneConfigT], exchange: Exchange, network: nn.Module,
                 groups: list[dict[str, Any]], *, log_every: int, decay: float) -> None:
        """Prepare optimiser, averages and clock.

        :raises SpecError: when the time is over before the first step.
        """
        config, self.exchange, self.decay = job.config, exchange, decay
        super().__init__(
            config, exchange, network, steps=config.steps, log_every=log_every,
            optimizer=torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True),
            identity=_identity(config, config.load_objects()))
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.sums: dict[str, float] = {}
        self.started, self.deadline = time.monotonic(), job.deadline
        self.spent = self.spent_before = job.spent
        if config.shared_minutes and config.minutes is not None:  # rendering does not count
            self.deadline = self.started + 60.0 * config.minutes * (1 - job.spent)
        elif job.deadline is not None and job.deadline <= self.started:
            raise SpecError(f'the {config.minutes} minutes were over before the first step, '
                            'because views and templates were rendered; they are kept, so run the '
                            'command again')

    @abstractmethod
    def losses(self, batch: BatchT) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch, a scalar with gradient, and its parts for the metrics."""

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Validate the network, which has the averaged weights, and return the figures."""

    def one_step(self, batch: BatchT) -> None:
        loss, parts = self.losses(batch)
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        self.share_gradients()
        torch.nn.utils.clip_grad_norm_(self.trained, CLIP_NORM)
        rate = min(learning_rate(self.config, self.step),
                   half_cosine(self.spent, self.config.learning_rate))
        for group in self.optimizer.param_groups:
            group['lr'] = group.get('part', 1.0) * rate
        self.optimizer.step()
        if self.exchange.rank == 0:
            self._update_average()
        for key, value in parts.items():
            self.sums[key] = self.sums.get(key, 0.0) + value

    def share_gradients(self) -> None:
        """Average the gradients and the spent part of the time, which differs by process."""
        gradients = [p.grad for p in self.trained if p.grad is not None]
        if self.deadline is None:
            self.exchange.average(gradients)
            return
        left = max(self.deadline - self.started, 1e-9)
        here = torch.tensor([(time.monotonic() - self.started) / left])
        self.exchange.average([*gradients, here])
        self.spent = self.spent_before + (1 - self.spent_before) * float(here)

    def _update_average(self) -> None:
        decay = min(self.decay, (1 + self.step) / (20 + self.step))
        for key, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - decay)

    def means(self) -> dict[str, float]:
        """Return the mean parts of the loss, and reset them."""
        means = {key: value / self.counted for key, value in self.sums.items()}
        self.sums = {}
        return means

    def validates(self, over: bool) -> bool:
        return self.step % self.config.validation == 0

    def validate(self) -> None:
        """Measure the averaged weights on images that training never draws."""
        self.exchange.wait()
        if self.exchange.rank == 0:
            kept = {k: v.clone() for k, v in self.network.state_dict().items()}
            self.network.load_state_dict(self.average)
            self.network.eval()
            with torch.no_grad():
                self.log(self.measure())
            self.network.load_state_dict(kept)
            self.train_mode()
        self.exchange.wait()

    def average_buffers(self) -> None:
        """Average the batch statistics over all processes."""
        self.exchange.average([b for b in self.network.buffers() if b.is_floating_point()])

    def own_state(self) -> dict[str, Any]:
        """Return the averaged weights and the time that is spent."""
        self.average_buffers()
        return {'average': self.average, 'spent': min(self.spent, 1.0)}

    def restore_own(self, state: dict[str, Any]) -> None:
        """Restore the averaged weights."""
        for name, value in self.average.items():
            value.copy_(state['average'][name])
