"""Start from a trained model: for a new model, or to add objects to it and change nothing else.

Everything that belongs to one object is a row of an object layer. With the shared layers frozen,
training the rows of new objects cannot move the answers for the objects already known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..detector.entry import DETECTOR_WEIGHTS
from ..errors import ModelError
from ..model_json import (
    REFINER,
    REFINER_WEIGHTS,
    WEIGHTS_FILE,
    check_file,
    check_seal,
    read_model_json,
)
from ..network.blocks import Hidden, ObjectConvNorm, ObjectLinear
from ..network.detector import DetectorNetwork
from ..network.mrcnet import MrcNet, RefinerNetwork
from ..specs import DetectorSpec, ModelSpec, RefinerSpec, Spec
from .checkpoint import load_checkpoint

ROWS: dict[type[nn.Module], tuple[str, ...]] = {
    ObjectConvNorm: ('gain', 'offset'), Hidden: ('gain', 'offset'),
    ObjectLinear: ('weight', 'bias'),
}

# of the network of both stages, which the refiner has as well
REFINER_PARTS = ('backbone', 'residual')


@dataclass(frozen=True, eq=False)
class Start:
    """A trained model to start from.

    :param objects: their entries in ``model.json``, in class order.
    """

    weights: dict[str, Tensor]
    objects: tuple[dict[str, Any], ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels of its objects, in class order."""
        return tuple(entry['label'] for entry in self.objects)


def read_start(model_dir: Path, spec: ModelSpec) -> Start:
    """Read the weights of a model directory.

    :raises ModelError: when it is incomplete, of another spec, or mixed of two models.
    """
    state, values = _sealed(Path(model_dir), WEIGHTS_FILE, spec)
    return Start(_weights(state), _entries(model_dir, values))


def _entries(model_dir: Path, values: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the objects of ``model.json``.

    :raises ModelError: when it names none.
    """
    try:
        return tuple({**entry, 'label': str(entry['label'])} for entry in values['objects'])
    except (KeyError, TypeError) as error:
        raise ModelError(model_dir, f'has no usable model.json: {error}') from error


def read_refiner_start(model_dir: Path, spec: RefinerSpec) -> Start:
    """Read the weights of the refiner of a model directory, or those that stage 2 has for it.

    :raises ModelError: when it is incomplete, of other templates or widths, or mixed of two
        models.
    """
    model_dir = Path(model_dir)
    values = read_model_json(model_dir)[1]
    has_refiner = values.get(REFINER) is not None
    state, _ = _sealed(model_dir, REFINER_WEIGHTS if has_refiner else WEIGHTS_FILE,
                       spec if has_refiner else None)
    weights = _weights(state)
    if not has_refiner:
        own = ModelSpec.from_dict(state['spec'])
        if (own.template, own.network) != (spec.template, spec.network):
            raise ModelError(model_dir, f'has {own.template} and {own.network}, the refiner '
                                        f'{spec.template} and {spec.network}',
                             'for a start from its weights, both must be the same')
        weights = {name: value for name, value in weights.items()
                   if name.split('.')[0] in REFINER_PARTS}
    return Start(weights, _entries(model_dir, values))


def read_detector_start(model_dir: Path, spec: DetectorSpec) -> Start:
    """Read the weights of the detector of a model directory.

    :raises ModelError: when there are none, or they are of another spec or another model.
    """
    state, _ = _sealed(Path(model_dir), DETECTOR_WEIGHTS, spec)
    return Start(_weights(state), tuple({'label': label} for label in state['labels']))


def _sealed(model_dir: Path, name: str, spec: Spec | None
            ) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return a file of weights and ``model.json``, which must be of one export.

    :raises ModelError: when they are not, or cannot be used.
    """
    state = load_checkpoint(model_dir / name, spec)
    values = read_model_json(model_dir)[1]
    check_seal(model_dir, values)
    if (digest := values.get('files', {}).get(name)) is not None:  # older ones do not name it
        check_file(model_dir / name, digest)
    return state, values


def _weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the averaged weights of a checkpoint, in single precision."""
    return {k: v.float() if v.is_floating_point() else v for k, v in state['average'].items()}


def _rows(value: Tensor, known: Sequence[str], labels: Sequence[str]) -> Tensor:
    """Return a row for each label, the mean of all rows for an unknown one."""
    return torch.stack([value[known.index(label)] if label in known else value.mean(0)
                        for label in labels])


def warm_start_detector(network: DetectorNetwork, start: Start, labels: Sequence[str], *,
                        knows: bool = True) -> None:
    """Copy a trained detector into a network; rows of unknown classes start from the mean row.

    :param labels: of the network's classes, in order.
    :param knows: whether objects of the same label are the same; if not, all are unknown.
    """
    known = start.labels if knows else ()
    network.load_state_dict({
        name: _rows(value, known, labels) if name.split('.')[-2] == 'logits' else value
        for name, value in start.weights.items()})


def object_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters whose first axis is the objects, by name."""
    return {
        f'{name}.{part}': getattr(module, part)
        for name, module in network.named_modules()
        for part in ROWS.get(type(module), ())
    }


def warm_start(network: MrcNet | RefinerNetwork, start: Start, labels: Sequence[str], *,
               knows: bool = True) -> list[int]:
    """Copy a trained model into a network; rows of unknown objects start from the mean row.

    :param labels: of the network's objects, in class order.
    :param knows: whether objects of the same label are the same; if not, all are unknown.
    :return: classes that the trained model knows.
    """
    rows = object_parameters(network)
    known = start.labels if knows else ()
    network.load_state_dict({name: _rows(value, known, labels) if name in rows else value
                             for name, value in start.weights.items()})
    return [i for i, label in enumerate(labels) if label in known]


def freeze_shared(network: MrcNet | RefinerNetwork) -> None:
    """Leave only the rows of the objects to be trained."""
    rows = object_parameters(network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in rows)


def freeze_norms(network: MrcNet | RefinerNetwork) -> None:
    """Keep the batch statistics; to be called after every ``train()``."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()


def clear_gradients(network: MrcNet | RefinerNetwork, classes: Sequence[int]) -> None:
    """Drop the gradients of the rows of some classes."""
    for parameter in object_parameters(network).values():
        if parameter.grad is not None:
            parameter.grad[list(classes)] = 0.0
