"""Starts the training processes of one machine, and ends all of them when one dies."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError

import cv2
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from ..errors import MrcnetError
from .exchange import Exchange, end_with_parent, watch


def train_together(body: Callable[[Exchange], None], network: nn.Module, processes: int) -> None:
    """Run the same training in processes of one thread each; this process is the first.

    :param body: trains, given what joins it to the others; a function of a module, or a
        :func:`functools.partial` of one, so that other processes can run it.
    :param network: whose gradients and buffers are averaged.
    :raises MrcnetError: when a process dies.
    """
    numbers = sum(p.numel() for p in network.parameters() if p.requires_grad)
    numbers = max(numbers + 1, sum(b.numel() for b in network.buffers()))  # and the time spent
    slots = torch.zeros((processes, numbers)).share_memory_()
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
        raise MrcnetError('a training process died; what it said is above') from error
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
