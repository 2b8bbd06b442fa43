"""The loop of every training: steps, learning rate, metrics, checkpoints and resuming."""

from __future__ import annotations

import json
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from torch import Tensor, nn, optim

from ..errors import ModelError, SpecError
from ..store.atomic import write_atomically, writing
from ..store.lock import try_lock
from .checkpoint import load_checkpoint, save_checkpoint
from .identity import IDENTITY, check_identity
from .run_config import ConfigT, RunConfig

if TYPE_CHECKING:
    from .scene_config import SceneConfig

CHECKPOINT = 'checkpoint.pt'
BatchT = TypeVar('BatchT')
METRICS_FILE = 'metrics.jsonl'
LOCK_FILE = 'lock'
# of the optimiser's groups: may differ from those of the checkpoint that a training goes on from
OF_CONFIG = ('weight_decay', 'part')


def half_cosine(part: float, highest: float, lowest: float = 0.0) -> float:
    """Return the rate after a part of the way (0 to 1) from the highest to the lowest."""
    return lowest + (highest - lowest) * 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))


def learning_rate(config: SceneConfig, step: int) -> float:
    """Return the rate of a step: linear warm-up, then half a cosine down to nothing."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    part = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return half_cosine(part, config.learning_rate)


class Group(Protocol):
    """The processes that share each step.

    :param rank: of this process; 0 writes the files.
    """

    rank: int
    world: int

    def wait(self) -> None:
        """Wait for the others."""

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors by their mean over the processes."""


