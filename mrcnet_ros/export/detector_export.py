"""Adds a detector to a model directory: its graph as ONNX and its entry in ``model.json``."""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..detector.entry import DETECTOR, DETECTOR_GRAPH
from ..errors import ModelError
from ..inference.model_directory import MODEL_FILE, read_model_json, replace_json
from ..inference.onnxruntime_backend import OnnxRuntimeBackend
from ..network.detector import DetectorNetwork
from ..specs import FORMAT_VERSION
from ..training.checkpoint import load_checkpoint
from ..training.detector_config import DetectorConfig
from ..training.identity import check_identity, identity_of
from .cpu_layout import fit_for_cpu
from .kept import Say, log
from .onnx_export import OPSET, TOLERANCE, store_halves

# sizes that the tracer does not see
CHECKED_PX = ((96, 160), (320, 416))


def export_detector(checkpoint: Path, config: DetectorConfig, output: Path, *,
                    say: Say = log) -> Path:
    """Write the averaged weights of a checkpoint into a model directory.

    Whatever else the directory holds stays: the detector becomes a part of the model of poses that
    is there. Where there is none, the directory holds the detector alone.

    :param config: that the checkpoint was trained with.
    :param output: the model directory, made when needed.
    :param say: told what the detector was added to.
    :return: the directory.
    :raises ModelError: when the checkpoint cannot be read or is of other objects, the directory's
        model does not know them, or the exported graph is not equal.
    """
    state = load_checkpoint(checkpoint, config.spec)
    objects = config.load_objects()
    check_identity(checkpoint, state, identity_of(objects, config.view_prior, config.seed),
                   ('objects', 'view_prior'))
    labels = [o.label for o in objects]
    values = _values(output, config.name, labels)
    network = DetectorNetwork(spec=config.spec, objects=len(objects))
    network.load_state_dict(state['average'])
    data = trace_detector(network.eval())
    output.mkdir(parents=True, exist_ok=True)
    partial = output / f'.{DETECTOR_GRAPH}.{os.getpid()}'
    try:
        partial.write_bytes(data)
        check_detector(network, partial)
        os.replace(partial, output / DETECTOR_GRAPH)
    finally:
        partial.unlink(missing_ok=True)
    values[DETECTOR] = {'spec': config.spec.to_dict(), 'labels': labels,
                        'object_ids': [o.object_id for o in objects],
                        'distance_m': list(config.distance_m), 'samples': state['samples']}
    values['files'] = {**values['files'], DETECTOR_GRAPH: hashlib.sha256(data).hexdigest()}
    replace_json(output / MODEL_FILE, values)
    say(f'{output}: a detector of {", ".join(labels)}')
    return output


def _values(output: Path, name: str, labels: list[str]) -> dict[str, Any]:
    """Return what a directory's ``model.json`` says, or a new one's.

    :raises ModelError: when the model does not know one of the labels.
    """
    if not (output / MODEL_FILE).exists():
        return {'format_version': FORMAT_VERSION, 'name': name, 'files': {}}
    values: dict[str, Any] = json.loads(read_model_json(output)[0])
    known = [entry['label'] for entry in values.get('objects', [])]
    if known and (unknown := [label for label in labels if label not in known]):
        raise ModelError(output, f'knows no {unknown}, only {known}; a detector in it must find '
                                 'its objects', 'export the detector into a directory of its own')
    return values


def trace_detector(network: Any) -> bytes:
    """Return a network as ONNX, for one image of any size that is a multiple of 32.

    :param network: :class:`~mrcnet_ros.network.detector.DetectorNetwork`, or a module with the
        same ``inputs`` and ``outputs``, in evaluation mode.
    """
    buffer: Any = io.BytesIO()
    image = torch.zeros(1, 3, 64, 96)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            network, (image,), buffer, opset_version=OPSET, dynamo=False,
            input_names=list(network.inputs), output_names=list(network.outputs),
            dynamic_axes={'image': {2: 'height', 3: 'width'},
                          **{name: {1: 'cells'} for name in network.outputs}})
    return store_halves(fit_for_cpu(bytes(buffer.getvalue())))


def check_detector(network: DetectorNetwork, path: Path) -> None:
    """Compare a written graph with the network, for images of other sizes than the traced one.

    :raises ModelError: when an output differs.
    """
    backend = OnnxRuntimeBackend({DETECTOR: path}, threads=1)
    for seed, (height, width) in enumerate(CHECKED_PX):
        generator = torch.Generator().manual_seed(seed)
        image = 255 * torch.rand(1, 3, height, width, generator=generator)
        with torch.no_grad():
            expected = network(image)
        found = backend.run(DETECTOR, {'image': image.numpy()})
        for name, tensor in zip(network.outputs, expected, strict=True):
            scale = max(1.0, float(tensor.abs().max()))
            shapes = found[name].shape == tuple(tensor.shape)
            difference = float(np.abs(found[name] - tensor.numpy()).max()) / scale \
                if shapes else np.inf
            if not difference < TOLERANCE:
                raise ModelError(path, f'output {name} is not that of the network, off by '
                                       f'{difference:.2g} of the largest at {width}x{height}')
