"""Gradients summed over the training processes of one machine, through shared memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from multiprocessing import connection, parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier

from torch import Tensor

WAIT_S = 600.0  # for the other processes, some of which may be reading files; then one has died


class Exchange:
    """Averages tensors over processes; every process gets the same bits.

    :param rank: of this process.
    :param slots: (world, numbers) float32 in shared memory.
    :param barrier: of all processes.
    """

    def __init__(self, rank: int, slots: Tensor, barrier: Barrier) -> None:
        """Join the other processes."""
        self.rank, self.slots, self.barrier = rank, slots, barrier
        self.world = len(slots)  # number of processes

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
        part = slice(start * self.rank // self.world, start * (self.rank + 1) // self.world)
        self.slots[0, part] = self.slots[:, part].mean(0)  # everyone a share, in the first slot
        self.wait()
        mean, start = self.slots[0], 0
        for tensor in tensors:
            tensor.copy_(mean[start:start + tensor.numel()].view_as(tensor))
            start += tensor.numel()
        self.wait()  # or the next numbers could come before the last are read


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, whatever it is doing then."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def watch(processes: Sequence[BaseProcess], barrier: Barrier) -> threading.Thread:
    """Break the barrier when a process dies, so that the others do not wait for it.

    :return: a thread that ends when all processes have ended.
    """
    thread = threading.Thread(target=_watch, args=(list(processes), barrier), daemon=True)
    thread.start()
    return thread


def _watch(processes: list[BaseProcess], barrier: Barrier) -> None:
    while processes:
        ended = connection.wait([process.sentinel for process in processes])
        for process in [p for p in processes if p.sentinel in ended]:
            process.join()
            if process.exitcode:
                barrier.abort()
            processes.remove(process)