class TrainingLoop(ABC, Generic[ConfigT, BatchT]):
    """One process of a training.

    A subclass defines the batches, a step and what else a checkpoint holds. Its constructor ends
    with :meth:`restore`.

    :param group: the processes of the training.
    :param log_every: steps between lines of metrics.
    :param identity: :func:`~mrcnet_ros.training.identity.identity_of` the objects.
    """

    spent = 0.0  # part of the time limit, 0 to 1; stays 0 where there is none

    def __init__(self, config: ConfigT, group: Group, network: nn.Module, *,
                 optimizer: optim.Optimizer, steps: int, log_every: int,
                 identity: dict[str, Any]) -> None:
        self.config, self.group, self.network, self.optimizer = config, group, network, optimizer
        self.steps, self.log_every, self.identity = steps, log_every, identity
        self.step, self.samples, self.seconds = 0, 0, 0.0
        self.counted = 0  # steps since the last line of metrics
        self.path = config.output / CHECKPOINT

    @abstractmethod
    def feed(self, numbers: Iterator[range]) -> Iterator[BatchT]:
        """Return the batches of this process.

        :param numbers: of the samples of each.
        """

    @abstractmethod
    def one_step(self, batch: BatchT) -> None:
        """Train on a batch."""

    @abstractmethod
    def means(self) -> dict[str, float]:
        """Return the mean figures of the last ``counted`` steps, and reset them."""

    @abstractmethod
    def own_state(self) -> dict[str, Any]:
        """Return what a checkpoint holds besides step, network and optimiser.

        All processes call it together before each checkpoint.
        """

    @abstractmethod
    def restore_own(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`own_state` returned."""

    def train_mode(self) -> None:
        """Set the network to training mode."""
        self.network.train()

    def before_step(self, first: bool) -> None:
        """Prepare a step.

        :param first: whether it is the first one since the start of the process.
        """

    def validates(self, over: bool) -> bool:
        """Tell whether a validation is due.

        :param over: whether this was the last step.
        """
        return False

    def validate(self) -> None:
        """Measure the network."""

    @property
    def at_once(self) -> int:
        """Return the number of samples of a step, of all processes."""
        return self.config.batch_size * self.group.world

    def numbers(self, end: int) -> Iterator[range]:
        """Return the numbers of this process's samples in each step up to another."""
        size = self.config.batch_size
        first = self.samples + self.group.rank * size
        return (range(first + number * self.at_once, first + number * self.at_once + size)
                for number in range(end - self.step))

    def go(self, stop_after: int | None) -> None:
        """Run the rest of the schedule.

        :param stop_after: stop at this step instead, leaving a checkpoint.
        :raises MrcnetError: when a batch or a checkpoint cannot be made.
        """
        end = min(self.steps, stop_after or self.steps)
        if self.step >= end or self.spent >= 1:
            if self.group.rank == 0:
                logging.getLogger(__name__).info(
                    'nothing to train: %s is at step %d, %s', self.path, self.step,
                    'its minutes are spent; set minutes higher' if self.step < end else
                    f'steps is {end}; set steps higher' if end == self.steps else
                    f'the step to stop at is {end}; set a later one')
            return
        self.config.output.mkdir(parents=True, exist_ok=True)
        self.train_mode()
        feed, first = self.feed(self.numbers(end)), self.step
        timed = logged = time.monotonic()
        before = self.samples
        while self.step < end and self.spent < 1:
            self.before_step(self.step == first)
            self.one_step(next(feed))
            self.step, self.counted = self.step + 1, self.counted + 1
            self.samples += self.at_once
            over = self.step == end or self.spent >= 1
            saves = over or self.step % self.config.checkpoint == 0
            if self.step % self.log_every == 0 or saves:
                now = time.monotonic()
                self.seconds, timed = self.seconds + now - timed, now
            if self.step % self.log_every == 0:
                self.log({'rate': (self.samples - before) / (timed - logged), **self.means()})
                before, logged, self.counted = self.samples, timed, 0
            if self.validates(over):
                self.validate()
            if saves:
                self.save()

    def log(self, values: dict[str, float]) -> None:
        """Write a line of metrics, in the first process only."""
        if self.group.rank == 0:
            append_metrics(self.config.output, {
                'step': self.step, 'samples': self.samples,
                'hours': round(self.seconds / 3600, 4), **values})

    def save(self) -> None:
        """Write a checkpoint, in the first process only."""
        own = self.own_state()
        if self.group.rank == 0:
            save_checkpoint(self.path, {
                'step': self.step, 'samples': self.samples, 'seconds': self.seconds,
                'network': self.network.state_dict(), 'optimizer': self.optimizer.state_dict(),
                'config': self.config.plain(), IDENTITY: self.identity, **own}, self.config.spec)
        self.group.wait()

    def restore(self) -> None:
        """Continue from the last checkpoint if there is one.

        :raises ModelError: when it is damaged, or of another run.
        """
        state = last_checkpoint(self.config, self.identity)
        if state is None:
            return
        try:
            self.network.load_state_dict(state['network'])
            if 'optimizer' in state:  # a checkpoint in pieces may have been cut down
                built = [{k: group[k] for k in OF_CONFIG if k in group}
                         for group in self.optimizer.param_groups]
                self.optimizer.load_state_dict(state['optimizer'])
                for group, own in zip(self.optimizer.param_groups, built, strict=True):
                    group.update(own)
            self.restore_own(state)
            self.step, self.seconds = int(state['step']), float(state['seconds'])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ModelError(self.path, f'does not fit the objects of this run ({error})',
                             'train in another output folder, or remove it') from error
        # older checkpoints count steps alone
        self.samples = int(state.get('samples', self.step * self.at_once))
        if self.group.rank == 0:
            drop_metrics(self.config.output, self.step)


@contextmanager
def alone_in(output: Path) -> Iterator[None]:
    """Keep other trainings out of an output folder, which is made when needed.

    Two would overwrite each other's checkpoint. Child processes need no lock of their own.

    :raises SpecError: when another training works in it.
    :raises DatasetError: when it cannot be written.
    """
    path = output / LOCK_FILE
    with writing(path):
        file = path.open('w')
        locked = try_lock(file)
    with file:
        if not locked:
            raise SpecError(f'another training works in {output}; wait until it ends, or give '
                            'another output')
        yield


def last_checkpoint(config: RunConfig, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the checkpoint to continue from, None at the start of a training.

    :raises ModelError: when it is damaged, or of another run.
    """
    path = config.output / CHECKPOINT
    if not path.exists():
        return None
    state = load_checkpoint(path, config.spec)
    check_identity(path, state, identity)
    return state


def decay_groups(parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float,
                 plain: Callable[[str, nn.Parameter], bool] = lambda _, p: p.ndim <= 1,
                 ) -> list[dict[str, Any]]:
    """Return the optimiser's groups of trained parameters: with and without weight decay.

    :param parameters: by name.
    :param plain: tells whether a parameter has no weight decay; by default biases and norms.
    """
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in parameters:
        if parameter.requires_grad:
            groups[plain(name, parameter)].append(parameter)
    return [{'params': group, 'weight_decay': decay}
            for group, decay in zip(groups, (weight_decay, 0.0), strict=True)]


def append_metrics(folder: Path, values: Mapping[str, float]) -> None:
    """Write values, rounded, to the metrics file of a run and to the log.

    :raises DatasetError: when the file cannot be written.
    """
    text = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()})
    path = folder / METRICS_FILE
    with writing(path), path.open('a') as file:
        file.write(text + '\n')
    logging.getLogger(__name__).info(text)


def drop_metrics(folder: Path, step: int) -> None:
    """Drop the lines after the step at which a run continues; it writes them again."""
    path = folder / METRICS_FILE
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            late = json.loads(line)['step'] > step
        except ValueError:  # the run was killed while it wrote
            continue
        if not late:
            kept.append(line)
    write_atomically(path, ''.join(kept).encode())
