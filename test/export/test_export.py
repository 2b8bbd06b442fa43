"""Exported graphs compute what the network does, and directories are written whole."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

import numpy as np
import torch
from small_training import write_whole_config
from tiny_model import SPEC, TinyModel
from torch import nn

from mrcnet_ros.cli.main import main
from mrcnet_ros.errors import ModelError, SpecError
from mrcnet_ros.export import directory, onnx_export
from mrcnet_ros.export.arithmetic import example_inputs
from mrcnet_ros.export.directory import export_checkpoint
from mrcnet_ros.export.onnx_export import export_graphs
from mrcnet_ros.inference.calibration_entries import write_law, write_size_ratios
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.inference.uncertainty import CovarianceLaw
from mrcnet_ros.model_json import seal_of, sha256_of
from mrcnet_ros.network.graphs import Stage1Graph, Stage2Graph, TemplateGraph
from mrcnet_ros.network.mrcnet import MrcNet, Pyramid
from mrcnet_ros.runtimes.onnxruntime_backend import OnnxRuntimeBackend
from mrcnet_ros.runtimes.verified import Execution, store_result
from mrcnet_ros.specs import FORMAT_VERSION, SEEN, START
from mrcnet_ros.training.checkpoint import save_checkpoint

LAW = CovarianceLaw(lateral_floor=0.01, lateral_gain=0.4, depth_floor=0.02, depth_gain=0.5,
                    rotation_floor_rad=0.06, rotation_gain=0.5, score_exponent=0.3)


def largest_difference(network: MrcNet, files: dict[str, Path], count: int) -> float:
    """Return by how much any output differs at a batch size, in parts of its largest value."""
    backend = OnnxRuntimeBackend(files, threads=1)
    graphs: dict[str, nn.Module] = {
        'stage1': Stage1Graph(network), 'template': TemplateGraph(network),
        'stage2': Stage2Graph(network)}
    torch.manual_seed(100 + count)
    worst = 0.0
    for name, inputs in example_inputs(SPEC, count).items():
        inputs['class_index'] = torch.arange(count) % 2
        with torch.no_grad():
            expected = graphs[name](*inputs.values())
        found = backend.run(name, {k: v.numpy() for k, v in inputs.items()})
        assert tuple(found) == graphs[name].outputs
        for array, tensor in zip(found.values(), expected, strict=True):
            assert array.shape == tuple(tensor.shape)
            difference = np.abs(array - tensor.numpy()).max() / float(tensor.abs().max())
            worst = max(worst, float(difference))
    return worst


@pytest.fixture
def network(tiny_model: TinyModel) -> MrcNet:
    """Return the network that was exported."""
    return tiny_model.network


@pytest.mark.parametrize('count', [1, 2, 5])
def test_graphs_equal_the_network_at_any_batch_size(tiny_model, network, count):
    """Of every output the exported graphs give what torch does, to the rounding of weights."""
    files = {g: tiny_model.path / f'{g}.onnx' for g in ('stage1', 'template', 'stage2')}
    assert largest_difference(network, files, count) < 2e-2


def test_without_rounding_of_weights_the_graphs_are_equal(network, tmp_path, monkeypatch):
    """In single precision the graphs differ from torch by nothing but the order of sums."""
    monkeypatch.setattr(onnx_export, 'LARGE', 1 << 60)
    files = export_graphs(network, SPEC, tmp_path)
    for count in (1, 5):
        assert largest_difference(network, files, count) < 1e-4


def test_large_weights_take_half_the_space(network, tmp_path, monkeypatch):
    """Weights are stored in half precision, and the graph still takes and gives single."""
    small = export_graphs(network, SPEC, tmp_path)['stage1'].stat().st_size
    monkeypatch.setattr(onnx_export, 'LARGE', 1 << 60)
    assert small < 0.75 * export_graphs(network, SPEC, tmp_path)['stage1'].stat().st_size


def test_the_parts_together_are_the_whole(network):
    """The three graphs in a row give what the network gives that was trained."""
    inputs = example_inputs(SPEC, 3)
    image, classes = inputs['stage1']['image'], torch.tensor([0, 1, 1])
    template_image, coordinates = inputs['template']['image'].flip(0), torch.rand(3, 4, 8, 8)
    with torch.no_grad():
        stage1 = dict(zip(Stage1Graph.outputs, Stage1Graph(network)(image, classes), strict=True))
        maps = TemplateGraph(network)(template_image, classes)
        names = (*SEEN, *START)
        x = {n: stage1[n] for n in names}
        split = Stage2Graph(network)(
            x['x4'], x['x8'], x['x16'], x['dense'], *maps, coordinates, x['xy'], x['log_size'],
            classes)
        floats = [i.permute(0, 3, 1, 2).float() for i in (image, template_image)]
        crop: Pyramid = network.backbone(floats[0], classes)
        coarse = network.coarse(crop.x16, classes)
        template = network.backbone(floats[1], classes)._replace(dense=coordinates)
        whole = network.residual(crop, template, coarse.xy, coarse.log_size, classes)
    for a, b in zip(split, whole, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_graph_that_computes_something_else_is_not_written(network, tmp_path, monkeypatch):
    """An export that is not equal to the network is an error that names the graph."""
    trace = onnx_export.trace_graph

    def wrong(graph: nn.Module, example: dict[str, torch.Tensor], axes: None) -> bytes:
        if isinstance(graph, Stage2Graph):
            kept = graph.residual.output.bias.detach().clone()
            graph.residual.output.bias.data += 1.0
            data = trace(graph, example, axes)
            graph.residual.output.bias.data.copy_(kept)
            return data
        return trace(graph, example, axes)

    monkeypatch.setattr(onnx_export, 'trace_graph', wrong)
    with pytest.raises(ModelError, match=r'stage2\.onnx.*output six differs from the network'):
        export_graphs(network, SPEC, tmp_path)


def test_exporting_again_gives_the_same_model(tiny_model, tmp_path):
    """Two exports of a checkpoint have the same digest, which holds those of all files."""
    again = export_checkpoint(tiny_model.checkpoint, tiny_model.config, tmp_path / 'again')
    first, second = (read_model_directory(p, tiny_model.meshes) for p in (tiny_model.path, again))
    assert first.digest == second.digest
    assert sorted(p.name for p in again.iterdir()) == [
        'model.json', 'stage1.onnx', 'stage2.onnx', 'template.onnx', 'weights.pt']


def test_a_model_tells_nothing_of_the_machine_that_trained_it(tiny_model, tmp_path):
    """Folders of the configuration stay at home, for models are given away."""
    folder = str(tiny_model.config.output.parent).encode()
    assert folder in tiny_model.checkpoint.read_bytes()
    model = export_checkpoint(tiny_model.checkpoint, tiny_model.config, tmp_path / 'model')
    assert [p.name for p in model.iterdir() if folder in p.read_bytes()] == []


def test_files_that_are_no_part_of_a_model_stay(tiny_model, tmp_path):
    """A model card in the directory outlives an export, also one over an older model."""
    (tmp_path / 'README.md').write_text('a card')
    (tmp_path / 'model.json').write_text('old')
    export_checkpoint(tiny_model.checkpoint, tiny_model.config, tmp_path)
    assert (tmp_path / 'README.md').read_text() == 'a card'
    assert json.loads((tmp_path / 'model.json').read_text())['format_version'] == FORMAT_VERSION


def calibrated(tiny_model, folder):
    """Export a model and write sizes and a covariance into it."""
    path = export_checkpoint(tiny_model.checkpoint, tiny_model.config, folder)
    write_size_ratios(path, {'box': 0.9})
    write_law(path, LAW)
    return path


def test_exporting_the_same_weights_over_a_calibrated_model_keeps_all(tiny_model, tmp_path):
    """Sizes and covariance are there as before, and it is said."""
    path, said = calibrated(tiny_model, tmp_path / 'model'), []
    before = (path / 'model.json').read_text()
    export_checkpoint(tiny_model.checkpoint, tiny_model.config, path, say=said.append)
    assert json.loads((path / 'model.json').read_text()) == json.loads(before)
    assert [line.split(': ', 1)[1] for line in said] == [
        'kept size_ratio of box', 'kept covariance: the graphs are the same']


def test_exporting_other_weights_keeps_sizes_and_says_that_the_covariance_is_dropped(
        tiny_model, tmp_path):
    """A size belongs to the object and its mesh, a covariance to the weights."""
    path, said = calibrated(tiny_model, tmp_path / 'model'), []
    store_result(path, Execution(
        graphs_sha256=read_model_directory(path, tiny_model.meshes).graphs_digest, device='GPU',
        backend='openvino', precision='fp16', version='1'), {'passed': True})
    state = torch.load(tiny_model.checkpoint, weights_only=True)
    state['average'] = {k: 1.1 * v if v.is_floating_point() else v
                        for k, v in state['average'].items()}
    torch.save(state, tmp_path / 'other.pt')
    export_checkpoint(tmp_path / 'other.pt', tiny_model.config, path, say=said.append)
    model = read_model_directory(path, tiny_model.meshes)
    assert {o.label: o.size_ratio for o in model.objects} == {'blob': 1.0, 'box': 0.9}
    assert model.plain_laws.covariance_law is None
    assert 'dropped covariance: measured with other graphs; run mrcnet calibrate' in said[1]
    assert 'verified.json is of other graphs: until mrcnet verify passes again' in said[2]


def test_a_size_of_another_mesh_is_dropped_and_it_is_said(tiny_model, tmp_path):
    """It was measured against a mesh that is not there any more."""
    path, said = calibrated(tiny_model, tmp_path / 'model'), []
    values = json.loads((path / 'model.json').read_text())
    values['objects'][1]['mesh_sha256'] = 'of an older mesh'
    (path / 'model.json').write_text(json.dumps(values))
    export_checkpoint(tiny_model.checkpoint, tiny_model.config, path, say=said.append)
    assert all(o.size_ratio == 1.0 for o in read_model_directory(path, tiny_model.meshes).objects)
    assert said[0].endswith('dropped size_ratio of box: measured with another mesh')


def test_sizes_stay_with_the_objects_when_a_training_goes_on_elsewhere(tiny_model, tmp_path):
    """They are those of the start where its mesh is the same; of other objects nothing is said."""
    start, said = calibrated(tiny_model, tmp_path / 'start'), []
    config = dataclasses.replace(tiny_model.config, init=start)
    path = export_checkpoint(tiny_model.checkpoint, config, tmp_path / 'new', say=said.append)
    sizes = {o.label: o.size_ratio for o in read_model_directory(path, tiny_model.meshes).objects}
    assert sizes == {'blob': 1.0, 'box': 0.9}
    assert said == [f'{path}: kept size_ratio of box ({start})']
    values = json.loads((start / 'model.json').read_text())
    values['objects'][0] |= {'label': 'gone', 'size_ratio': 1.1}
    values['objects'][1]['unit_m'] = 0.0254
    (start / 'model.json').write_text(json.dumps(values))
    export_checkpoint(tiny_model.checkpoint, config, tmp_path / 'other', say=said.append)
    entries = json.loads((tmp_path / 'other' / 'model.json').read_text())['objects']
    assert not any('size_ratio' in entry for entry in entries)
    assert said[1:] == [f'{tmp_path / "other"}: dropped size_ratio of box: measured with another '
                        f'mesh ({start})']


def test_sizes_of_the_start_are_taken_beside_a_detector_alone(tiny_model, tmp_path):
    """Which of the two is exported first makes no difference."""
    start, said = calibrated(tiny_model, tmp_path / 'start'), []
    path = tmp_path / 'model'
    path.mkdir()
    (path / 'model.json').write_text(json.dumps({
        'format_version': FORMAT_VERSION, 'name': 'x', 'files': {}, 'detector': {}}))
    export_checkpoint(tiny_model.checkpoint, dataclasses.replace(tiny_model.config, init=start),
                      path, say=said.append)
    sizes = {o.label: o.size_ratio for o in read_model_directory(path, tiny_model.meshes).objects}
    assert sizes == {'blob': 1.0, 'box': 0.9}
    assert said[0] == f'{path}: kept size_ratio of box ({start})'


def test_an_output_that_is_a_file_is_told(tiny_model, tmp_path, capsys):
    """By its name and without a traceback; it stays as it is."""
    write_whole_config(tmp_path / 'train.yaml', tiny_model.config)
    (tmp_path / 'model').write_text('notes')
    for output in (tmp_path / 'model', tmp_path / 'model' / 'new'):
        assert main(['export', str(tmp_path / 'train.yaml'), '--checkpoint',
                     str(tiny_model.checkpoint), '--output', str(output)]) == 2
        assert re.search(r'model(/new)? cannot be used \(.*\); give a folder instead of .* file',
                         capsys.readouterr().err)
    assert (tmp_path / 'model').read_text() == 'notes'


def test_a_failed_export_leaves_the_old_model(tiny_model, tmp_path, monkeypatch):
    """When the graphs cannot be made, nothing in the directory changes and nothing is left."""
    target = export_checkpoint(tiny_model.checkpoint, tiny_model.config, tmp_path / 'model')
    before = {p.name: p.read_bytes() for p in target.iterdir()}

    def fail(*_: object) -> None:
        raise ModelError(target, 'for the test')

    monkeypatch.setattr(directory, 'export_graphs', fail)
    with pytest.raises(ModelError, match='for the test'):
        export_checkpoint(tiny_model.checkpoint, tiny_model.config, target)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == before


def test_a_model_says_what_it_was_made_for(tiny_model):
    """The description holds the objects in class order with all that inference needs."""
    model = read_model_directory(tiny_model.path, tiny_model.meshes)
    objects = tiny_model.config.load_objects()
    assert [o.label for o in model.objects] == ['blob', 'box']
    assert [o.object_id for o in model.objects] == [2, 7]
    assert model.spec == SPEC
    assert model.view_priors == {2: None, 7: None}
    for found, given in zip(model.objects, objects, strict=True):
        assert found.diameter_m == given.diameter_m
        assert found.mesh_sha256 == given.checked_digest()
        np.testing.assert_allclose(found.symmetries.transforms, given.symmetries.transforms)
        np.testing.assert_allclose(found.bounds(), given.bounds())


def test_a_checkpoint_of_another_configuration_is_refused(tiny_model, tmp_path):
    """A checkpoint is exported only with the spec it was trained with."""
    values = SPEC.to_dict()
    other = type(SPEC).from_dict({**values, 'bins': {**values['bins'], 'cells': 5}})
    config = dataclasses.replace(tiny_model.config, spec=other)
    with pytest.raises((ModelError, SpecError), match=r'checkpoint\.pt.*another model spec'):
        export_checkpoint(tiny_model.checkpoint, config, tmp_path / 'model')
    assert not (tmp_path / 'model').exists()


def test_a_checkpoint_is_exported_with_the_fields_that_its_training_set(tiny_model, tmp_path,
                                                                        capsys):
    """As ``mrcnet train --set`` had them; without, the message names the option."""
    wide = dataclasses.replace(SPEC, network=dataclasses.replace(SPEC.network, hidden=24))
    save_checkpoint(tmp_path / 'checkpoint.pt', {
        'average': MrcNet(spec=wide, objects=2).state_dict(), 'step': 0}, wide)
    write_whole_config(tmp_path / 'train.yaml', tiny_model.config)
    words = ['export', str(tmp_path / 'train.yaml'), '--checkpoint',
             str(tmp_path / 'checkpoint.pt'), '--output', str(tmp_path / 'model')]
    assert main(words) == 2
    assert 'network.hidden 24, the configuration has 16; ' in (told := capsys.readouterr().err)
    assert '--set spec...' in told
    assert main([*words, '--set', 'spec.network.hidden=24']) == 0
    assert read_model_directory(tmp_path / 'model', tiny_model.meshes).spec == wide


def weights_of(folder):
    """Return the weights of a model directory."""
    return torch.load(folder / 'weights.pt', weights_only=True)['average']


def test_a_mean_lies_between_the_model_and_the_one_it_came_from(tiny_model, tmp_path):
    """Each weight is half way; with itself a model stays what it is."""
    other = shutil.copytree(tiny_model.path, tmp_path / 'other')
    state = torch.load(other / 'weights.pt', weights_only=True)
    state['average'] = {k: v + 1 if v.is_floating_point() else v
                        for k, v in state['average'].items()}
    torch.save(state, other / 'weights.pt')
    values = json.loads((other / 'model.json').read_text())
    values['files']['weights.pt'] = sha256_of(other / 'weights.pt')
    (other / 'model.json').write_text(json.dumps({**values, 'seal': seal_of(values)}))
    for model, offset in ((tiny_model.path, 0.0), (other, 0.5)):
        mean = weights_of(export_checkpoint(tiny_model.checkpoint, tiny_model.config,
                                            tmp_path / 'mean', mean_with=model))
        for name, value in weights_of(tiny_model.path).items():
            if value.is_floating_point():
                torch.testing.assert_close(mean[name].float(), value.float() + offset,
                                           atol=2e-3, rtol=2e-3)


def test_a_mean_with_a_model_of_other_objects_is_refused(tiny_model, tmp_path):
    """Rows would belong to other objects."""
    other = shutil.copytree(tiny_model.path, tmp_path / 'other')
    values = json.loads((other / 'model.json').read_text())
    values['objects'].reverse()
    (other / 'model.json').write_text(json.dumps({**values, 'seal': seal_of(values)}))
    with pytest.raises(ModelError, match=r"knows \['box', 'blob'\], the checkpoint \['blob"):
        export_checkpoint(tiny_model.checkpoint, tiny_model.config, tmp_path / 'mean',
                          mean_with=other)
    assert not (tmp_path / 'mean').exists()


def test_a_training_that_has_not_ended_is_told(tiny_model, tmp_path):
    """Its model loads and answers as any other, with poses that are worse than need be."""
    state = torch.load(tiny_model.checkpoint, weights_only=True)
    for changes, told in (
            ({'step': 24}, ''), ({'step': 8}, 'at step 8 of 24, so'),
            ({'step': 8, 'spent': 1.0, 'config': state['config'] | {'minutes': 2.0}}, ''),
            ({'step': 8, 'spent': 0.25, 'config': state['config'] | {'minutes': 2.0}},
             'at step 8 of 24, after 25% of 2 minutes, so')):
        said: list[str] = []
        torch.save(state | changes, tmp_path / 'last.pt')
        export_checkpoint(tmp_path / 'last.pt', tiny_model.config, tmp_path / 'model',
                          say=said.append)
        lines = [line for line in said if 'has not ended' in line]
        assert len(lines) == bool(told)
        assert told in ''.join(lines)
