"""A refiner in a model directory: it belongs to the objects, and its graphs to its network."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

import torch
import yaml
from tiny_estimator import CAMERA, DETECTIONS, IMAGE, assert_same_pose, load
from tiny_model import REFINER_SPEC, random_refiner, refiner_config

from mrcnet_ros.cli.main import main
from mrcnet_ros.errors import ModelError
from mrcnet_ros.export import onnx_export, refiner_export
from mrcnet_ros.export.arithmetic import refiner_inputs, stage_flops
from mrcnet_ros.export.directory import export_checkpoint
from mrcnet_ros.export.onnx_export import check_graphs
from mrcnet_ros.export.refiner_export import export_refiner, write_refiner
from mrcnet_ros.inference.calibration_entries import write_law
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.inference.scoring import ScoreLaw, ScoreSource
from mrcnet_ros.model_json import REFINER, REFINER_FILES
from mrcnet_ros.network.graphs import refiner_graphs_of
from mrcnet_ros.runtimes.verified import Execution, store_result
from mrcnet_ros.specs import RefinerSpec
from mrcnet_ros.training.checkpoint import save_checkpoint

LAW = ScoreLaw(offset=0.1, quality_gain=0.9, apart_gain=-0.4, usual_apart=0.05)


def source(refine: int) -> ScoreSource:
    """Return what a score was measured with."""
    return ScoreSource(source='synthetic', images=20, poses=90, boxes='detector', crops=2,
                       hypotheses=3, refine=refine, right=0.6)


def checkpoint_of(network: torch.nn.Module, path, samples: int = 64):
    """Save a refiner as a training does."""
    save_checkpoint(path, {'average': network.state_dict(), 'step': 2, 'samples': samples},
                    REFINER_SPEC)
    return path


@pytest.mark.parametrize('count', [1, 5])
def test_the_graphs_equal_the_network_at_any_batch_size(tmp_path, monkeypatch, count):
    """Without the rounding of weights they compute the same."""
    monkeypatch.setattr(onnx_export, 'LARGE', 10**9)
    torch.manual_seed(count)
    network = random_refiner()
    files = write_refiner(network, REFINER_SPEC, tmp_path)
    check_graphs(refiner_graphs_of(network), files, refiner_inputs(REFINER_SPEC, count), 1e-4)


def test_pytorch_answers_the_same(refined_model):
    """It runs the weights that are kept beside the graphs, which are rounded otherwise."""
    answers = [load(refined_model, refine=2, backend=backend, precision='fp32')(
        IMAGE, CAMERA, DETECTIONS) for backend in ('onnxruntime', 'torch')]
    for a, b in zip(*answers, strict=True):
        assert_same_pose(a, b, 0.03)


def test_a_graph_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    """What is written is compared with the network."""
    network, other = random_refiner(), random_refiner()
    torch.nn.init.ones_(other.residual.output.bias)
    write = refiner_export.write_graphs
    monkeypatch.setattr(refiner_export, 'write_graphs', lambda _, *rest: write(
        refiner_graphs_of(other), *rest))
    with pytest.raises(ModelError, match='differs from the network'):
        write_refiner(network, REFINER_SPEC, tmp_path)


def test_the_rest_of_the_model_stays(tiny_model, refined_model):
    """Files, objects and graphs; the description has the refiner besides."""
    before, after = (json.loads((m.path / 'model.json').read_text())
                     for m in (tiny_model, refined_model))
    assert after[REFINER]['samples'] == 64
    assert RefinerSpec.from_dict(after[REFINER]['spec']) == REFINER_SPEC
    assert set(after['files']) - set(before['files']) == set(REFINER_FILES)
    assert {k: v for k, v in after['files'].items() if k in before['files']} == before['files']
    assert after['objects'] == before['objects'] and after['seal'] != before['seal']
    model = read_model_directory(refined_model.path, refined_model.meshes)
    assert model.refiner == REFINER_SPEC
    assert list(model.graphs) == ['stage1', 'template', 'stage2', 'refiner', 'refiner_template']
    assert set(stage_flops(refined_model.path)) == set(model.graphs)


@pytest.mark.parametrize(('change', 'problem'), [
    ({'nside': 0}, 'nside must be at least 1'), ({'nside': 2.5}, 'nside must be int'),
    ({'depth': 3}, 'unknown fields'), ({'preset': 'default'}, 'preset is')])
def test_an_entry_that_cannot_be_used_is_refused(refined_model, tmp_path, change, problem):
    """By name."""
    path = shutil.copytree(refined_model.path, tmp_path / 'model')
    values = json.loads((path / 'model.json').read_text())
    values[REFINER]['spec'] |= change
    (path / 'model.json').write_text(json.dumps(values))
    with pytest.raises(ModelError, match=problem):
        read_model_directory(path, refined_model.meshes)


def test_a_spec_that_was_changed_by_hand_is_refused(refined_model, tmp_path):
    """The seal tells: with other templates all answers would be wrong."""
    path = shutil.copytree(refined_model.path, tmp_path / 'model')
    values = json.loads((path / 'model.json').read_text())
    values[REFINER]['spec']['nside'] = 2
    (path / 'model.json').write_text(json.dumps(values))
    with pytest.raises(ModelError, match='was changed since its graphs were exported'):
        read_model_directory(path, refined_model.meshes)


def test_a_model_of_other_objects_is_refused(tiny_model, tmp_path):
    """Of another order, or with another size; and so is a directory without a model."""
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    checkpoint = checkpoint_of(random_refiner(), tmp_path / 'refiner.pt')
    config = refiner_config(tiny_model.config)
    entries = yaml.safe_load(config.models.read_text())
    turned = tmp_path / 'turned.yaml'
    for entry in entries:
        entry['mesh'] = str(config.models.parent / entry['mesh'])
    turned.write_text(yaml.safe_dump([{**entries[0], 'label': 'other'}, entries[1]]))
    with pytest.raises(ModelError, match=r"knows .*'blob'.*the refiner .*'other'"):
        export_refiner(checkpoint, dataclasses.replace(config, models=turned), path)
    values = json.loads((path / 'model.json').read_text())
    values['objects'][0]['diameter_m'] *= 1.01
    del values['seal']
    (path / 'model.json').write_text(json.dumps(values))
    with pytest.raises(ModelError, match='was made with'):
        export_refiner(checkpoint, config, path)
    with pytest.raises(ModelError, match='there is no such directory'):
        export_refiner(checkpoint, config, tmp_path / 'none')


def test_exporting_the_poses_again_keeps_the_refiner(refined_model, tmp_path):
    """It starts from any pose; objects of another size are other objects."""
    path, said = shutil.copytree(refined_model.path, tmp_path / 'model'), []
    before = (path / 'model.json').read_text()
    export_checkpoint(refined_model.checkpoint, refined_model.config, path, say=said.append)
    assert json.loads((path / 'model.json').read_text()) == json.loads(before)
    assert said == [f'{path}: kept the refiner']
    values = json.loads(before)
    values['objects'][0]['diameter_m'] *= 1.01
    (path / 'model.json').write_text(json.dumps(values))
    export_checkpoint(refined_model.checkpoint, refined_model.config, path, say=said.append)
    assert 'dropped the refiner: it is of other objects' in said[1]
    assert read_model_directory(path, refined_model.meshes).refiner is None


def test_another_refiner_makes_what_was_measured_with_the_first_invalid(refined_model, tmp_path):
    """Scores of refined poses and the verification; scores of unrefined ones stay."""
    path, said = shutil.copytree(refined_model.path, tmp_path / 'model'), []
    checkpoint = checkpoint_of(random_refiner(), tmp_path / 'refiner.pt', 128)
    config = refiner_config(refined_model.config)
    write_law(path, LAW, source(refine=0))
    export_refiner(checkpoint, config, path, say=said.append)
    assert read_model_directory(path, refined_model.meshes).plain_laws.score_law == LAW
    assert said == [f'{path}: a refiner of blob, box']
    write_law(path, LAW, source(refine=1))
    store_result(path, Execution(
        graphs_sha256=read_model_directory(path, refined_model.meshes).graphs_digest,
        device='GPU', backend='openvino', precision='fp16', version='1'), {'passed': True})
    export_refiner(checkpoint, config, path, say=said.append)
    after = read_model_directory(path, refined_model.meshes)
    assert after.refined_laws is None and after.plain_laws.score_law == LAW
    assert 'dropped the calibrations of refined poses: measured with another refiner' in said[2]
    assert 'verified.json is of other graphs' in said[3]


def test_the_command_adds_a_refiner(tiny_model, tmp_path, capsys):
    """The preset of the configuration says what its checkpoint is."""
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    checkpoint = checkpoint_of(random_refiner(), tmp_path / 'refiner.pt')
    own = tiny_model.config
    network = {k: list(v) if isinstance(v, tuple) else v
               for k, v in dataclasses.asdict(REFINER_SPEC.network).items()}
    (tmp_path / 'c.yaml').write_text(yaml.safe_dump({
        'preset': 'refiner', 'name': 'tiny', 'output': 'nowhere', 'cache': str(own.cache),
        'models': str(own.models), 'backgrounds': [str(b) for b in own.backgrounds],
        'distance_m': [0.4, 0.8], 'spec': {
            'nside': 1, 'template': dataclasses.asdict(REFINER_SPEC.template),
            'network': network}}))
    assert main(['export', str(tmp_path / 'c.yaml'), '--checkpoint', str(checkpoint),
                 '--output', str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    assert read_model_directory(path, tiny_model.meshes).refiner == REFINER_SPEC
