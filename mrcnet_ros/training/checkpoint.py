"""Checkpoints, from which a stopped training continues exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError
from ..specs import FORMAT_VERSION, Spec
from ..store.atomic import atomic_file, remove_stale
from .identity import first_difference


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
    try:
        state: dict[str, Any] = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(path, 'there is no such checkpoint') from error
    except Exception as error:
        raise ModelError(path, f'is not a readable checkpoint ({error})') from error
    if not isinstance(state, dict) or 'format_version' not in state:
        raise ModelError(path, 'is not a checkpoint of a training run')
    if state['format_version'] != FORMAT_VERSION:
        raise ModelError(path, f'has format {state["format_version"]}, '
                               f'this version reads {FORMAT_VERSION}')
    if spec is not None:
        check_spec(path, state, spec)
    return state


def check_spec(path: Path, state: Mapping[str, Any], spec: Spec) -> None:
    """Check that a checkpoint was made with a spec.

    :raises ModelError: naming the first number that differs.
    """
    found, expected = {'preset': state['spec'].get('preset')}, {'preset': spec.preset}
    if found == expected:
        found, expected = type(spec).from_dict(state['spec']).to_dict(), spec.to_dict()
    if difference := first_difference(found, expected):
        raise ModelError(path, f'was made with another model spec: {difference}',
                         'restore the spec of the configuration, give the --set spec... of its '
                         'training, or train from the start')
