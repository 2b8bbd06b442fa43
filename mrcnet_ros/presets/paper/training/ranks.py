"""The training processes of the paper preset, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor

from ....errors import SpecError


@dataclass
class Ranks:
    """Which of the processes this one is.

    :param rank: 0 to ``world`` - 1; 0 writes the files.
    :param world: number of processes, over all machines.
    :param device: that this process computes on.
    """

    rank: int
    world: int
    device: torch.device

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors by their mean over the processes."""
        if self.world > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)
                tensor /= self.world

    def wait(self) -> None:
        """Wait for all others."""
        if self.world > 1:
            torch.distributed.barrier()


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun started, each with a GPU or all on the processor.

    :raises SpecError: when there are fewer GPUs than processes on this machine.
    """
    world = int(os.environ.get('WORLD_SIZE', '1'))
    local = int(os.environ.get('LOCAL_RANK', '0'))
    device = torch.device('cpu')
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise SpecError(f'process {local} of this machine has no GPU: there are '
                            f'{torch.cuda.device_count()}; start as many with --nproc-per-node')
        device = torch.device('cuda', local)
        torch.cuda.set_device(device)
    if world == 1:
        yield Ranks(0, 1, device)
        return
    torch.distributed.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
    try:
        yield Ranks(torch.distributed.get_rank(), world, device)
    finally:
        torch.distributed.destroy_process_group()
