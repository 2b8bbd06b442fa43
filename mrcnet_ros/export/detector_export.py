"""Adds a detector to a model directory: its graph as ONNX and its entry in ``model.json``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..detector.entry import DETECTOR, DETECTOR_WEIGHTS
from ..errors import ModelError
from ..model_json import MODEL_FILE, check_seal, read_model_json
from ..network.detector import DetectorNetwork
from ..objects.object_model import of_other_sizes
from ..specs import FORMAT_VERSION
from ..training.checkpoint import load_checkpoint, save_checkpoint
from ..training.detector_config import DetectorConfig
from ..training.identity import check_identity, identity_of
from ..training.warm_start import read_detector_start
from .directory import add_part, mean_of, tell_unfinished
from .kept import Say, log
from .onnx_export import check_graphs, small_and_fast, write_graphs

# sizes that the tracer does not see
CHECKED_PX = ((96, 160), (320, 416))


def export_detector(checkpoint: Path, config: DetectorConfig, output: Path,
                    mean_with: Path | None = None, *, say: Say = log) -> Path:
    """Write the averaged weights of a checkpoint into a model directory.

    Whatever else the directory holds stays: the detector becomes a part of the model of poses that
    is there. Where there is none, the directory holds the detector alone.

    :param config: that the checkpoint was trained with.
    :param output: the model directory, made when needed.
    :param mean_with: directory of a model whose detector the training started from; what is
        written is the mean of both.
    :param say: told what the detector was added to.
    :return: the directory.
    :raises ModelError: when the checkpoint cannot be read or is of other objects, the directory's
        model does not know them, or the exported graph is not equal.
    """
    state = load_checkpoint(checkpoint, config.spec)
    tell_unfinished(checkpoint, state, say)
    objects = config.load_objects()
    check_identity(checkpoint, state, identity_of(objects, config.view_prior, config.seed),
                   ('objects', 'view_prior'))
    labels = [o.label for o in objects]
    values = _values(output, config.name, {o.label: o.diameter_m for o in objects})
    network = DetectorNetwork(spec=config.spec, objects=len(objects))
    weights = state['average'] if mean_with is None else mean_of(
        state['average'], read_detector_start(mean_with, config.spec), mean_with, labels)
    network.load_state_dict(weights)

    def fill(folder: Path) -> None:
        check_detector(network, write_detector(network, folder))
        save_checkpoint(folder / DETECTOR_WEIGHTS, {
            'labels': labels, 'samples': state['samples'], 'average': {
                k: v.half() if v.is_floating_point() else v for k, v in weights.items()}},
            config.spec)

    spec = replace(config.spec, focal_px=config.spec.focal_px * config.farther,
                   longest_px=round(config.spec.longest_px * config.farther))
    values[DETECTOR] = {'spec': spec.to_dict(), 'labels': labels,
                        'object_ids': [o.object_id for o in objects],
                        'diameters_m': [o.diameter_m for o in objects],
                        'distance_m': [d * config.farther for d in config.distance_m],
                        'samples': state['samples']}
    add_part(output, values, fill)
    say(f'{output}: a detector of {", ".join(labels)}')
    return output


def _values(output: Path, name: str, sizes: dict[str, float | None]) -> dict[str, Any]:
    """Return what a directory's ``model.json`` says, or a new one's.

    :param sizes: diameters of the detector's objects by label [m].
    :raises ModelError: when the model does not know one of the labels, or another object by it.
    """
    if not (output / MODEL_FILE).exists():
        return {'format_version': FORMAT_VERSION, 'name': name, 'files': {}}
    values: dict[str, Any] = json.loads(read_model_json(output)[0])
    check_seal(output, values)
    known = {entry['label']: entry.get('diameter_m') for entry in values.get('objects', [])}
    apart = 'export the detector into a directory of its own'
    if known and (unknown := [label for label in sizes if label not in known]):
        raise ModelError(output, f'does not know {unknown}, only {list(known)}; a detector in it '
                                 'must find its objects', apart)
    if others := of_other_sizes(sizes, known):
        raise ModelError(output, f'knows {", ".join(others)} with another diameter, so the label '
                                 'means another object there', apart)
    return values


def write_detector(network: nn.Module, folder: Path) -> Path:
    """Write a network as ONNX, for one image of any size that is a multiple of 32.

    :param network: :class:`~mrcnet_ros.network.detector.DetectorNetwork`, or a module with the
        same ``inputs`` and ``outputs``.
    """
    axes = {'image': {2: 'height', 3: 'width'},
            **{name: {1: 'cells'} for name in DetectorNetwork.outputs}}
    example = {DETECTOR: {'image': torch.zeros(1, 3, 64, 96)}}
    return write_graphs({DETECTOR: network}, example, folder, small_and_fast, axes)[DETECTOR]


def check_detector(network: DetectorNetwork, path: Path) -> None:
    """Compare a written graph with the network, for images of other sizes than the traced one.

    :raises ModelError: when an output differs.
    """
    for seed, size in enumerate(CHECKED_PX):
        generator = torch.Generator().manual_seed(seed)
        image = 255 * torch.rand(1, 3, *size, generator=generator)
        check_graphs({DETECTOR: network}, {DETECTOR: path}, {DETECTOR: {'image': image}})
