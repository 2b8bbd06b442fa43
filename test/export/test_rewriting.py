"""The graphs of a model are written again from its weights, and nothing else of it changes."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

import numpy as np
import onnx
import torch
from tiny_model import TinyModel

from mrcnet_ros import model_json
from mrcnet_ros.cli.main import main
from mrcnet_ros.errors import ModelError, SpecError
from mrcnet_ros.export.rewriting import rewrite_graphs
from mrcnet_ros.inference.calibration_entries import write_size_ratios
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.model_json import SEAL, seal_of, sha256_of
from mrcnet_ros.network import mrcnet
from mrcnet_ros.runtimes.verified import Execution, store_result


def change(model: Path, graph: str, output: str, factor: float) -> None:
    """Multiply an output of a graph, as another way of writing it would with a factor of 1."""
    path = model / f'{graph}.onnx'
    made = onnx.load(path)
    for node in made.graph.node:
        node.output[:] = [f'{name}.before' if name == output else name for name in node.output]
        node.input[:] = [f'{name}.before' if name == output else name for name in node.input]
    by = f'{output}.by'
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(factor), by))
    made.graph.node.append(onnx.helper.make_node('Mul', [f'{output}.before', by], [output]))
    onnx.save(made, path)
    seal(model, path)


def seal(model: Path, path: Path) -> None:
    """Make model.json name a changed file."""
    values = json.loads((model / 'model.json').read_text())
    values['files'][path.name] = sha256_of(path)
    (model / 'model.json').write_text(json.dumps({**values, SEAL: seal_of(values)}))


def contents(model: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(model.iterdir())}


@pytest.fixture
def model(refined_model: TinyModel, tmp_path: Path) -> Path:
    """Return a copy of a model with a refiner and a calibration, of graphs of another release."""
    path = shutil.copytree(refined_model.path, tmp_path / 'model')
    for graph, output in (('stage1', 'x8'), ('stage2', 'six'), ('refiner', 'quality')):
        change(path, graph, output, 1.0)
    write_size_ratios(path, {'blob': 0.98})
    return path


def test_graphs_are_those_of_this_release_and_the_rest_stays(model, refined_model):
    """Each graph is what an export writes; weights, calibrations and other files stay."""
    (model / 'README.md').write_text('a card')
    before, values = contents(model), json.loads((model / 'model.json').read_text())
    said: list[str] = []
    assert rewrite_graphs(model, say=said.append) == model
    after = contents(model)
    names = {'stage1.onnx', 'template.onnx', 'stage2.onnx', 'refiner.onnx',
             'refiner_template.onnx'}
    assert {name: after[name] for name in names} == {
        name: (refined_model.path / name).read_bytes() for name in names}
    assert {n: d for n, d in after.items() if n not in names | {'model.json'}} == {
        n: d for n, d in before.items() if n not in names | {'model.json'}}
    written = json.loads(after['model.json'])
    same = set(values) - {'files', SEAL}
    assert {name: written[name] for name in same} == {name: values[name] for name in same}
    read = read_model_directory(model, refined_model.meshes)
    assert read.objects[0].size_ratio == 0.98
    assert said == [f'{model}: wrote stage1, template, stage2, refiner, refiner_template again']


def test_graphs_of_this_release_are_told(refined_model, tmp_path):
    """Then nothing has changed, and nothing has to be verified again."""
    path = shutil.copytree(refined_model.path, tmp_path / 'model')
    before, said = contents(path), []
    rewrite_graphs(path, say=said.append)
    assert said[1:] == [f'{path}: its graphs were those of this release already']
    assert json.loads(contents(path)['model.json']) == json.loads(before['model.json'])


def test_a_verification_of_the_former_graphs_is_told_to_be_void(model, refined_model):
    """Which falls back to fp32 until it is repeated."""
    digest = read_model_directory(model, refined_model.meshes).graphs_digest
    store_result(model, Execution(graphs_sha256=digest, device='CPU', backend='openvino',
                                  precision='bf16', version='1'), {'passed': True})
    said: list[str] = []
    rewrite_graphs(model, say=said.append)
    assert 'verified.json is of other graphs' in said[1]


@pytest.mark.parametrize(('graph', 'output'), [
    ('stage1', 'rotation_logits'), ('stage2', 'fine_log_size'), ('refiner', 'six')])
def test_graphs_of_other_weights_are_not_replaced(model, graph, output):
    """Which of both is right cannot be known; calibrations are of the former graphs."""
    change(model, graph, output, 1.1)
    before = contents(model)
    with pytest.raises(ModelError, match=rf'{graph}\.onnx: its output {output} is not'):
        rewrite_graphs(model)
    assert contents(model) == before


def test_each_object_has_its_rows_compared(model):
    """Rows of the weights of one object, which the others do not show."""
    weights = model / 'weights.pt'
    state = torch.load(weights, weights_only=True)
    state['average']['backbone.up8.gain'][1] *= -3.0
    torch.save(state, weights)
    seal(model, weights)
    before = contents(model)
    with pytest.raises(ModelError, match='is not that of the weights beside it'):
        rewrite_graphs(model)
    assert contents(model) == before


def test_what_aligns_the_template_is_compared(model, monkeypatch):
    """A warp to another place is seen: rows differ in place and size."""
    usual = mrcnet.warp_template
    monkeypatch.setattr(mrcnet, 'warp_template', lambda maps, xy, ratio: usual(maps, -xy, ratio))
    with pytest.raises(ModelError, match=r'stage2\.onnx: its output \w+ is not that'):
        rewrite_graphs(model)


def test_graphs_with_other_outputs_are_not_replaced(model):
    """As an earlier release may have written them."""
    path = model / 'stage2.onnx'
    made = onnx.load(path)
    del made.graph.output[-1]
    onnx.save(made, path)
    seal(model, path)
    with pytest.raises(ModelError, match=r'stage2\.onnx: has the outputs'):
        rewrite_graphs(model)


def test_a_full_disk_leaves_the_model_as_it_was(model, refined_model, monkeypatch):
    """The last file that is written is model.json; no graph is replaced before."""
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = contents(model)
    monkeypatch.setattr(model_json, 'write_atomically', full)
    with pytest.raises(ModelError, match=r'No space left on device.*free some space'):
        rewrite_graphs(model)
    assert contents(model) == before
    read_model_directory(model, refined_model.meshes)


@pytest.mark.parametrize('entry', ['spec', 'files', 'objects'])
def test_an_incomplete_description_is_refused(model, entry):
    """As one of an earlier release that has no seal."""
    values = json.loads((model / 'model.json').read_text())
    del values[entry], values[SEAL]
    (model / 'model.json').write_text(json.dumps(values))
    with pytest.raises(ModelError, match=entry):
        rewrite_graphs(model)


def test_a_model_without_its_weights_is_refused(model):
    """Nothing is replaced."""
    (model / 'weights.pt').unlink()
    before = contents(model)
    with pytest.raises(ModelError, match=r'weights\.pt'):
        rewrite_graphs(model)
    assert contents(model) == before


def test_a_model_of_the_paper_preset_is_refused(model):
    """Its checkpoint is imported again."""
    values = json.loads((model / 'model.json').read_text())
    values['spec']['preset'] = 'paper'
    (model / 'model.json').write_text(json.dumps({**values, SEAL: seal_of(values)}))
    with pytest.raises(SpecError, match='mrcnet import-checkpoint'):
        rewrite_graphs(model)


def test_the_command_says_what_it_wrote(model, capsys):
    """And refuses options that would have no effect."""
    assert main(['export', '--model', str(model), '--graphs']) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(model) and 'wrote stage1' in captured.err
    assert main(['export', '--model', str(model)]) == 2
    assert '--graphs' in capsys.readouterr().err
    assert main(['export', '--model', str(model), '--graphs', '--precision', 'fp16']) == 2
    assert '--precision would have no effect' in capsys.readouterr().err
