"""Adds a refiner to a model directory: its graphs as ONNX and its entry in ``model.json``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ModelError, SpecError
from ..model_json import (
    MODEL_FILE,
    REFINER,
    REFINER_WEIGHTS,
    check_seal,
    read_model_json,
    read_pose_json,
)
from ..network.graphs import refiner_graphs_of
from ..network.mrcnet import RefinerNetwork
from ..specs import GRAPHS, ModelSpec, RefinerSpec
from ..training.checkpoint import load_checkpoint, save_checkpoint
from ..training.config import RefinerConfig
from ..training.identity import IDENTITY, check_identity, check_known, identity_of
from ..training.warm_start import read_refiner_start
from .arithmetic import refiner_inputs
from .directory import add_part, mean_of, tell_unfinished
from .kept import Say, drop_refined, log, unverified
from .onnx_export import write_checked


def export_refiner(checkpoint: Path, config: RefinerConfig, output: Path,
                   mean_with: Path | None = None, *, say: Say = log) -> Path:
    """Write the averaged weights of a checkpoint into the directory of a model of its objects.

    Whatever else the directory holds stays.

    :param config: that the checkpoint was trained with.
    :param output: the model directory.
    :param mean_with: directory of a model whose refiner the training started from; what is
        written is the mean of both.
    :param say: told what it was added to, and what of the model's calibration is dropped.
    :return: the directory.
    :raises ModelError: when the checkpoint cannot be read, the model is of other objects than it,
        or an exported graph is not equal.
    """
    state = load_checkpoint(checkpoint, config.spec)
    tell_unfinished(checkpoint, state, say)
    objects = config.load_objects()
    identity = identity_of(objects, config.view_prior, config.seed)
    check_identity(checkpoint, state, identity, ('objects', 'view_prior'))
    labels = [o.label for o in objects]
    values = _values(output, labels, identity)
    network = RefinerNetwork(spec=config.spec, objects=len(objects))
    weights = state['average'] if mean_with is None else _mean_with(
        state['average'], mean_with, config.spec, labels)
    weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    network.load_state_dict(weights)
    network.eval()

    def fill(folder: Path) -> None:
        write_refiner(network, config.spec, folder)
        save_checkpoint(folder / REFINER_WEIGHTS, {'average': weights, IDENTITY: identity},
                        config.spec)

    lines = [f'a refiner of {", ".join(labels)}', *drop_refined(values),
             *unverified(output, values, GRAPHS)]
    values[REFINER] = {'spec': config.spec.to_dict(), 'samples': state['samples']}
    add_part(output, values, fill)
    for line in lines:
        say(f'{output}: {line}')
    return output


def write_refiner(network: RefinerNetwork, spec: RefinerSpec, folder: Path) -> dict[str, Path]:
    """Write the graphs of a refiner for any number of poses.

    :param network: in evaluation mode.
    :return: the files by graph.
    :raises ModelError: when a written graph computes something else than the network.
    """
    return write_checked(refiner_graphs_of(network), partial(refiner_inputs, spec), folder)


def _values(output: Path, labels: list[str], identity: dict[str, Any]) -> dict[str, Any]:
    """Return what a directory's ``model.json`` says.

    :raises ModelError: when there is no model of these objects, in this order.
    """
    values: dict[str, Any] = json.loads(read_pose_json(output)[0])
    check_seal(output, values)
    try:
        ModelSpec.from_dict(values['spec'])
        known, entries = dict(values['files']), list(values['objects'])
        there = [entry['label'] for entry in entries]
    except (SpecError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(output / MODEL_FILE, f'is none of a model of the default preset: {error}',
                         'a refiner belongs to such a model; export that first') from error
    if there != labels:
        raise ModelError(output, f'knows {there}, the refiner {labels}', 'a refiner belongs to a '
                         'model of the same objects in the same order')
    check_known(output, entries, identity, 'a refiner belongs to a model of the same objects')
    return {**values, 'files': known}


def _mean_with(average: dict[str, Tensor], model_dir: Path, spec: RefinerSpec,
               labels: list[str]) -> dict[str, Tensor]:
    """Return the mean of weights and those of a model's refiner.

    :raises ModelError: when the model has no refiner, or one of other objects.
    """
    if read_model_json(model_dir)[1].get(REFINER) is None:
        raise ModelError(model_dir, 'has no refiner', 'give the model whose refiner the training '
                         'started from, or leave --mean-with out')
    return mean_of(average, read_refiner_start(model_dir, spec), model_dir, labels)
