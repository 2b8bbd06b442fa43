"""ObjectDetector: boxes in pixels of the image, in every runtime; its scores."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

import bop_folder
import numpy as np
from red_detector import BLUE, RED, SPEC, picture, write_red_detector

from mrcnet_ros import Camera, ObjectDetector
from mrcnet_ros.cli.main import main
from mrcnet_ros.datasets.bop import BopFrame
from mrcnet_ros.datasets.bop_frame import GroundTruth
from mrcnet_ros.detector.decode import FoundObject
from mrcnet_ros.detector.entry import read_detector
from mrcnet_ros.detector.matching import TopBoxes
from mrcnet_ros.errors import ImageError, ModelError, SpecError
from mrcnet_ros.evaluation.detector_boxes import DetectorBoxes
from mrcnet_ros.evaluation.detector_scores import DetectorScores, average_precision, detector_table
from mrcnet_ros.runtimes.backends import RUNTIMES


@pytest.fixture(scope='module')
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the detector that finds squares."""
    return write_red_detector(tmp_path_factory.mktemp('squares') / 'model')


@pytest.mark.parametrize('scale', [0.5, 1.0, 2.0, 2.5])
def test_boxes_are_in_pixels_of_the_image(squares, scale):
    """Whatever the resolution is: with its focal length the object is as large as in training."""
    found = ObjectDetector.load(squares).detect(*picture(scale))
    assert [d.label for d in found] == ['duck', 'can']
    for detection, box in zip(found, (RED, BLUE), strict=True):
        np.testing.assert_allclose(detection.box_xyxy, scale * np.array(box), atol=0.02 * scale)
        assert 0.9 < detection.score <= 1


def test_an_image_need_not_be_a_multiple_of_the_cells(squares):
    """It is filled up, and no box reaches beyond it."""
    image, camera = picture(size=(150, 85))
    found = ObjectDetector.load(squares).detect(image, camera)
    assert found and all((d.box_xyxy >= 0).all() for d in found)
    assert all(d.box_xyxy[2] <= 150 and d.box_xyxy[3] <= 85 for d in found)


def test_a_large_image_is_made_smaller_than_its_focal_length_asks(squares):
    """A wide camera with many pixels takes bounded time."""
    detector = ObjectDetector.load(squares)
    image, _ = picture(10.0)
    camera = Camera(np.array([[300.0, 0, 960], [0, 300.0, 800], [0, 0, 1]]), 1920, 1600)
    pixels, scale = detector._scaled(image, camera)
    assert max(pixels.shape[2:]) == SPEC.longest_px and scale[0] == pytest.approx(1 / 3)


def test_a_lens_that_makes_objects_smaller_than_in_training_is_told_once(squares, caplog):
    """It is answered all the same; a usual lens and one that is just too wide are not told."""
    detector = ObjectDetector.load(squares)
    for focal, told in ((320.0, 0), (299.0, 0), (240.0, 1), (240.0, 1)):  # trained with 300 of 640
        K = np.array([[focal, 0, 320], [0, focal, 240], [0, 0, 1]])
        detector.detect(np.zeros((480, 640, 3), np.uint8), Camera(K, 640, 480))
        assert caplog.text.count('look 20 % smaller') == told
    assert 'focal length 240 px, image 640x480 px' in caplog.text


@pytest.mark.parametrize('backend', [
    pytest.param(name, marks=pytest.mark.skipif(bool(RUNTIMES[name].problem()), reason='missing'))
    for name in ('onnxruntime', 'openvino')])
def test_every_runtime_finds_the_same(squares, backend):
    """Boxes and scores agree with those of ONNX Runtime."""
    a = ObjectDetector.load(squares).detect(*picture())
    b = ObjectDetector.load(squares, backend=backend, threads=1).detect(*picture())
    assert [d.label for d in a] == [d.label for d in b]
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x.box_xyxy, y.box_xyxy, atol=1e-3)
        assert x.score == pytest.approx(y.score, abs=1e-4)


@pytest.mark.parametrize(('image', 'said'), [
    (np.zeros((160, 192), np.uint8), r'\(160, 192\)'),
    (np.zeros((160, 192, 3), np.float32), 'float32'),
    (np.zeros((96, 192, 3), np.uint8), '192x96, but the camera is calibrated for 192x160'),
    (None, 'NoneType')])
def test_an_image_that_cannot_be_used_is_told(squares, image, said):
    """With what it is and what is expected."""
    with pytest.raises(ImageError, match=said):
        ObjectDetector.load(squares).detect(image, picture()[1])


