"""A runtime and a lower precision are used for the detector once its boxes were verified there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

import bop_folder
import cv2
import numpy as np
from red_detector import write_red_detector

from mrcnet_ros import ObjectDetector
from mrcnet_ros.cli.main import main
from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.detector.decode import FoundObject
from mrcnet_ros.detector.object_detector import LEAST_SCORE
from mrcnet_ros.errors import BackendError, SpecError
from mrcnet_ros.evaluation.detector_verification import boxes_verdict, compare_boxes
from mrcnet_ros.runtimes.backend import RuntimeOptions
from mrcnet_ros.runtimes.backends import RUNTIMES
from mrcnet_ros.runtimes.onnxruntime_backend import load_onnxruntime
from mrcnet_ros.runtimes.verified import Execution, find_result, store_result

BOX = np.array([20.0, 30.0, 60.0, 80.0])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with a dataset of red and blue squares, and the detector that finds them."""
    dataset = bop_folder.write_dataset(tmp_path)
    image = np.zeros((bop_folder.HEIGHT, bop_folder.WIDTH, 3), np.uint8)
    image[64:96, 64:96, 2], image[0:32, 128:160, 0] = 255, 230  # BGR
    for path in dataset.rglob('*.png'):
        cv2.imwrite(str(path), image)
    write_red_detector(tmp_path / 'model')
    return tmp_path


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Put a stand-in for openvino in its place that says it computes in bfloat16.

    :return: with ``shift``, how far it moves every box [px].
    """
    stand_in = SimpleNamespace(shift=0.0)

    def load(graphs, options):
        backend = load_onnxruntime(graphs, replace(options, backend='onnxruntime'))
        backend.precision, backend.name = options.precision, 'openvino'
        run = backend.run

        def shifted(graph, inputs):
            outputs = run(graph, inputs)
            by = stand_in.shift * np.array([-1, -1, 1, 1], np.float32)
            return {**outputs, 'distances': outputs['distances'] + by}

        backend.run = shifted
        return backend

    monkeypatch.setitem(RUNTIMES, 'openvino', replace(
        RUNTIMES['openvino'], modules=('json',), load=load,
        precisions=lambda device: ('bf16', 'fp32'), processor=lambda device: 'Abacus'))
    monkeypatch.setattr('json.__version__', '7.1', raising=False)
    return stand_in


def verify(root: Path, *extra: str) -> int:
    return main(['verify', '--detector', '--model', str(root / 'model'), '--bop-dir', str(root),
                 '--dataset', 'toy', '--backend', 'openvino', *extra])


def test_auto_takes_the_precision_that_passed(root, half, capsys):
    """Before it computes in full; the command that is missing is told."""
    loaded = ObjectDetector.load(root / 'model', backend='openvino')
    assert loaded.backend.precision == 'fp32'
    with pytest.raises(BackendError, match=r'has not been verified in bf16 .*mrcnet verify '
                                           r'--detector --model'):
        ObjectDetector.load(root / 'model', backend='openvino', precision='bf16')
    assert verify(root) == 0
    assert '8 boxes, 0 without a match' in capsys.readouterr().out
    assert ObjectDetector.load(root / 'model', backend='openvino').backend.precision == 'bf16'
    full = ObjectDetector.load(root / 'model', backend='openvino', precision='fp32')
    assert full.backend.precision == 'fp32'


def test_moved_boxes_fail(root, half, capsys):
    """Then auto still computes in full."""
    half.shift = 2.0
    assert verify(root) == 1
    printed = capsys.readouterr().out
    assert '8 of 8 boxes differ; the limit is 5.0%; for example' in printed and 'FAILED' in printed
    assert ObjectDetector.load(root / 'model', backend='openvino').backend.precision == 'fp32'
    assert verify(root, '--max-others', '1') == 0


def test_boxes_and_poses_are_verified_apart(root, half):
    """A result of one does not take the place of the other's."""
    poses = Execution(graphs_sha256='d1', backend='openvino', precision='bf16', version='7.1',
                      device='Abacus')
    store_result(root / 'model', poses, {'passed': False})
    assert verify(root) == 0
    assert find_result(root / 'model', poses) is not None
    store_result(root / 'model', replace(poses, graphs_sha256='d2'), {'passed': True})
    assert find_result(root / 'model', poses) is None
    assert ObjectDetector.load(root / 'model', backend='openvino').backend.precision == 'bf16'


@pytest.mark.parametrize(('words', 'said'), [
    (['--max-move', '0.1'], '--max-move would have no effect: --detector compares boxes'),
    (['--max-others', '1.5'], 'expected 0 to 1'),
    (['--backend', 'onnxruntime'], 'is the reference itself; give another --backend')])
def test_options_that_count_for_nothing_are_refused(root, half, capsys, words, said):
    """Before anything is compared."""
    assert verify(root, *words) == 2 and said in capsys.readouterr().err


def finder(*boxes: FoundObject) -> SimpleNamespace:
    return SimpleNamespace(labels=('duck', 'can'), find=lambda image, camera: list(boxes))


@pytest.mark.parametrize(('other', 'different'), [
    (FoundObject(0, 0.75, BOX + 1), 0),
    (FoundObject(0, 0.75, BOX + 3), 2),  # they overlap by 0.77
    (FoundObject(0, 0.69, BOX), 2),
    (FoundObject(1, 0.80, BOX), 2),  # another object in its place
    (FoundObject(0, 0.20, BOX), 1)])  # one of the two does not count
def test_a_box_is_the_same_by_place_label_and_score(root, other, different):
    """Whichever of both has it."""
    frames = BopDataset(root, 'toy').frames[:1]
    found = compare_boxes(frames, finder(FoundObject(0, 0.8, BOX)), finder(other))
    assert sum(not c.same for c in found) == different


def test_nothing_to_compare_is_no_pass(root):
    """Images without objects verify nothing."""
    frames = BopDataset(root, 'toy').frames
    with pytest.raises(SpecError, match=f'neither finds a box with a score of {LEAST_SCORE}'):
        boxes_verdict(compare_boxes(frames, finder(), finder()), 0.05)


def test_the_default_is_auto():
    """A detector is loaded as poses are."""
    assert RuntimeOptions().precision == 'auto'
