"""The export of a detector: its graph, and the model directory that it becomes a part of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

import torch
import yaml
from red_detector import picture
from tiny_model import TinyModel, write_material

from mrcnet_ros import ObjectDetector
from mrcnet_ros.cli.main import main
from mrcnet_ros.detector.entry import read_detector
from mrcnet_ros.errors import ModelError
from mrcnet_ros.export import detector_export
from mrcnet_ros.export.detector_export import check_detector, export_detector
from mrcnet_ros.export.directory import export_checkpoint
from mrcnet_ros.model_json import seal_of
from mrcnet_ros.network.detector import DetectorNetwork
from mrcnet_ros.specs import DetectorSpec
from mrcnet_ros.training.checkpoint import save_checkpoint
from mrcnet_ros.training.detector_config import DetectorConfig
from mrcnet_ros.training.identity import IDENTITY, identity_of


def random_network(spec: DetectorSpec, seed: int) -> DetectorNetwork:
    """Return a network whose outputs depend on its weights, in evaluation mode."""
    torch.manual_seed(seed)
    network = DetectorNetwork(spec=spec, objects=2)
    for name, buffer in network.named_buffers():
        if name.endswith('running_var'):
            buffer.uniform_(0.5, 2.0)
    for head in network.heads:
        for layer in (head.logits, head.reach):
            torch.nn.init.normal_(layer.weight, std=0.3)
    return network.eval()


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[DetectorConfig, Path]:
    """Return a configuration, and a checkpoint of random weights that fits it."""
    tiny = write_material(tmp_path_factory.mktemp('trained'))
    config = DetectorConfig(name='tiny', output=tiny.output, cache=tiny.cache, models=tiny.models,
                            backgrounds=tiny.backgrounds,
                            spec=DetectorSpec(focal_px=120.0, channels=8))
    network = random_network(config.spec, 4)
    path = tmp_path_factory.mktemp('checkpoint') / 'checkpoint.pt'
    save_checkpoint(path, {
        'average': network.state_dict(), 'samples': 7,
        IDENTITY: identity_of(config.load_objects(), None, 0)}, config.spec)
    return config, path


def test_the_exported_graph_computes_what_the_network_does(trained, tmp_path):
    """For sizes that the tracer has not seen; another graph is refused."""
    config, checkpoint = trained
    folder = export_detector(checkpoint, config, tmp_path / 'model')
    entry = read_detector(folder)
    assert entry.labels == ('blob', 'box') and entry.object_ids == (2, 7)
    assert entry.spec == config.spec
    check_detector(random_network(config.spec, 4), entry.graph)
    with pytest.raises(ModelError, match='differs from the network'):
        check_detector(random_network(config.spec, 5), entry.graph)
    found = ObjectDetector.load(folder, least_score=0.001).detect(*picture())
    assert {d.label for d in found} <= {'blob', 'box'}


def test_a_model_keeps_its_detector_and_a_detector_its_model(trained, tiny_model: TinyModel,
                                                             tmp_path):
    """Whichever is exported last, both are there; nothing else in model.json changes."""
    config, checkpoint = trained
    folder, said = tmp_path / 'model', []
    export_checkpoint(tiny_model.checkpoint, tiny_model.config, folder)
    before = json.loads((folder / 'model.json').read_text())
    export_detector(checkpoint, config, folder)
    both = json.loads((folder / 'model.json').read_text())
    assert {k: v for k, v in both.items() if k not in ('detector', 'files', 'seal')} == {
        k: v for k, v in before.items() if k not in ('files', 'seal')}
    export_checkpoint(tiny_model.checkpoint, tiny_model.config, folder, say=said.append)
    again = json.loads((folder / 'model.json').read_text())
    assert again['detector'] == both['detector'] and again['files'] == both['files']
    assert any('kept the detector' in line for line in said)
    assert read_detector(folder).labels == ('blob', 'box')
    both['detector']['diameters_m'][0] *= 1.3  # another object of the same label
    both['seal'] = seal_of(both)
    (folder / 'model.json').write_text(json.dumps(both))
    export_checkpoint(tiny_model.checkpoint, tiny_model.config, folder, say=said.append)
    assert 'dropped the detector: blob of the model has another size' in said[-1]
    export_detector(checkpoint, config, folder)
    (folder / 'detector.onnx').write_bytes(b'damaged')
    export_checkpoint(tiny_model.checkpoint, tiny_model.config, folder, say=said.append)
    assert 'dropped the detector' in said[-1] and 'detector.onnx: is damaged' in said[-1]


def test_a_detector_of_other_objects_is_not_put_into_a_model(trained, tmp_path):
    """The objects that the model lacks are named, and it stays as it was."""
    config, checkpoint = trained
    folder = tmp_path / 'model'
    folder.mkdir()
    text = json.dumps({'format_version': 1, 'name': 'a', 'objects': [{'label': 'box'}],
                       'files': {}})
    (folder / 'model.json').write_text(text)
    with pytest.raises(ModelError, match=r"does not know \['blob'\]"):
        export_detector(checkpoint, config, folder)
    assert (folder / 'model.json').read_text() == text
    assert [p.name for p in folder.iterdir()] == ['model.json']


def test_a_detector_of_another_object_with_the_same_label_is_refused(trained, tmp_path):
    """Labels such as obj_000001 are those of each dataset."""
    config, checkpoint = trained
    sizes = {o.label: o.diameter_m for o in config.load_objects()}
    folder = tmp_path / 'model'
    folder.mkdir()
    text = json.dumps({'format_version': 1, 'name': 'a', 'files': {}, 'objects': [
        {'label': 'box', 'diameter_m': sizes['box']},
        {'label': 'blob', 'diameter_m': 1.3 * sizes['blob']}]})
    (folder / 'model.json').write_text(text)
    with pytest.raises(ModelError, match='knows blob with another diameter'):
        export_detector(checkpoint, config, folder)
    assert (folder / 'model.json').read_text() == text


def test_a_graph_that_differs_leaves_the_directory_as_it_was(trained, tmp_path, monkeypatch):
    """Nothing is written unless it was checked."""
    config, checkpoint = trained

    def wrong(network: Any, path: Path) -> None:
        raise ModelError(path, 'differs')

    monkeypatch.setattr(detector_export, 'check_detector', wrong)
    with pytest.raises(ModelError, match='differs'):
        export_detector(checkpoint, config, tmp_path / 'model')
    assert list((tmp_path / 'model').iterdir()) == []


def test_the_command_exports_a_detector(trained, tmp_path, capsys):
    """From the configuration that it was trained with."""
    config, checkpoint = trained
    values = {'preset': 'detector', 'name': 'tiny', 'output': str(config.output), 'cache': 'c',
              'models': str(config.models), 'spec': {'focal_px': 120.0, 'channels': 8},
              'backgrounds': ['b']}
    path = tmp_path / 'detector.yaml'
    path.write_text(yaml.safe_dump(values))
    words = ['export', str(path), '--checkpoint', str(checkpoint), '--output',
             str(tmp_path / 'model')]
    assert main(words) == 0
    assert read_detector(tmp_path / 'model').labels == ('blob', 'box')
