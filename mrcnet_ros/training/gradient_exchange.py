"""The training processes of one machine, which sum gradients through shared memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from multiprocessing import connection, parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError

import cv2
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from ..errors import MrcnetError
from .shared_tensors import shared

WAIT_S = 600.0  # others may be reading files; after this time one has died


class Exchange:
    """Averages tensors over processes; every process gets the same bits.

    :param slots: (world, numbers) float32 in shared memory.
    """

    def __init__(self, rank: int, slots: Tensor, barrier: Barrier) -> None:
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


def train_together(body: Callable[[Exchange], None], network: nn.Module, processes: int) -> None:
    """Run the same training in processes of one thread each; this process is the first.

    :param body: trains with the exchange it is given; a function of a module, or a
        :func:`functools.partial` of one, so that other processes can run it.
    :param network: whose gradients and buffers are averaged.
    :raises MrcnetError: when a process dies, or there is too little shared memory.
    """
    numbers = sum(p.numel() for p in network.parameters() if p.requires_grad)
    numbers = max(numbers + 1, sum(b.numel() for b in network.buffers()))  # and the time spent
    slots = shared(torch.zeros((processes, numbers)))
    context = multiprocessing.get_context('spawn')
    barrier = context.Barrier(processes)
    others = [context.Process(target=_work, args=(rank, body, slots, barrier), daemon=True)
              for rank in range(1, processes)]
    for process in others:
        process.start()
    watcher = watch(others, barrier)
    try:
        _work(0, body, slots, barrier)
    except BrokenBarrierError as error:
        raise MrcnetError('a training process died; its messages are above') from error
    watcher.join()
    for process in others:
        if process.exitcode:
            raise MrcnetError(f'a training process ended with exit code {process.exitcode}')


def _work(rank: int, body: Callable[[Exchange], None], slots: Tensor, barrier: Barrier) -> None:
    if rank:
        end_with_parent()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        body(Exchange(rank, slots, barrier))
    except BaseException:
        barrier.abort()  # or the others would wait for this process
        raise
