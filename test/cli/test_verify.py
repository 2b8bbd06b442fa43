"""The verify command, with the real estimator on a small generated dataset."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import bop_folder
import numpy as np
import pytest

pytest.importorskip('onnx', reason='needs the train extra')
pytest.importorskip('torch', reason='needs the train extra')

import onnx

from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.datasets.boxes import BoxSpec
from mrcnet_ros.errors import SpecError
from mrcnet_ros.evaluation.verification import (
    AnswerComparison,
    VerificationLimits,
    compare_answers,
    verdict,
)
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.inference.poses import FrameResult, PoseEstimate
from mrcnet_ros.model_json import SEAL, seal_of
from mrcnet_ros.objects import load_bop_objects
from mrcnet_ros.runtimes import backends


@pytest.fixture
def root(tmp_path, tiny_model, monkeypatch) -> Path:
    """Return a folder with a dataset and a model whose objects have the dataset's numbers."""
    monkeypatch.setenv('MRCNET_CACHE', str(tiny_model.store))
    bop_folder.write_dataset(tmp_path)
    take_model(tiny_model.path, tmp_path)
    return tmp_path


def take_model(path: Path, root: Path) -> None:
    """Copy a model, whose objects get the dataset's numbers."""
    shutil.copytree(path, root / 'model', dirs_exist_ok=True)
    file = root / 'model' / 'model.json'
    values = json.loads(file.read_text())
    for entry, object_id in zip(values['objects'], bop_folder.MESHES, strict=True):
        entry['object_id'] = object_id
    file.write_text(json.dumps(values))


def verify(root: Path, tiny_model, *extra: str) -> int:
    return mrcnet.main(['verify', '--model', str(root / 'model'), '--meshes',
                        str(tiny_model.meshes), '--bop-dir', str(root), '--dataset', 'toy',
                        '--threads', '1', *extra])


def results(root: Path) -> list:
    return json.loads((root / 'model' / 'verified.json').read_text())['results']


def take_over(graph: Path) -> None:
    """Make model.json name a changed graph, and seal it anew."""
    file = graph.with_name('model.json')
    values = json.loads(file.read_text())
    values['files'][graph.name] = hashlib.sha256(graph.read_bytes()).hexdigest()
    file.write_text(json.dumps({**values, SEAL: seal_of(values)}))


def spoil(root: Path, graph: str, output: str, by: float) -> None:
    """Add a constant to an output of a graph, and make model.json name the new file."""
    path = root / 'model' / f'{graph}.onnx'
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = [f'{name}.right' if name == output else name for name in node.output]
        node.input[:] = [f'{name}.right' if name == output else name for name in node.input]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(by), 'error'))
    model.graph.node.append(onnx.helper.make_node('Add', [f'{output}.right', 'error'], [output]))
    onnx.save(model, path)
    take_over(path)


def test_equal_poses_pass_and_the_result_is_kept(root, tiny_model, capsys):
    """ONNX Runtime answers every detection as PyTorch does."""
    assert verify(root, tiny_model, '--max-flips', '0') == 0
    (result,) = results(root)
    assert result['passed'] and result['reasons'] == []
    assert result['execution']['backend'] == 'onnxruntime'
    assert result['execution']['precision'] == 'fp32'
    model = read_model_directory(root / 'model', tiny_model.meshes)
    assert result['execution']['graphs_sha256'] == model.graphs_digest
    assert result['reference']['backend'] == 'torch'
    assert result['limits'] == {'move': 0.05, 'moved': 0.01, 'flips': 0.0}
    assert result['figures']['detections'] == 5 and result['figures']['flips'] == 0
    assert 0 < result['figures']['move_diameters']['max'] < 0.05
    assert result['images']['count'] == 2 and result['command'].startswith('mrcnet verify')
    printed = capsys.readouterr().out
    assert '5 detections, 0 from another rotation bin, 0 too far' in printed
    assert 'passed' in printed


