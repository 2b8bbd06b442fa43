"""Turns a training checkpoint into a model directory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ModelError
from ..model_json import MODEL_FILE, SEAL, WEIGHTS_FILE, replace_json, seal_of, sha256_of
from ..network.mrcnet import MrcNet
from ..objects import ObjectModel
from ..specs import FORMAT_VERSION, EstimatorSpec, Spec, ViewPrior
from ..training.checkpoint import load_checkpoint, save_checkpoint
from ..training.config import TrainConfig
from ..training.identity import IDENTITY, check_identity, identity_of
from ..training.warm_start import Start, read_start
from .kept import Say, keep_calibration, keep_detector, keep_refiner, log
from .onnx_export import export_graphs


def export_checkpoint(checkpoint: Path, config: TrainConfig, output: Path,
                      mean_with: Path | None = None, *, say: Say = log) -> Path:
    """Write the averaged weights of a checkpoint as a model directory.

    Files that are in the directory already and are not part of a model, such as a model card,
    stay. The new files replace the old ones only when all of them are written and checked. Of a
    model that was calibrated, what still holds is kept; where there is none, the sizes of objects
    are those of the model that the training started from. The configuration is left out: it names
    folders of the machine that trained.

    :param config: that the checkpoint was trained with.
    :param mean_with: directory of a model of the same objects that the training started from; what
        is written is the mean of both, often better than either.
    :param say: told what is kept and what is dropped of the older model's calibration.
    :return: the directory.
    :raises ModelError: when the checkpoint or the other model cannot be read, is of other objects
        or of another view prior than the configuration's, or an exported graph is not equal.
    """
    state = load_checkpoint(checkpoint, config.spec)
    tell_unfinished(checkpoint, state, say)
    objects = config.load_objects()
    identity = identity_of(objects, config.view_prior, config.seed)
    check_identity(checkpoint, state, identity, ('objects', 'view_prior'))
    network = MrcNet(spec=config.spec, objects=len(objects))
    weights = state['average'] if mean_with is None else mean_of(
        state['average'], read_start(mean_with, config.spec), mean_with,
        [o.label for o in objects])
    weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    network.load_state_dict(weights)
    network.eval()

    def fill(folder: Path) -> None:
        export_graphs(network, config.spec, folder)
        save_checkpoint(folder / WEIGHTS_FILE, {
            'average': weights, 'step': state['step'], IDENTITY: identity}, config.spec)

    return write_model(output, config.spec, fill, lambda files: describe(
        config.name, config.spec, objects, config.view_prior, files), say, config.init)


def tell_unfinished(checkpoint: Path, state: Mapping[str, Any], say: Say) -> None:
    """Say that a checkpoint is not the last one of its training, such as of one that was killed.

    Its graphs are whole and its answers plausible, but the learning rate has not fallen yet.

    :param state: of the checkpoint, which has the configuration that it was trained with.
    """
    asked = state.get('config', {})
    step, steps, minutes = state.get('step', 0), asked.get('steps', 0), asked.get('minutes')
    part = float(state.get('spent', minutes is not None))  # older ones do not say it
    if not 0 < step < steps or part >= 1:
        return
    spent = '' if minutes is None else f', after {part:.0%} of {minutes:g} minutes'
    say(f'{checkpoint}: its training has not ended: it is at step {step} of {steps}{spent}, so '
        'poses are worse than they will be; run mrcnet train again to go on, and export then')


def write_model(output: Path, spec: EstimatorSpec, fill: Callable[[Path], object],
                description: Callable[[dict[str, str]], dict[str, Any]], say: Say,
                start: Path | None = None) -> Path:
    """Write a model directory; the files in place of older ones only when all are written.

    :param fill: writes the graphs and what goes with them into a folder.
    :param description: returns what ``model.json`` says, given the sha256 of files by name.
    :param say: told what is kept and what is dropped of an older model's calibration.
    :param start: model whose sizes of objects are taken where there is no older model of poses.
    :return: the directory.
    """
    def kept(files: dict[str, str]) -> dict[str, Any]:
        values = description(files)
        for line in (keep_calibration(output, values, spec.graphs, start)
                     + keep_refiner(output, values) + keep_detector(output, values)):
            say(f'{output}: {line}')
        return values

    _write_files(output, fill, kept)
    return output


def add_part(output: Path, values: Mapping[str, Any], fill: Callable[[Path], object]
             ) -> dict[str, Any]:
    """Write the files of a part into a model directory, and what ``model.json`` says with it.

    :param output: the directory, made when needed.
    :param values: of ``model.json``, with the part's entry; its files and the seal are added.
    :param fill: writes the files into a folder.
    :return: what ``model.json`` says.
    """
    return _write_files(output, fill, lambda files: {
        **values, 'files': {**values['files'], **files}})


def _write_files(output: Path, fill: Callable[[Path], object],
                 description: Callable[[dict[str, str]], dict[str, Any]]) -> dict[str, Any]:
    """Write files of a model directory, and ``model.json`` last.

    Nothing is replaced before all is written: a full disk leaves the directory as it was.

    :param fill: writes the files into a folder.
    :param description: returns what ``model.json`` says, given the sha256 of these files by name.
    :return: that, with the seal.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix='.export-') as name:
        folder = Path(name)
        fill(folder)
        files = sorted(folder.iterdir())
        values = description({file.name: sha256_of(file) for file in files})
        values[SEAL] = seal_of(values)
        replace_json(folder / MODEL_FILE, values)
        for file in [*files, folder / MODEL_FILE]:
            os.replace(file, output / file.name)
    return values


def mean_of(weights: dict[str, Tensor], other: Start, model_dir: Path,
            labels: Sequence[str]) -> dict[str, Tensor]:
    """Return the mean of weights and those of a model directory.

    :param labels: of the objects of the weights.
    :raises ModelError: when the directory is of other objects.
    """
    if other.labels != tuple(labels):
        raise ModelError(model_dir, f'knows {list(other.labels)}, the checkpoint '
                                    f'{list(labels)}', 'for a mean, both need the same objects in '
                         'the same order')
    return {k: (v.float() + other.weights[k].float()) / 2 if v.is_floating_point() else v
            for k, v in weights.items()}


def describe(name: str, spec: Spec, objects: Sequence[ObjectModel],
             prior: ViewPrior | None, files: dict[str, str]) -> dict[str, Any]:
    """Return what ``model.json`` says."""
    return {
        'format_version': FORMAT_VERSION, 'name': name, 'spec': spec.to_dict(),
        'objects': [{
            'object_id': o.object_id, 'label': o.label, 'mesh': o.mesh_path.name,
            'mesh_sha256': o.checked_digest(), 'unit_m': o.unit_m, 'diameter_m': o.diameter_m,
            'bounds_m': o.mesh_bounds().tolist(),
            'symmetries': [T.ravel().tolist() for T in o.symmetries.transforms],
            'view_prior': asdict(prior) if prior else None,
            **({'middle_m': o.middle_m.tolist()} if o.middle_m.any() else {}),
        } for o in objects],
        'files': files,
    }
