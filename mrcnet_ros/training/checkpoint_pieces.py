"""A checkpoint in small files, for machines that return only small files.

Joined (``cat FOLDER/checkpoint.pt.* > checkpoint.pt``), they are a checkpoint that can be
continued and exported like any other. Numbers lose half of their bits. If the files are still too
large, the state of the optimiser is left out, and then everything but the averaged weights.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import SpecError
from ..store.shared_memory import MIB
from .checkpoint import load_checkpoint

PIECE_BYTES = 15 * MIB  # some transports refuse files of 16 MiB


def write_pieces(checkpoint: Path, folder: Path, most_bytes: int) -> list[Path]:
    """Write a checkpoint in pieces, replacing those that are there.

    :return: the pieces, to be joined in this order.
    :raises ModelError: when the checkpoint cannot be read.
    :raises SpecError: when the averaged weights alone are larger.
    """
    state = load_checkpoint(checkpoint)
    sizes: list[int] = []
    for smaller in _reduced(state):
        file = io.BytesIO()
        torch.save(smaller, file)
        data = file.getvalue()
        if len(data) <= most_bytes:
            return _cut(data, folder, checkpoint.name)
        sizes.append(len(data))
    raise SpecError(f'the averaged weights of {checkpoint} alone are {sizes[-1] / MIB:.1f} MiB, '
                    f'more than the {most_bytes / MIB:.1f} MiB allowed')


def _cut(data: bytes, folder: Path, name: str) -> list[Path]:
    """Write pieces, the first one last: where it is, all are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob(f'{name}.*')):
        old.unlink()
    partial = folder / f'{name}.partial'  # a kill may leave it; the next call removes it
    starts = range(0, len(data), PIECE_BYTES)
    pieces = [folder / f'{name}.{number:02}' for number in range(len(starts))]
    for piece, start in reversed(list(zip(pieces, starts, strict=True))):
        partial.write_bytes(data[start:start + PIECE_BYTES])
        os.replace(partial, piece)
    return pieces


def _reduced(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield ever smaller versions of a checkpoint, all in half precision."""
    small = {**state, 'network': _mapped(state['network'], _half),
             'average': _mapped(state['average'], _half)}
    if 'optimizer' in state:
        # squares of gradients are too small for float16
        yield {**small, 'optimizer': _mapped(state['optimizer'], _brief)}
    small.pop('optimizer', None)
    yield small
    yield {**small, 'network': small['average']}  # one copy in the file


def _half(values: Tensor) -> Tensor:
    """Return float16, or the same numbers where one does not fit into it."""
    if not values.is_floating_point():
        return values
    half = values.half()
    return half if bool(half.isfinite().all()) else values


def _brief(values: Tensor) -> Tensor:
    """Return bfloat16; single numbers, which count steps, stay."""
    return values.bfloat16() if values.is_floating_point() and values.ndim else values


def _mapped(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change all tensors in nested plain data."""
    if isinstance(values, Tensor):
        return change(values)
    if isinstance(values, dict):
        return {k: _mapped(v, change) for k, v in values.items()}
    if isinstance(values, list):
        return [_mapped(v, change) for v in values]
    return values