def test_a_graph_that_moves_poses_fails(root, tiny_model, capsys):
    """A tenth more in the logarithm of the size is a tenth of the distance."""
    spoil(root, 'stage2', 'fine_log_size', 0.1)
    assert verify(root, tiny_model) == 1
    (result,) = results(root)
    assert not result['passed'] and 'move by more than 0.05 diameters' in result['reasons'][0]
    assert result['figures']['flips'] == 0
    assert 'FAILED' in capsys.readouterr().out
    assert verify(root, tiny_model, '--max-move', '1') == 0
    assert [r['passed'] for r in results(root)] == [True]


def test_a_refiner_that_moves_poses_fails(root, refined_model, capsys):
    """Poses are compared before it and after it; before it, nothing is wrong."""
    take_model(refined_model.path, root)
    assert verify(root, refined_model) == 0
    assert '10 detections' in capsys.readouterr().out
    spoil(root, 'refiner', 'fine_log_size', 0.3)
    assert verify(root, refined_model) == 1
    (result,) = results(root)
    assert not result['passed'] and 'move by more than 0.05 diameters' in result['reasons'][0]


def test_a_graph_that_decides_otherwise_fails(root, tiny_model):
    """However near the poses may be: the most likely bins are turned into the least likely."""
    path = root / 'model' / 'stage1.onnx'
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = [f'{n}.right' if n == 'rotation_logits' else n for n in node.output]
    model.graph.node.append(
        onnx.helper.make_node('Neg', ['rotation_logits.right'], ['rotation_logits']))
    onnx.save(model, path)
    take_over(path)
    assert verify(root, tiny_model, '--max-move', '1') == 1
    (result,) = results(root)
    assert result['figures']['flips'] == 5 and result['figures']['move_diameters'] is None
    assert '5 of 5 detections are refined from another bin' in result['reasons'][0]


def test_without_torch_onnxruntime_is_the_reference(root, tiny_model, monkeypatch, capsys):
    """And cannot be verified against itself."""
    monkeypatch.setattr(backends, '_importable', lambda name: name != 'torch')
    assert verify(root, tiny_model) == 2
    said = capsys.readouterr().err
    assert 'onnxruntime is the reference itself here: torch needs torch, not installed' in said
    pytest.importorskip('openvino', reason='needs the extra openvino')
    assert verify(root, tiny_model, '--backend', 'openvino', '--precision', 'fp32') == 0
    (result,) = results(root)
    assert result['reference']['backend'] == 'onnxruntime'
    assert 'reference is onnxruntime: torch needs torch' in capsys.readouterr().err


def test_a_read_only_model_is_named(root, tiny_model, monkeypatch, capsys):
    """The comparison is not lost silently."""
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('mrcnet_ros.store.atomic.os.replace', refuse)
    assert verify(root, tiny_model) == 2
    said = capsys.readouterr()
    assert 'verified.json: cannot be written: Permission denied; use a copy' in said.err
    assert 'moved [diameters]' in said.out and 'passed' in said.out
    assert not list((root / 'model').glob('.verified*'))


@pytest.mark.parametrize(('option', 'value'), [
    ('--max-move', '-1'), ('--max-moved', 'nan'), ('--max-flips', '1.5')])
def test_limits_must_be_parts(root, tiny_model, option, value, capsys):
    """They are refused before anything is loaded."""
    assert verify(root, tiny_model, option, value) == 2
    assert 'expected 0 to 1' in capsys.readouterr().err


class Answers:
    """An estimator that says what it was told to, about each detection."""

    def __init__(self, root: Path, poses: dict[int, np.ndarray], bin_index: int = 4):
        models = load_bop_objects(root / 'toy' / 'models_eval')
        self.objects = {model.label: model for model in models.values()}
        self.poses, self.bin_index = poses, bin_index

    def estimate(self, image_rgb, camera, detections, most=None):
        """Answer."""
        return FrameResult([
            PoseEstimate(detections[i].label, 1, T, 0.5, i, '', detections[i].box_xyxy,
                         self.bin_index)
            for i, T in self.poses.items()], [])


@pytest.fixture
def frames(tmp_path):
    """Return one image, of object 1 and object 3, whose quarter turns about z look the same."""
    bop_folder.write_dataset(tmp_path)
    return BopDataset(tmp_path, 'toy').frames[:1]


