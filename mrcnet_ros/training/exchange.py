"""Gradients summed over the training processes of one machine, through shared memory."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.synchronize import Barrier

from torch import Tensor

WAIT_S = 600.0


class Exchange:
    """Averages tensors over processes; every process gets the same bits.

    :param rank: of this process.
    :param slots: (world, numbers) float32 in shared memory.
    :param barrier: of all processes.
    """

    def __init__(self, rank: int, slots: Tensor, barrier: Barrier) -> None:
        """Join the other processes."""
        self.rank, self.slots, self.barrier = rank, slots, barrier

    @property
    def world(self) -> int:
        """Number of processes."""
        return len(self.slots)

    def wait(self) -> None:
        """Wait for the others.

        :raises threading.BrokenBarrierError: when one of them died.
        """
        self.barrier.wait(WAIT_S)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors by their mean over the processes."""
        if self.world == 1:
            return
        start = 0
        for tensor in tensors:
            self.slots[self.rank, start:start + tensor.numel()] = tensor.reshape(-1)
            start += tensor.numel()
        self.wait()
        mean = self.slots[:, :start].mean(0)
        self.wait()
        start = 0
        for tensor in tensors:
            tensor.copy_(mean[start:start + tensor.numel()].view_as(tensor))
            start += tensor.numel()
