"""Compares the paper preset with reference values of the published implementation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ....errors import DatasetError
from .network import network_rows
from .parts import crop_rows, loss_rows
from .rows import ParityRow

__all__ = ['ParityRow', 'parity_rows']


def parity_rows(folder: Path) -> Iterator[ParityRow]:
    """Compare every array of a reference folder, yielding each as soon as it is known.

    :param folder: with ``network.npz``, ``crop.npz`` and ``losses.npz``.
    :raises DatasetError: when a file or an input is missing or cannot be used.
    """
    if not folder.is_dir():
        raise DatasetError(f'{folder} is not a folder; give one with network.npz, crop.npz and '
                           'losses.npz')
    yield from crop_rows(folder)
    yield from loss_rows(folder)
    yield from network_rows(folder)
