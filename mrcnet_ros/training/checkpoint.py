"""Checkpoints, from which a stopped training continues exactly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError, SpecError
from ..specs import FORMAT_VERSION, Spec
from ..store.atomic import atomic_file, remove_stale
from .identity import first_difference

OTHER_RELEASE = 'use the release that it was made with, or train from the start'
STARTS = b'PK', b'\x80'  # of files of PyTorch: zip archives, and pickles of older releases


def save_checkpoint(path: Path, state: dict[str, Any], spec: Spec) -> None:
    """Write a checkpoint whole or not at all.

    :param state: plain data and tensors.
    """
    remove_stale(path.parent)
    with atomic_file(path) as file:
        torch.save({'format_version': FORMAT_VERSION, 'spec': spec.to_dict(), **state}, file)


def load_checkpoint(path: Path, spec: Spec | None = None) -> dict[str, Any]:
    """Read a checkpoint, safely (weights only).

    :param spec: that it must have been made with, or None to accept any.
    :raises ModelError: when it is missing, damaged, or of other specs.
    """
    state = read_weights(path)
    if not isinstance(state, dict) or 'format_version' not in state:
        raise ModelError(path, 'is not a checkpoint of a training run')
    if state['format_version'] != FORMAT_VERSION:
        raise ModelError(path, f'has format {state["format_version"]}, '
                               f'this release reads {FORMAT_VERSION}', OTHER_RELEASE)
    if spec is not None:
        check_spec(path, state, spec)
    return state


def read_weights(path: Path, wanted: str = 'its weights') -> Any:
    """Return what a file of PyTorch holds; nothing in it is executed.

    :param wanted: what of a file that holds more is to be kept.
    :raises ModelError: when it is missing, damaged, no file of PyTorch, or holds what could be
        code.
    """
    again = 'copy or download it again'
    try:
        with path.open('rb') as file:
            first = file.read(24)
    except FileNotFoundError as error:
        raise ModelError(path, 'there is no such checkpoint',
                         'train first with mrcnet train, or give another one') from error
    except OSError as error:
        raise ModelError(path, f'cannot be read ({error.strerror})') from error
    if not first.startswith(STARTS):
        raise ModelError(path, f'is no file of PyTorch: it begins with {first!r}' if first else
                         'is empty', f'{again}; a pointer of Git LFS or a web page may have come '
                         'in its place')
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        # the other words of PyTorch say how to run what is in the file
        found = re.search(r'GLOBAL ([\w.]+)', str(error))
        if found is None:
            raise ModelError(path, 'is damaged, or not whole', again) from error
        raise ModelError(path, f'holds {found[1]}, which is no weight and could be code',
                         f'keep only {wanted}, on a machine where you trust it') from error


def check_spec(path: Path, state: Mapping[str, Any], spec: Spec) -> None:
    """Check that a checkpoint was made with a spec.

    :raises ModelError: naming the first number that differs, or the fields of another release.
    """
    try:
        found, expected = {'preset': state['spec'].get('preset')}, {'preset': spec.preset}
        if found == expected:
            found, expected = type(spec).from_dict(state['spec']).to_dict(), spec.to_dict()
    except (SpecError, KeyError, TypeError, AttributeError) as error:
        problem = f'it has no {error}' if isinstance(error, KeyError) else error
        raise ModelError(path, f'has no spec that this release reads: {problem}',
                         OTHER_RELEASE) from error
    if difference := first_difference(found, expected):
        raise ModelError(path, f'was made with another model spec: {difference}',
                         'restore the spec of the configuration, give the --set spec... of its '
                         'training, or train from the start')
