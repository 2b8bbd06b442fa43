"""The batches that a training process sees, composed by itself or ahead by other processes.

Sample ``i`` is the same whoever composes it, so both ways give the same training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import MrcnetError
from .composer import Composer, Sample
from .config import TrainConfig
from .material import load_material
from .targets import Batch, stack_samples
from .view_bank import SharedViews

# Batches that each composer has ready or in work: one to hand over while it makes the next.
AHEAD = 2


class Compositions(Dataset[Sample]):
    """Samples by number, composed in whichever process asks for them.

    :param views: of all classes, in shared memory.
    :param known: classes to be drawn only as occluders and distractors.
    :param composer: of this process, when it has one already.
    """

    def __init__(self, config: TrainConfig, views: list[SharedViews], known: list[int],
                 composer: Composer | None = None) -> None:
        """Remember what to compose from; nothing is loaded yet."""
        self.config, self.views, self.known = config, views, known
        self._composer = composer

    def __getitem__(self, index: int) -> Sample:
        """Compose a sample."""
        if self._composer is None:
            self._composer = load_material(self.config, self.config.load_objects(), self.views,
                                           self.known).composer
        return self._composer.sample(self.config.seed, index)

    def __getstate__(self) -> dict[str, object]:
        """Leave the composer behind: another process makes its own, from the shared views."""
        return {**vars(self), '_composer': None}


def batches(samples: Compositions, numbers: Iterator[Sequence[int]],
            device: torch.device) -> Iterator[Batch]:
    """Return batches, ready for the network on a device.

    The configuration's ``composers`` make them ahead.

    :param numbers: of the samples of each batch.
    :raises MrcnetError: when a composer died or raised an error.
    """
    if samples.config.composers:
        stacks = _composed_ahead(samples, numbers, pin=device.type == 'cuda')
    else:
        stacks = (stack_samples([samples[i] for i in few]) for few in numbers)
    for stack in stacks:
        yield stack.ready(device)


def _composed_ahead(samples: Compositions, numbers: Iterator[Sequence[int]],
                    pin: bool) -> Iterator[Batch]:
    loader: DataLoader[Sample] = DataLoader(
        samples, batch_sampler=numbers,  # type: ignore[arg-type]
        collate_fn=stack_samples, num_workers=samples.config.composers,
        worker_init_fn=_start_composer, prefetch_factor=AHEAD, pin_memory=pin,
        # a fork of a process with threads of its own may wait for a lock for ever
        multiprocessing_context='spawn',
        generator=torch.Generator())  # or it would draw from the one that weights start from
    try:
        yield from loader
    except RuntimeError as error:
        raise MrcnetError(f'a process that composes images failed: {error}') from error


def _start_composer(_: int) -> None:
    cv2.setNumThreads(1)
