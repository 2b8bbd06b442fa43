"""Turns a published checkpoint into a model directory of the paper preset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....errors import MeshError, ModelError
from ....export.directory import describe, write_model
from ....export.kept import Say, log
from ....model_json import sha256_of
from ....objects import ObjectModel, load_bop_objects
from ....training.checkpoint import check_spec, read_weights
from ....training.identity import IDENTITY, check_identity, identity_of
from ..network.mrcnet import PaperNet
from ..spec import PaperSpec
from .reference import export_paper_graphs

NETWORK_KEY = 'network'
WANTED = f'its {NETWORK_KEY!r} entry'
_SHOWN = 8  # problems in a message; they are alike


def import_published(checkpoint: Path, spec: PaperSpec, object_ids: Sequence[int],
                     meshes_dir: Path, output: Path, *, view_origin: str | None = None,
                     say: Say = log) -> tuple[Path, list[int]]:
    """Write a published checkpoint, or one of a training here, as a model directory.

    Objects whose mesh is not in the folder are left out: without a mesh there is no template.
    Sizes that were measured for a model in the directory are kept. A checkpoint of a training here
    says what it was trained with, and must agree; a published one says nothing.

    :param spec: of the training.
    :param object_ids: of the network's classes, in class order.
    :param meshes_dir: BOP models folder with ``models_info.json``.
    :param view_origin: of the model where it differs from the training's.
    :param say: called with what is kept and dropped of the older model's calibration.
    :return: the directory, and the objects that were left out.
    :raises ModelError: when the checkpoint is not the network's, or of a training with another
        spec, other objects or other meshes.
    :raises MeshError: when there is none of the meshes.
    """
    present = [i for i in object_ids if (meshes_dir / f'obj_{i:06d}.ply').is_file()]
    if not present:
        raise MeshError(meshes_dir, f'has none of the meshes obj_{object_ids[0]:06d}.ply ...',
                        'give the BOP models folder of this dataset')
    objects = load_bop_objects(meshes_dir, present)
    content = read_weights(checkpoint, WANTED)
    network = _network_of(checkpoint, content, spec, len(object_ids))
    _check_training(checkpoint, content, spec, {
        class_index: objects[object_id] for class_index, object_id in enumerate(object_ids)
        if object_id in objects})
    if view_origin is not None:
        spec = dataclasses.replace(spec, view_origin=view_origin)

    def description(files: dict[str, str]) -> dict[str, Any]:
        values = describe(f'mrcnet-{spec.dataset}', spec, list(objects.values()), None, files)
        for entry, object_id in zip(values['objects'], objects, strict=True):
            entry['class_index'] = object_ids.index(object_id)
        return {**values, 'checkpoint': {'file': checkpoint.name, 'sha256': sha256_of(checkpoint)}}

    write_model(output, spec, lambda folder: export_paper_graphs(network, spec, folder),
                description, say)
    return output, [i for i in object_ids if i not in present]


def load_published(path: Path, spec: PaperSpec, objects: int) -> PaperNet:
    """Return the network with the weights of a published checkpoint, in evaluation mode.

    The file is read without executing anything in it.

    :raises ModelError: when it is missing, unsafe, or holds other entries than the network.
    """
    return _network_of(path, read_weights(path, WANTED), spec, objects)


def _network_of(path: Path, content: Any, spec: PaperSpec, objects: int) -> PaperNet:
    with torch.device('meta'):
        network = PaperNet(spec=spec, objects=objects)
    state = _state_of(path, content)
    check_entries(path, state, network)
    first: dict[int, Tensor] = {}
    weights = {name: first.setdefault(id(tensor), state[name].to(torch.float32))
               for name, tensor in network.state_dict(keep_vars=True).items()}
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _check_training(path: Path, content: Mapping[str, Any], spec: PaperSpec,
                    objects: Mapping[int, ObjectModel]) -> None:
    """Compare with what a training here was made with.

    :param objects: by class; those that are left out are not compared.
    :raises ModelError: naming the first difference.
    """
    if 'format_version' not in content:  # published
        return
    check_spec(path, content, spec)
    found = content.get(IDENTITY)
    if found is not None:
        content = {IDENTITY: {'objects': [found['objects'][c] for c in objects]}}
    check_identity(path, content, identity_of(list(objects.values()), None, 0), ('objects',))


def _state_of(path: Path, content: Any) -> Mapping[str, Tensor]:
    """Return the state dict of what a checkpoint holds.

    :raises ModelError: when there is none.
    """
    state = content.get(NETWORK_KEY) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise ModelError(path, f'has no state dict under the key {NETWORK_KEY!r}',
                         'give a checkpoint of the published code')
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ModelError(path, f'entry {name!r} is no tensor but {type(value).__name__}')
    return state


def check_entries(path: Path, state: Mapping[str, Tensor], network: PaperNet) -> None:
    """Compare the entries of a checkpoint with those of the network.

    :raises ModelError: naming what is missing, extra, misshapen, not finite, or different from
        the entry that should be the same tensor.
    """
    expected = network.state_dict(keep_vars=True)
    shapes = {n: (tuple(state[n].shape), tuple(t.shape))
              for n, t in expected.items() if n in state}
    problems = [
        *(f'{n} is missing' for n in expected if n not in state),
        *(f'{n} is extra' for n in state if n not in expected),
        *(f'{n} has shape {have}, expected {want}' for n, (have, want) in shapes.items()
          if have != want)]
    if not problems:
        problems = _value_problems(state, expected)
    if problems:
        more = f' and {len(problems) - _SHOWN} more' if len(problems) > _SHOWN else ''
        raise ModelError(path, f'is not this network: {"; ".join(problems[:_SHOWN])}{more}',
                         'is it the checkpoint of this dataset?')


def _value_problems(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    first: dict[int, str] = {}
    problems = []
    for name, tensor in expected.items():
        if not state[name].is_floating_point():
            problems.append(f'{name} holds {state[name].dtype}, expected floating point')
        elif not bool(torch.isfinite(state[name]).all()):
            problems.append(f'{name} is not finite')
        same = first.setdefault(id(tensor), name)
        if same != name and not torch.equal(state[same], state[name]):
            problems.append(f'{name} differs from {same}, which is the same tensor')
    return problems