@pytest.mark.parametrize('options', [{'least_score': 0.0}, {'least_score': 1.0}, {'most': 0}])
def test_options_that_cannot_be_used_are_told(squares, options):
    """Before anything is looked at."""
    with pytest.raises(SpecError, match='least_score'):
        ObjectDetector.load(squares, **options)


def test_the_best_ones_are_returned(squares):
    """As many as asked for, above the score that is asked for."""
    assert [d.label for d in ObjectDetector.load(squares, most=1).detect(*picture())] == ['duck']
    found = ObjectDetector.load(squares, least_score=0.999).detect(*picture())
    assert [d.label for d in found] == ['duck']


@pytest.mark.parametrize(('edit', 'said'), [
    (lambda v: v.pop('detector'), 'has no detector'),
    (lambda v: v['detector'].pop('labels'), 'labels'),
    (lambda v: v['detector'].update(labels=['duck', 'duck']), 'must differ'),
    (lambda v: v['detector'].update(object_ids=[1]), '2 labels and 1 object_ids'),
    (lambda v: v['detector'].update(object_ids=[1, 1]), r'object_ids must differ .*got \[1, 1\]'),
    (lambda v: v['detector'].update(object_ids=['1', 2]), 'an object_id must be a whole number'),
    (lambda v: v['detector']['spec'].update(blocks=3), 'blocks must be'),
    (lambda v: v['detector']['spec'].update(preset='paper'), "preset is 'paper'"),
    (lambda v: v['files'].clear(), 'damaged or of another model'),
    (lambda v: v.update(files=3), 'files must map')])
def test_a_damaged_entry_is_named(tmp_path, edit, said):
    """The message has the directory and what to do."""
    folder = write_red_detector(tmp_path / 'model')
    values = json.loads((folder / 'model.json').read_text())
    edit(values)
    (folder / 'model.json').write_text(json.dumps(values))
    with pytest.raises(ModelError, match=said) as caught:
        read_detector(folder)
    assert str(folder) in str(caught.value)


def test_one_wrong_byte_in_the_graph_is_noticed(tmp_path):
    """The file is checked against its hash."""
    folder = write_red_detector(tmp_path / 'model')
    data = bytearray((folder / 'detector.onnx').read_bytes())
    data[len(data) // 2] ^= 1
    (folder / 'detector.onnx').write_bytes(data)
    with pytest.raises(ModelError, match='damaged'):
        ObjectDetector.load(folder)


def frame(folder: Path, image_id: int, *truths: tuple[int, tuple[float, ...], float],
          scale: float = 1.0) -> BopFrame:
    """Return an annotated image.

    :param truths: object id, visible box, visible fraction.
    """
    import cv2

    image, camera = picture(scale)
    path = folder / 'rgb' / f'{image_id:06d}.png'
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])
    seen = tuple(GroundTruth(object_id, i, np.eye(4), np.array(box, float), None, fraction)
                 for i, (object_id, box, fraction) in enumerate(truths))
    ids = [t[0] for t in truths]
    return BopFrame(1, image_id, path, camera, seen, {i: ids.count(i) for i in ids}, None, 1.0)


def test_boxes_of_the_detector_are_those_of_the_targets(squares, tmp_path):
    """All boxes of the targets, best first; the time of the detector is told."""
    boxes = DetectorBoxes(ObjectDetector.load(squares))
    wanted = frame(tmp_path, 1, (9, RED, 1.0), scale=2.0)
    found = boxes.find(wanted)
    assert [f.object_id for f in found] == [9]
    np.testing.assert_allclose(found[0].box_xyxy, 2 * np.array(RED), atol=0.1)
    assert boxes.seconds(wanted) > 0
    anything = dataclasses.replace(wanted, image_id=2, targets={}, targets_unknown=True)
    everything = boxes.find(anything)
    assert {f.object_id for f in everything} == {5, 9}
    scores = [f.score for f in everything]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(('changes', 'told'), [
    ({}, 'and the detector knows none of them, only 5 (can), 9 (duck)'),
    ({'object_ids': [3, 1], 'diameters_m': [0.139, 0.3]}, 'object 1 of the detector is can of 3')])
def test_a_detector_of_other_objects_is_refused(squares, tmp_path, capsys, changes, told):
    """It would find nothing, or something else under the same number."""
    folder = shutil.copytree(squares, tmp_path / 'squares')
    values = json.loads((folder / 'model.json').read_text())
    values['detector'].update(changes)
    (folder / 'model.json').write_text(json.dumps(values))
    bop_folder.write_dataset(tmp_path)
    code = main(['evaluate', 'detector', '--bop-dir', str(tmp_path), '--dataset', 'toy',
                        '--model', str(folder)])
    assert code == 2 and told in capsys.readouterr().err


