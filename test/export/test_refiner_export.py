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
from mrcnet_ros.export import onnx_export
from mrcnet_ros.export.arithmetic import refiner_inputs, stage_flops
from mrcnet_ros.export.directory import export_checkpoint
from mrcnet_ros.export.kept import keep_refiner
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
OTHER = ScoreLaw(offset=0.5, quality_gain=1.9, apart_gain=-0.2, usual_apart=0.05)


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
    answers = [load(refined_model, refine=1, backend=backend, precision='fp32')(
        IMAGE, CAMERA, DETECTIONS) for backend in ('onnxruntime', 'torch')]
    for a, b in zip(*answers, strict=True):
        assert_same_pose(a, b, 0.03)


def test_a_graph_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    """What is written is compared with the network."""
    network, other = random_refiner(), random_refiner()
    torch.nn.init.ones_(other.residual.output.bias)
    write = onnx_export.write_graphs
    monkeypatch.setattr(onnx_export, 'write_graphs', lambda _, *rest: write(
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
    ({'nside': 0}, 'nside must be 1 to 16'), ({'nside': 17}, 'nside must be 1 to 16'),
    ({'nside': 2.5}, 'nside must be int'),
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


def again(model, path) -> list[str]:
    """Export the poses of a model into a directory; return what is said of the refiner."""
    said: list[str] = []
    export_checkpoint(model.checkpoint, model.config, path, say=said.append)
    return [line.split(': ', 1)[1] for line in said if 'refiner' in line]


def test_exporting_the_poses_again_keeps_the_refiner(refined_model, tmp_path):
    """It starts from any pose, so weights of the stages do not matter."""
    path = shutil.copytree(refined_model.path, tmp_path / 'model')
    before = (path / 'model.json').read_text()
    assert again(refined_model, path) == ['kept the refiner']
    assert json.loads((path / 'model.json').read_text()) == json.loads(before)


def damage(path, what: str) -> None:
    """Change a directory so that its refiner is no longer that of the model."""
    values = json.loads((path / 'model.json').read_text())
    if what == 'missing':
        (path / 'refiner.onnx').unlink()
    elif what == 'replaced':
        (path / 'refiner.onnx').write_bytes(b'another')
    elif what == 'spec':
        values[REFINER]['spec']['nside'] = 2
    elif what == 'entry':
        values[REFINER] = 'x'
    elif what == 'files':
        values['files'] = None
    elif what == 'objects':
        values['objects'] = None
    elif what == 'size':
        values['objects'][0]['diameter_m'] *= 1.01
    elif what == 'prior':
        values['objects'][0]['view_prior'] = {
            'elevation_min_deg': 80.0, 'elevation_max_deg': 90.0, 'tilt_max_deg': 20.0}
    if what in ('files', 'objects', 'size', 'prior'):
        del values['seal']
    (path / 'model.json').write_text(json.dumps(values))


@pytest.mark.parametrize('what', ['missing', 'replaced', 'spec', 'entry', 'files', 'objects',
                                  'size', 'prior'])
def test_a_refiner_that_is_not_that_of_the_objects_is_dropped(refined_model, tmp_path, what):
    """It is told why, and the model can be used without it."""
    path = shutil.copytree(refined_model.path, tmp_path / 'model')
    damage(path, what)
    (line,) = again(refined_model, path)
    assert line.startswith('dropped the refiner: ')
    assert read_model_directory(path, refined_model.meshes).refiner is None


def test_a_model_of_the_paper_preset_gets_no_refiner(refined_model, tmp_path):
    """Neither by an export of one nor by one that is there already."""
    path = shutil.copytree(refined_model.path, tmp_path / 'model')
    values = json.loads((path / 'model.json').read_text())
    assert keep_refiner(path, {**values, 'spec': {'preset': 'paper'}}) == [
        'dropped the refiner: it is for models of the preset default']
    values['spec']['preset'] = 'paper'
    del values['seal'], values[REFINER]
    (path / 'model.json').write_text(json.dumps(values))
    with pytest.raises(ModelError, match='is none of a model of the default preset'):
        export_refiner(checkpoint_of(random_refiner(), tmp_path / 'refiner.pt'),
                       refiner_config(refined_model.config), path)


def test_the_mean_of_two_refiners_lies_between_them(tiny_model, refined_model, tmp_path):
    """A model without one has nothing to be averaged with."""
    checkpoint = checkpoint_of(random_refiner(), tmp_path / 'refiner.pt')
    state = torch.load(checkpoint, weights_only=True)
    state['average']['residual.output.bias'] += 1.0
    torch.save(state, checkpoint)
    config = refiner_config(tiny_model.config)
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    with pytest.raises(ModelError, match='has no refiner'):
        export_refiner(checkpoint, config, path, tiny_model.path)
    export_refiner(checkpoint, config, path, refined_model.path)
    means, one, other = (torch.load(file, weights_only=True)['average']['residual.output.bias']
                         for file in (path / 'refiner_weights.pt', checkpoint,
                                      refined_model.path / 'refiner_weights.pt'))
    torch.testing.assert_close(means.float(), (one + other.float()) / 2, atol=1e-3, rtol=1e-3)


def test_another_refiner_makes_what_was_measured_with_the_first_invalid(refined_model, tmp_path):
    """Scores of refined poses and the verification; scores of unrefined ones stay."""
    path, said = shutil.copytree(refined_model.path, tmp_path / 'model'), []
    checkpoint = checkpoint_of(random_refiner(), tmp_path / 'refiner.pt', 128)
    config = refiner_config(refined_model.config)
    write_law(path, LAW, source(refine=0))
    export_refiner(checkpoint, config, path, say=said.append)
    assert read_model_directory(path, refined_model.meshes).plain_laws.score_law == LAW
    assert said == [f'{path}: a refiner of blob, box']
    write_law(path, OTHER, source(refine=1))
    assert read_model_directory(path, refined_model.meshes).laws(1).score_law == OTHER
    store_result(path, Execution(
        graphs_sha256=read_model_directory(path, refined_model.meshes).graphs_digest,
        device='GPU', backend='openvino', precision='fp16', version='1'), {'passed': True})
    export_refiner(checkpoint, config, path, say=said.append)
    after = read_model_directory(path, refined_model.meshes)
    assert after.laws(1).score_law == after.plain_laws.score_law == LAW
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