def test_a_quarter_turn_of_a_symmetric_object_is_no_move(frames, tmp_path):
    """For the other one it is."""
    T, turn = bop_folder.pose(0, 0, 1.0), bop_folder.SYMMETRIES[3][0]
    one = Answers(tmp_path, {0: T, 1: T})
    other = Answers(tmp_path, {0: T @ turn, 1: T @ turn})
    plain, symmetric = compare_answers(frames, BoxSpec(), one, other)
    assert symmetric.move == pytest.approx(0, abs=1e-9)
    assert symmetric.rotation_rad == pytest.approx(0, abs=1e-6)
    assert plain.move > 0.5 and plain.rotation_rad == pytest.approx(np.pi / 2)
    assert not plain.flipped and not symmetric.flipped


def test_a_shift_is_measured_in_diameters(frames, tmp_path):
    """Every point of the surface moves by it."""
    T, shifted = bop_folder.pose(0, 0, 1.0), bop_folder.pose(0, 0, 1.01)
    diameter = load_bop_objects(tmp_path / 'toy' / 'models_eval')[1].diameter_m
    (found,) = compare_answers(frames, BoxSpec(), Answers(tmp_path, {0: T}),
                               Answers(tmp_path, {0: shifted}))
    assert found.translation_m == pytest.approx(0.01)
    assert found.move == pytest.approx(0.01 / diameter)


def test_an_answer_of_only_one_is_a_flip(frames, tmp_path):
    """Whichever it is; what neither answers does not count."""
    T = bop_folder.pose(0, 0, 1.0)
    found = compare_answers(frames, BoxSpec(), Answers(tmp_path, {0: T}),
                            Answers(tmp_path, {1: T}))
    assert [c.flipped for c in found] == [True, True]
    assert compare_answers(frames, BoxSpec(), Answers(tmp_path, {}), Answers(tmp_path, {})) == []


def comparison(flipped: bool, move: float) -> AnswerComparison:
    return AnswerComparison(2, 17, 'duck', flipped, move, 0.1 * move, 0.01 * move)


def test_moves_of_flipped_detections_are_not_counted_twice():
    """Another bin gives another pose; how many there may be has a limit of its own."""
    found = verdict([comparison(False, 0.01)] * 9 + [comparison(True, 0.9)],
                    VerificationLimits(move=0.02, flips=0.1))
    assert found['passed'] and found['figures']['flips'] == 1
    assert found['figures']['move_diameters']['max'] == 0.01
    assert not verdict([comparison(False, 0.01)] * 9 + [comparison(True, 0.9)],
                       VerificationLimits(move=0.02, flips=0.09))['passed']


def test_the_worst_detection_is_named():
    """So that one can look at it."""
    compared = [comparison(False, 0.01), comparison(False, np.nan)]
    (reason,) = verdict(compared, VerificationLimits())['reasons']
    assert reason == '1 of 2 poses are no numbers, such as duck in image 17 of scene 2'
    (reason,) = verdict([comparison(False, 0.01), comparison(False, 0.3)],
                        VerificationLimits())['reasons']
    assert '1 of 2 detections move by more than 0.05 diameters, the limit is 1.0%' in reason
    assert 'farthest duck in image 17 of scene 2, by 0.3' in reason


def test_a_few_may_move_far_and_none_may_be_lost():
    """One of a hundred is hidden so far that any rounding moves it; a pose must stay a pose."""
    near = [comparison(False, 0.01)] * 99
    assert verdict([*near, comparison(False, 0.4)], VerificationLimits())['figures']['moved'] == 1
    assert verdict([*near, comparison(False, 0.4)], VerificationLimits())['passed']
    assert not verdict([*near[1:], *[comparison(False, 0.4)] * 2], VerificationLimits())['passed']
    for lost in (np.nan, np.inf):
        assert not verdict([*near, comparison(False, lost)], VerificationLimits())['passed']


def test_nothing_to_compare_is_no_pass():
    """Images without known objects verify nothing."""
    with pytest.raises(SpecError, match='no detections to compare'):
        verdict([], VerificationLimits())
