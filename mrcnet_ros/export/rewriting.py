"""Writes the graphs of a model directory again, from its weights, as this release does.

A later release may write the same network as a graph that runs faster. The answers stay the same,
and so does what was calibrated with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from ..errors import ModelError, SpecError
from ..inference.model_directory import graph_names, graphs_digest
from ..model_json import MODEL_FILE, check_file, check_seal, read_pose_json, refiner_spec
from ..network.graphs import graphs_of, refiner_graphs_of
from ..network.mrcnet import MrcNet, RefinerNetwork
from ..runtimes.onnxruntime_backend import OnnxRuntimeBackend
from ..specs import GRAPHS, ModelSpec
from ..training.warm_start import read_refiner_start, read_start
from .arithmetic import example_inputs, refiner_inputs
from .directory import add_part
from .kept import Say, log, unverified
from .onnx_export import Inputs, MakeInputs, write_checked

AGAIN = 'export the model again from its checkpoint'
NetworkT = TypeVar('NetworkT', bound=nn.Module)
# As a part of the largest value. With the same weights only the order of sums differs, by 1e-5;
# with those of another training nearly everything.
SAME = 1e-3
ROWS_EACH = 2  # of each object, of which some rows of the weights are


@dataclass(frozen=True)
class Network:
    """A network of a model, and its graphs.

    :param graphs: modules by name.
    :param inputs: returns those of a batch of some rows.
    """

    graphs: Mapping[str, nn.Module]
    inputs: MakeInputs


def rewrite_graphs(model_dir: Path, *, say: Say = log) -> Path:
    """Replace the graphs of a model of the default preset, and those of its refiner.

    Nothing is replaced unless every new graph computes what the former one does.

    :param say: told what was written, and what has to be verified again.
    :return: the directory.
    :raises ModelError: when the directory is incomplete, its weights are not those of its graphs,
        or a new graph computes something else.
    :raises SpecError: when the model is of the paper preset.
    """
    values: dict[str, Any] = json.loads(read_pose_json(model_dir)[0])
    check_seal(model_dir, values)
    try:
        parts, names = _parts(model_dir, values), graph_names(values, GRAPHS)
        rows, known = ROWS_EACH * len(values['objects']), dict(values['files'])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(model_dir / MODEL_FILE, f'has a wrong or missing entry: {error}',
                         'export the model again') from error
    former = {name: model_dir / f'{name}.onnx' for name in names}
    for file in former.values():
        check_file(file, known.get(file.name, ''))

    def fill(folder: Path) -> None:
        for part in parts:
            files = write_checked(part.graphs, part.inputs, folder)
            _compare({name: former[name] for name in files}, files, part.inputs(rows))

    digest, lines = graphs_digest(known, names), unverified(model_dir, values, GRAPHS)
    written = add_part(model_dir, values, fill)
    if graphs_digest(written['files'], names) == digest:
        lines = ['its graphs were those of this release already']
    for line in [f'wrote {", ".join(names)} again', *lines]:
        say(f'{model_dir}: {line}')
    return model_dir


def _parts(model_dir: Path, values: Mapping[str, Any]) -> list[Network]:
    """Return the networks of a model with its weights.

    :raises SpecError: when it is of another preset.
    :raises ModelError: when weights are missing or of another network.
    """
    preset = values['spec'].get('preset')
    if preset != ModelSpec.preset:
        raise SpecError(f'{model_dir} is of the preset {preset!r}; graphs are written again for '
                        f'models of the preset {ModelSpec.preset}; import the checkpoint of the '
                        'paper again with mrcnet import-checkpoint')
    spec, refiner = ModelSpec.from_dict(values['spec']), refiner_spec(values)
    count = len(values['objects'])
    network = _loaded(MrcNet(spec=spec, objects=count), read_start(model_dir, spec).weights,
                      model_dir)
    parts = [Network(graphs_of(network), partial(example_inputs, spec, objects=count))]
    if refiner is not None:
        third = _loaded(RefinerNetwork(spec=refiner, objects=count),
                        read_refiner_start(model_dir, refiner).weights, model_dir)
        parts.append(Network(refiner_graphs_of(third),
                          partial(refiner_inputs, refiner, objects=count)))
    return parts


def _loaded(network: NetworkT, weights: Mapping[str, Tensor], model_dir: Path) -> NetworkT:
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ModelError(model_dir, f'its weights are not those of its network: {error}',
                         'export the model again') from error
    return network.eval()


def _compare(former: Mapping[str, Path], files: Mapping[str, Path], inputs: Inputs) -> None:
    """Check that new graphs compute what the former ones do.

    :raises ModelError: when one does not.
    """
    before, after = OnnxRuntimeBackend(former), OnnxRuntimeBackend(files)
    for graph, example in inputs.items():
        arrays = {name: tensor.numpy() for name, tensor in example.items()}
        found = after.run(graph, arrays)
        try:
            expected = before.run(graph, arrays)
        except Exception as error:  # ONNX Runtime's own, of inputs that it does not know
            raise ModelError(former[graph], f'does not take the inputs of this release: {error}',
                             AGAIN) from error
        shapes, former_shapes = ({name: array.shape for name, array in outputs.items()}
                                 for outputs in (found, expected))
        if shapes != former_shapes:
            raise ModelError(former[graph], f'has the outputs {former_shapes}, those of this '
                                            f'release are {shapes}', AGAIN)
        for output, array in found.items():
            scale = max(1.0, float(np.abs(expected[output]).max()))
            difference = float(np.abs(array - expected[output]).max()) / scale
            if not difference < SAME:
                raise ModelError(
                    former[graph], f'its output {output} is not that of the weights beside it: it '
                    f'differs by {difference:.2g}', AGAIN)
