"""The batches of a training process, composed in this process or ahead in others.

Sample ``i`` does not depend on the process that composes it, so both ways give the same training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import MrcnetError
from .composer import Composer, Sample
from .config import PoseConfig
from .targets import Batch, stack_samples
from .training_data import load_material
from .view_bank import SharedViews

# Batches that each composer has ready or in work: one to hand over while it makes the next.
AHEAD = 2
SampleT = TypeVar('SampleT')
BatchT = TypeVar('BatchT')


class Compositions(Dataset[Sample]):
    """Samples by number, composed in whichever process asks for them.

    :param views: of all classes, in shared memory.
    :param known: classes to be drawn only as occluders and distractors.
    :param composer: of this process, when it has one already.
    """

    def __init__(self, config: PoseConfig, views: list[SharedViews], known: list[int],
                 composer: Composer | None = None) -> None:
        """Remember what to compose from; nothing is loaded yet."""
        self.config, self.views, self.known = config, views, known
        self._composer = composer

    def __getitem__(self, index: int) -> Sample:
        """Compose a sample."""
        if self._composer is None:
            self._composer = load_material(self.config, self.config.load_objects(), self.views,
                                           self.known).composer
        return self._composer.sample(self.config.sample_seed, index)

    def __getstate__(self) -> dict[str, object]:
        """Leave out the composer: another process makes its own from the shared views."""
        return {**vars(self), '_composer': None}


def batches(samples: Compositions, numbers: Iterator[Sequence[int]],
            device: torch.device) -> Iterator[Batch]:
    """Return batches, ready for the network on a device.

    The configuration's ``composers`` make them ahead.

    :param numbers: of the samples of each batch.
    :raises MrcnetError: when a composer died or raised an error.
    """
    for stack in made_ahead(samples, numbers, stack_samples, samples.config.composers,
                            pin=device.type == 'cuda'):
        yield stack.ready(device)


def made_ahead(samples: Dataset[SampleT], numbers: Iterator[Sequence[int]],
               join: Callable[[Sequence[SampleT]], BatchT], workers: int, *,
               pin: bool) -> Iterator[BatchT]:
    """Return batches of samples.

    :param numbers: of the samples of each batch.
    :param join: makes a batch of samples.
    :param workers: number of processes that make them ahead; with 0 each is made when needed.
    :param pin: whether workers keep them in page-locked memory, from which a GPU copies faster.
    :raises MrcnetError: when a worker died or raised an error.
    """
    if not workers:
        yield from (join([samples[i] for i in few]) for few in numbers)
        return
    loader: DataLoader[SampleT] = DataLoader(
        samples, batch_sampler=numbers,  # type: ignore[arg-type]
        collate_fn=join, num_workers=workers, worker_init_fn=_start_worker,
        prefetch_factor=AHEAD, pin_memory=pin,
        # a fork of a process that has threads may wait for a lock for ever
        multiprocessing_context='spawn',
        generator=torch.Generator())  # or it would draw from the one that weights start from
    try:
        yield from loader
    except RuntimeError as error:
        raise MrcnetError(f'a process that composes images failed: {error}') from error


def _start_worker(_: int) -> None:
    cv2.setNumThreads(1)
