"""Detections in BOP's format, and their masks as runs of pixels."""

import dataclasses
import json

import bop_folder
import numpy as np
import pytest

from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.datasets.detections import DetectionFile
from mrcnet_ros.datasets.rle import decode_mask, uncompress
from mrcnet_ros.errors import DatasetError, SpecError

Z_SHAPE = np.array([[0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0],
                    [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
V, U = np.mgrid[:40, :50]
DISC = (U - 20) ** 2 + (V - 18) ** 2 < 150


@pytest.fixture
def frame(tmp_path):
    bop_folder.write_dataset(tmp_path)
    return BopDataset(tmp_path, 'toy', 'test').frames[1]


def entry(**changes):
    return {'scene_id': 7, 'image_id': 17, 'category_id': 3, 'score': 0.5,
            'bbox': [10, 20, 30, 40], 'time': 0.3} | changes


def write(tmp_path, *entries):
    path = tmp_path / 'found.json'
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize(('mask', 'text'), [
    (Z_SHAPE, '=35O2'), (np.ones((3, 4), bool), '0<'), (np.zeros((3, 4), bool), '<'),
    (DISC, '`:5P16K4M2N2N2O0O2O000O2O00000001N10001N101N2N2N3L5Jkd0')])
def test_compressed_strings_are_those_of_the_coco_tools(mask, text):
    """Strings that COCO's own encoder wrote of these masks give the masks back."""
    found = decode_mask({'size': list(mask.shape), 'counts': text})
    assert found.dtype == bool
    np.testing.assert_array_equal(found, mask)


def test_runs_go_down_the_columns_from_the_first_empty_one():
    """Two pixels off, three on: the third to fifth of a column-wise walk."""
    mask = decode_mask({'size': [2, 3], 'counts': [2, 3, 1]})
    np.testing.assert_array_equal(mask, [[0, 1, 1], [0, 1, 0]])
    mask = decode_mask({'size': [2, 3], 'counts': [0, 1, 5]})
    np.testing.assert_array_equal(mask, [[1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(('segmentation', 'named'), [
    ({'size': [2, 3], 'counts': [2, 3]}, 'add up to 5 pixels, its size is 2 x 3'),
    ({'size': [2, 3], 'counts': [8, -2]}, 'size is 2 x 3'),
    ({'size': [2, 3]}, 'counts'), ({'counts': [6]}, 'size'),
    ({'size': [2, 3], 'counts': 'P'}, 'ends within a number'),
    ({'size': [2, 3], 'counts': '6 '}, 'no character'),
    ({'size': [2, 3], 'counts': 'o' * 20 + '0'}, 'needs size and counts.*OverflowError'),
    ([[1.0, 2.0, 3.0, 4.0]], 'polygons are not supported')])
def test_a_damaged_mask_is_refused(segmentation, named):
    """The error says what is wrong with it."""
    with pytest.raises(DatasetError, match=named):
        decode_mask(segmentation)


def test_lengths_may_shrink_from_one_run_to_the_next():
    """From the fourth on they count from the one two before, up or down."""
    assert uncompress('=35O2') == [13, 3, 5, 2, 7]


def test_the_best_of_each_target_object_are_taken(tmp_path, frame):
    """Image 17 asks for one of object 1 and two of object 3; other objects do not count."""
    path = write(tmp_path, entry(score=0.1, bbox=[1, 1, 9, 9]),
                 entry(score=0.9, bbox=[2, 2, 9, 9]), entry(score=0.5, bbox=[3, 3, 9, 9]),
                 entry(category_id=9), entry(category_id=1, bbox=[4, 5, 6.5, 7]),
                 entry(image_id=4, score=1.0), entry(scene_id=8, score=1.0))
    found = DetectionFile(path).find(frame)
    assert [f.object_id for f in found] == [1, 3, 3]
    np.testing.assert_array_equal([f.box_xyxy for f in found],
                                  [[4, 5, 10.5, 12], [2, 2, 11, 11], [3, 3, 12, 12]])


def test_boxes_around_masks_are_those_of_the_ground_truth(tmp_path, frame):
    """From the first pixel to the far edge of the last; runs compressed or not."""
    mask = np.zeros((240, 320), bool)
    mask[50:60, 100:130] = True
    first = 100 * 240 + 50
    counts = [first] + [10, 230] * 29 + [10, 240 * 320 - first - 29 * 240 - 10]
    segmentation = {'size': [240, 320], 'counts': counts}
    np.testing.assert_array_equal(decode_mask(segmentation), mask)
    path = write(tmp_path, entry(segmentation=segmentation, bbox=[0, 0, 5, 5]))
    (found,) = DetectionFile(path, 'mask').find(frame)
    np.testing.assert_array_equal(found.box_xyxy, [100, 50, 130, 60])


def test_empty_masks_and_boxes_outside_the_image_leave_room_for_others(tmp_path, frame):
    """Worse detections move up."""
    path = write(tmp_path, entry(score=0.9, bbox=[400, 10, 50, 40]),
                 entry(score=0.4, bbox=[1, 1, 9, 9]), entry(score=0.2, bbox=[2, 2, 9, 9]))
    assert [f.box_xyxy[0] for f in DetectionFile(path).find(frame)] == [1, 2]
    size = [240, 320]
    path = write(tmp_path, entry(score=0.9, segmentation={'size': size, 'counts': [76800]}),
                 entry(score=0.4, segmentation={'size': size, 'counts': [5, 3, 76792]}))
    (found,) = DetectionFile(path, 'mask').find(frame)
    np.testing.assert_array_equal(found.box_xyxy, [0, 5, 1, 8])


def test_the_time_of_the_detector_is_that_of_the_whole_image(tmp_path, frame):
    """Entries repeat it; -1 and nothing mean unknown."""
    assert DetectionFile(write(tmp_path, entry(), entry())).seconds(frame) == 0.3
    assert DetectionFile(write(tmp_path, entry(time=-1))).seconds(frame) == 0.0
    assert DetectionFile(write(tmp_path)).seconds(frame) == 0.0


@pytest.mark.parametrize(('bad', 'named'), [
    ({'score': 1.5}, r'score must be a finite number from 0 to 1, got 1\.5 \(detection 0'),
    ({'score': -0.1}, r'score must be .* \(detection 0'),
    ({'score': 'high'}, r'score must be .* \(detection 0'),
    ({'category_id': None}, r'category_id must be a whole number .* \(detection 0'),
    ({'image_id': True}, r'image_id must be a whole number .* \(detection 0'),
    ({'scene_id': 7.5}, r'scene_id must be a whole number .* \(detection 0'),
    ({'bbox': [10, 20, -30, 40]}, r'bbox must be x, y, width, height, got .* \(detection 0'),
    ({'bbox': [0.1, 0.2, 0.3, 0.4]}, r'no box reaches beyond 2 px; bbox must be in pixels'),
    ({'time': 'long'}, r'time must be .* \(detection 0')])
def test_a_detection_that_cannot_be_understood_is_named(tmp_path, bad, named):
    """File and number of the entry are in the message."""
    with pytest.raises(DatasetError, match=rf'found\.json: {named}'):
        DetectionFile(write(tmp_path, entry(**bad)))


def test_boxes_without_an_area_are_left_out_and_counted(tmp_path, frame):
    """A detector's slip does not stop the others, and is not silent."""
    found = DetectionFile(write(tmp_path, entry(bbox=[10, 20, 0, 40], score=0.9), entry()))
    assert found.empty == 1
    assert [b.box_xyxy.tolist() for b in found.find(frame)] == [[10, 20, 40, 60]]


def test_without_targets_all_detections_count(tmp_path, frame):
    """Of images of the detection task whose truth is kept back nobody knows what is in them."""
    blind = dataclasses.replace(frame, targets={}, targets_unknown=True)
    found = DetectionFile(write(tmp_path, entry(), entry(category_id=9), entry()))
    assert [b.object_id for b in found.find(blind)] == [3, 3, 9]


@pytest.mark.parametrize(('bad', 'kind', 'named'), [
    ({'bbox': [1, 2, 3]}, 'bbox', 'bbox must be 4 finite numbers'),
    ({}, 'mask', "'segmentation' is missing"),
    ({'segmentation': {'size': [2, 3], 'counts': [6]}}, 'mask', '3x2 pixels, .* of 320x240'),
    ({'segmentation': {'size': [2, 3], 'counts': [5]}}, 'mask', 'image 17 of scene 7.*add up')])
def test_a_box_or_mask_that_cannot_be_used_is_named(tmp_path, frame, bad, kind, named):
    """The error says of which image."""
    with pytest.raises(DatasetError, match=named):
        DetectionFile(write(tmp_path, entry(**bad)), kind).find(frame)


def test_what_is_no_list_of_detections_is_refused(tmp_path):
    """Missing files, other JSON, other kinds of boxes."""
    with pytest.raises(DatasetError, match=r'none\.json: missing'):
        DetectionFile(tmp_path / 'none.json')
    (tmp_path / 'coco.json').write_text('{"annotations": []}')
    with pytest.raises(DatasetError, match='expected a list of detections, found dict'):
        DetectionFile(tmp_path / 'coco.json')
    with pytest.raises(SpecError, match='polygon'):
        DetectionFile(write(tmp_path), 'polygon')


@pytest.mark.parametrize('option', [('--box-jitter', '0.1'), ('--boxes', 'amodal'),
                                    ('--seed', '4')])
def test_what_boxes_of_ground_truth_take_is_refused_with_others(tmp_path, capsys, option):
    """Moving a detector's boxes would measure something else; the rest would do nothing."""
    bop_folder.write_dataset(tmp_path)
    code = mrcnet.main(['evaluate', 'bop', '--bop-dir', str(tmp_path), '--dataset', 'toy',
                        '--model', str(tmp_path), '--csv', str(tmp_path / 'o.csv'), '--json',
                        str(tmp_path / 'o.json'), '--detections', str(write(tmp_path)),
                        *option])
    assert code == 2 and f'{option[0]} would have no effect' in capsys.readouterr().err


@pytest.fixture
def whole(tmp_path):
    """Return a dataset and the detections of its truth, x, y, width and height."""
    bop_folder.write_dataset(tmp_path)
    dataset = BopDataset(tmp_path, 'toy', 'test')
    seen = [(frame.image_id, truth.object_id, truth.box_visib_xyxy.reshape(2, 2))
            for frame in dataset.frames for truth in frame.ground_truth]
    return dataset, [entry(image_id=image_id, category_id=object_id, bbox=[
        *corners[0].tolist(), *(corners[1] - corners[0]).tolist()])
        for image_id, object_id, corners in seen]


def check(tmp_path, dataset, entries):
    DetectionFile(write(tmp_path, *entries)).check(dataset.frames, dataset.known_object_ids)


@pytest.mark.parametrize(('change', 'named'), [
    (lambda e: {'scene_id': 8}, 'none of its 5 detections is of one of the 2 images.*scene 7'),
    (lambda e: {'image_id': e['image_id'] + 1}, 'none of its 5'),
    (lambda e: {'category_id': e['category_id'] - 1}, 'categories .0, 2.*objects .* are .1, 3.'),
    (lambda e: {'category_id': e['category_id'] + 20}, '5 of 5 .*categories .21, 23.'),
    (lambda e: {'bbox': [*e['bbox'][:2], e['bbox'][0] + e['bbox'][2],
                         e['bbox'][1] + e['bbox'][3]]}, 'bbox must be x, y, width, height'),
    (lambda e: {'bbox': [e['bbox'][0] + e['bbox'][2] / 2, e['bbox'][1] + e['bbox'][3] / 2,
                         *e['bbox'][2:]]}, 'upper left corner.*; .* be the centre'),
    # a detector that does not clip its boxes
    (lambda e: {'bbox': [*e['bbox'][:2], e['bbox'][0] + e['bbox'][2] + 4,
                         e['bbox'][1] + e['bbox'][3] + 4]}, 'seems to be x1, y1, x2, y2')])
def test_detections_of_another_dataset_or_convention_are_refused(tmp_path, whole, change, named):
    """Every target would count as not detected, or get a box that is too large."""
    dataset, entries = whole
    check(tmp_path, dataset, entries)
    with pytest.raises(DatasetError, match=named):
        check(tmp_path, dataset, [e | change(e) for e in entries])


def test_centres_are_told_without_ground_truth_by_the_borders_of_images(tmp_path, whole):
    """Boxes at the right border end beyond it when their centre is taken for a corner."""
    dataset, _ = whole
    frames = [dataclasses.replace(f, ground_truth=(), annotated=False) for f in dataset.frames]
    dataset.frames = tuple(frames)
    width, height = frames[0].camera.width, frames[0].camera.height
    places = [(30, 40), (width - 25, 60), (90, height - 25), (70, 50), (width - 30, height - 30)]
    entries = [entry(image_id=frames[0].image_id, bbox=[x - 20, y - 20, 40, 40])
               for x, y in places]
    check(tmp_path, dataset, entries)
    with pytest.raises(DatasetError, match='seems to be the centre'):
        check(tmp_path, dataset, [e | {'bbox': [*xy, 40, 40]}
                                  for e, xy in zip(entries, places, strict=True)])


@pytest.mark.parametrize('unclipped', [0, 1])
def test_corners_are_told_without_ground_truth_although_one_is_not_clipped(
        tmp_path, whole, unclipped):
    """By the borders of images, which corners keep and sizes at corners do not."""
    dataset, _ = whole
    dataset.frames = tuple(dataclasses.replace(f, ground_truth=(), annotated=False)
                           for f in dataset.frames)
    camera = dataset.frames[0].camera
    entries = [entry(image_id=dataset.frames[0].image_id, bbox=[
        camera.width - 60, camera.height - 60, camera.width - 20, camera.height - 20])
        for _ in range(30)]
    if unclipped:
        entries[0]['bbox'][2] = camera.width + 4.0
    with pytest.raises(DatasetError, match='seems to be x1, y1, x2, y2'):
        check(tmp_path, dataset, entries)


@pytest.mark.parametrize(('change', 'told'), [
    (lambda e: {}, False), (lambda e: {'bbox': [0.5 * v for v in e['bbox']]}, True),
    (lambda e: {'bbox': [2.0 * v for v in e['bbox']]}, True),
    (lambda e: {'bbox': [e['bbox'][0] + 30, *e['bbox'][1:]]}, True),
    (lambda e: {'category_id': 4 - e['category_id']}, True)])
def test_boxes_that_hardly_lie_on_their_objects_are_told(tmp_path, whole, caplog, change, told):
    """As of the input of a detector's network; a poor detector may be scored all the same."""
    dataset, entries = whole
    check(tmp_path, dataset, [e | change(e) for e in entries])
    assert ('the boxes hardly lie on the objects' in caplog.text) == told


@pytest.mark.parametrize(('scale', 'offset', 'said'), [
    (1.25, (0, 0), r'1\.25 times as large and moved by \(0, 0\)'),
    (0.8, (0, 0), r'0\.8 times as large'), (1.0, (0, 40), r'moved by \(0, 40\)'),
    (2.0, (0, 80), r'2 times as large and moved by \(0, 80\) px')])
def test_boxes_in_the_input_of_a_network_are_refused(tmp_path, whole, scale, offset, said):
    """Where enough objects tell its scale and borders; the advice is no other convention."""
    dataset, entries = whole
    frames = [dataclasses.replace(frame, image_id=frame.image_id + 100 * copy)
              for copy in range(3) for frame in dataset.frames]
    entries = [e | {'image_id': e['image_id'] + 100 * copy, 'bbox': [
        *(scale * np.array(e['bbox'][:2]) + offset), *(scale * np.array(e['bbox'][2:]))]}
        for copy in range(3) for e in entries]
    with pytest.raises(DatasetError, match=f'pixels of another picture.*{said}'):
        DetectionFile(write(tmp_path, *entries)).check(frames, dataset.known_object_ids)


def runs(mask, order):
    """Return a mask as runs down the columns (F) or along the rows (C)."""
    changes = np.flatnonzero(np.diff(mask.ravel(order=order).astype(int), prepend=0))
    return {'size': list(mask.shape), 'counts': np.diff([0, *changes, mask.size]).tolist()}


@pytest.mark.parametrize(('order', 'swapped', 'outcome'), [
    ('F', False, ''), ('C', False, 'run along the rows'), ('F', True, 'the masks hardly lie')])
def test_masks_of_another_convention_are_refused_or_told(
        tmp_path, whole, caplog, order, swapped, outcome):
    """Boxes around them would be elsewhere, although each of them is a mask."""
    dataset, entries = whole
    masks = []
    for e in entries:
        x, y, width, height = np.array(e['bbox'], int)
        mask = np.zeros((240, 320), bool)
        mask[y:y + height, x:x + width] = True
        masks.append(e | {'segmentation': runs(mask, order), 'category_id': 4 - e['category_id']
                          if swapped else e['category_id']})
    found = DetectionFile(write(tmp_path, *masks), 'mask')
    if order == 'C':
        with pytest.raises(DatasetError, match=outcome):
            found.check(dataset.frames, dataset.known_object_ids)
        return
    found.check(dataset.frames, dataset.known_object_ids)
    assert ('hardly lie' in caplog.text) == swapped and outcome in caplog.text


def test_masks_of_objects_of_which_nothing_is_visible_are_not_judged(tmp_path, whole):
    """There is no box to compare them with."""
    dataset, entries = whole
    hidden = [dataclasses.replace(frame, ground_truth=tuple(
        dataclasses.replace(truth, box_visib_xyxy=None) for truth in frame.ground_truth))
        for frame in dataset.frames]
    mask = np.zeros((240, 320), bool)
    mask[50:60, 70:90] = True
    DetectionFile(write(tmp_path, *(e | {'segmentation': runs(mask, 'F')} for e in entries)),
                  'mask').check(hidden, dataset.known_object_ids)


def test_detections_of_more_objects_than_there_are_models_of_are_told(tmp_path, whole, caplog):
    """A detector may know more; large boxes that reach beyond the image are no corners."""
    dataset, entries = whole
    check(tmp_path, dataset, [*entries, entry(category_id=9)])
    assert 'of objects [9], which the dataset does not have' in caplog.text
    check(tmp_path, dataset, [e | {'bbox': [30.0, 30.0, 310.0, 230.0]} for e in entries] + [
        entry(bbox=[200.0, 100.0, 50.0, 50.0])])


def test_a_command_refuses_detections_of_another_dataset_before_it_works(tmp_path, capsys):
    """It would answer nothing and end with 0."""
    bop_folder.write_dataset(tmp_path)
    path = write(tmp_path, entry(scene_id=8))
    words = ['evaluate', 'bop', '--bop-dir', tmp_path, '--dataset', 'toy', '--model', tmp_path,
             '--csv', tmp_path / 'p.csv', '--json', tmp_path / 's.json', '--detections', path]
    assert mrcnet.main([str(word) for word in words]) == 2
    assert 'none of its 1 detections' in capsys.readouterr().err
    assert not (tmp_path / 'p.csv').exists()