def test_targets_that_the_detector_does_not_know_are_told(squares, tmp_path, capsys):
    """Recall and AP50 are not of them."""
    dataset = bop_folder.write_dataset(tmp_path)
    info = json.loads((dataset / 'models_eval' / 'models_info.json').read_text())
    folder = shutil.copytree(squares, tmp_path / 'squares')
    values = json.loads((folder / 'model.json').read_text())
    values['detector'].update(object_ids=[1, 77],
                              diameters_m=[1e-3 * info['1']['diameter'], 0.1])
    (folder / 'model.json').write_text(json.dumps(values))
    code = main(['evaluate', 'detector', '--bop-dir', str(tmp_path), '--dataset', 'toy',
                 '--model', str(folder), '--json', str(tmp_path / 'out.json')])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert '3 targets are of objects that the model lacks: they do not count' in printed.out
    figures = json.loads((tmp_path / 'out.json').read_text())
    assert (figures['targets'], figures['targets_not_in_model']) == (2, 3)


def test_scores_count_visible_targets(tmp_path):
    """Hidden ones neither count nor make a box wrong; every target is found once."""
    scores = DetectorScores([9, 5])
    one = frame(tmp_path, 1, (9, RED, 1.0), (9, BLUE, 0.05), (5, BLUE, 0.5))
    right = [FoundObject(0, 0.9, np.array(RED, float)), FoundObject(0, 0.8, np.array(BLUE, float)),
             FoundObject(0, 0.7, np.array(RED, float)), FoundObject(1, 0.6, np.array(RED, float))]
    scores.add(one, right, 0.010)
    figures = scores.figures({9: 'duck', 5: 'can'})
    assert figures['targets'] == 2 and figures['recall'] == 0.5 and figures['images'] == 1
    assert figures['objects']['duck'] == {'targets': 1, 'recall': 1.0, 'ap50': 1.0}
    assert figures['objects']['can'] == {'targets': 1, 'recall': 0.0, 'ap50': 0.0}
    assert figures['ms_median'] == pytest.approx(10.0) and figures['iou_of_hits'] == 1.0
    assert 'duck' in detector_table(figures)
    scores.add(one, [], 0.020)
    assert scores.figures({})['recall'] == 0.25


def test_boxes_of_objects_that_no_image_shows_are_counted(tmp_path):
    """AP50 has no row for them; boxes that the node would not take do not count."""
    scores = DetectorScores([9, 5])
    found = [FoundObject(0, 0.9, np.array(RED, float)), FoundObject(1, 0.6, np.array(RED, float)),
             FoundObject(1, 0.1, np.array(BLUE, float))]
    scores.add(frame(tmp_path, 1, (9, RED, 1.0)), found, 0.010)
    figures = scores.figures({9: 'duck', 5: 'can'})
    assert figures['boxes_of_absent'] == 1 and figures['ap50'] == 1.0


def test_one_box_finds_one_of_two_that_touch(tmp_path):
    """In the recall as in the average precision; the training counts likewise."""
    x1, y1, x2, y2 = RED
    other = (x1 + 8, y1, x2 + 8, y2)
    scores = DetectorScores([9])
    between = FoundObject(0, 0.9, np.array([x1 + 4.0, y1, x2 + 4.0, y2]))
    scores.add(frame(tmp_path, 1, (9, RED, 1.0), (9, other, 1.0)), [between], 0.01)
    assert scores.figures({})['recall'] == 0.5
    assert scores.figures({})['objects']['9']['ap50'] == 0.5
    top = TopBoxes(1)
    assert sum(top.add(np.zeros(2, int), np.array([RED, other], float), [between])) == 1


@pytest.mark.parametrize(('said', 'targets', 'expected'), [
    ([(0.9, True)], 1, 1.0), ([(0.9, False), (0.8, True)], 1, 0.5), ([(0.9, True)], 2, 0.5),
    ([(0.9, True), (0.8, False), (0.7, True)], 2, 0.5 * (1 + 2 / 3)), ([], 3, 0.0)])
def test_the_average_precision_is_an_area(said, targets, expected):
    """Whatever order the boxes come in."""
    assert average_precision(said, targets) == pytest.approx(expected)
    assert average_precision(said[::-1], targets) == pytest.approx(expected)
