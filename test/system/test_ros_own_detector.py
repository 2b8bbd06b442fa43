"""The node with a detector of its own: image and camera_info in, detections and poses out."""

from __future__ import annotations

import argparse
import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')
pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from red_detector import write_red_detector
from ros_client import Client, values
from ros_frames import frame
from ros_process import STAND_IN, WAIT_S, double_node, environment, own_domain
from stand_in_node import BoxEstimator
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from mrcnet_ros.cli import bench_track
from mrcnet_ros.cli.node import model_parameters
from mrcnet_ros.detector import object_detector
from mrcnet_ros.detector.decode import FoundObject
from mrcnet_ros.detector.object_detector import LEAST_SCORE, ObjectDetector
from mrcnet_ros.errors import SpecError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.inference.poses import Detection, FrameResult
from mrcnet_ros.ros.detection_filter import DetectionFilter
from mrcnet_ros.ros.detection_reading import detections_2d
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.estimator_loading import load_handler
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.parameter_changes import reloaded_parameters
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.transforms import Tree
from mrcnet_ros.testbench.bag import BagFrame

SIZE = (256, 192)
# a cell of the detector, which sees the image at half its resolution
RED, BLUE = (64, 64, 128, 128), (128, 0, 192, 64)


@pytest.fixture(scope='module')
def squares(tmp_path_factory):
    """Write the detector that finds squares."""
    return write_red_detector(tmp_path_factory.mktemp('squares') / 'model')


def picture(number, *channels):
    """Return image and camera_info; a red and a blue square are there as asked for.

    :param channels: 0 for the red square, 2 for the blue one.
    """
    image, info, _ = frame(number, size=SIZE)
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for channel in channels:
        x1, y1, x2, y2 = RED if channel == 0 else BLUE
        pixels[y1:y2, x1:x2, channel] = 230 if channel else 255  # red scores higher
    image.data = pixels.tobytes()
    return image, info


def test_over_dds_image_and_camera_info_are_enough(squares):
    """Poses and detections are of the squares; a frame without any is answered with none."""
    with double_node(own_domain(160), f'detector:={squares}') as process:
        process.wait_for_log('ready')
        client = Client(process.domain, detections=False)
        found = []
        client.subscribe(Detection2DArray, 'pose_node/detections', found.append)
        answer = client.answer(picture(1, 0, 2))
        assert {d.results[0].hypothesis.class_id for d in answer.detections} == {'duck', 'can'}
        duck, = (d for d in answer.detections if d.results[0].hypothesis.class_id == 'duck')
        assert duck.results[0].pose.pose.position.z == pytest.approx(0.1 * 600 / 64, rel=0.02)
        assert client.spin(lambda: found)
        message = found[-1]
        assert message.header == answer.header
        assert [d.results[0].hypothesis.class_id for d in message.detections] == ['duck', 'can']
        box = message.detections[0].bbox
        assert (box.center.position.x, box.center.position.y) == pytest.approx((96, 96), abs=1)
        assert (box.size_x, box.size_y) == pytest.approx((64, 64), abs=1)
        assert 0.9 < message.detections[0].results[0].hypothesis.score <= 1
        assert client.answer(picture(2)).detections == []
        assert client.spin(lambda: len(found) == 2) and found[-1].detections == []
        assert 'own, of' in values(client.diagnosis('model', ''))['detector']
        inputs = values(client.diagnosis('inputs', ''))
        assert 'image topic' in inputs and 'detections topic' not in inputs
        client.close()
        assert process.stop() == 0
        assert 'Traceback' not in process.log()


def test_the_whole_chain_is_measured(squares, tmp_path, monkeypatch, capsys):
    """A node with a detector of its own gets images alone, without track and with it."""
    for name, value in environment(own_domain(161)).items():
        monkeypatch.setenv(name, value)
    messages = map(serialize_message, picture(1, 0, 2))
    monkeypatch.setattr(bench_track, 'traffic_frames', lambda args: [BagFrame(
        1, dict(zip(('/image', '/camera_info'), messages, strict=True)), None)])
    # the folder has a detector only: the node is a stand-in that needs no model of poses
    monkeypatch.setattr('mrcnet_ros.cli.node.take_fixed_numbers', lambda args: None)
    monkeypatch.setattr(bench_track, 'node_command', lambda args, **values: [
        STAND_IN, '--ros-args', *model_parameters(args, **values)])
    parser = argparse.ArgumentParser()
    bench_track.add_arguments(parser)
    args = parser.parse_args([
        '--seconds', '2', '--rate', '10', '--timeout', str(WAIT_S), '--model', str(squares),
        '--detector', str(squares), '--detections-rate', '2', '--json', str(tmp_path / 'o.json')])
    args.command_line, args.parser = 'mrcnet bench track', parser
    assert bench_track.run(args) == 0
    figures = json.loads((tmp_path / 'o.json').read_text())
    assert list(figures['rows']) == [bench_track.EACH, bench_track.FOLLOWED]
    assert all(row['answers_per_s'] > 0 and row['poses_per_s'] > row['answers_per_s']
               for row in figures['rows'].values())
    assert figures['detector'] == str(squares) and 'at 2 Hz' in capsys.readouterr().out


def handled(squares, parameters, *channels):
    """Answer a picture in this process; return the answer and the counters."""
    counters = DropCounters(lambda *_: None)
    estimator = BoxEstimator()
    detector = ObjectDetector.load(squares)
    handler = FrameHandler(estimator, {label: model.bounds()
                                       for label, model in estimator.objects.items()},
                           counters, compressed=False, detector=detector)
    answer = handler.answer(Frame(*picture(1, *channels), None), parameters)
    handler.close()
    return answer, counters


def test_what_is_found_is_read_as_any_detections(squares):
    """Thresholds hold for it; what is said of the boxes of others does not."""
    parameters = NodeParameters(detector=str(squares))
    answer, _ = handled(squares, parameters, 0, 2)
    assert [p.label for p in answer.measured] == ['duck', 'can']
    assert answer.scene.detections == 2 and answer.result.stage_seconds['detection'] > 0
    strict, counters = handled(
        squares, dataclasses.replace(parameters, min_detection_score=1.0), 0, 2)
    assert strict.measured == [] and counters.counts()['low_score'] == 2
    assert len(strict.found.detections) == 2
    few, counters = handled(squares, dataclasses.replace(parameters, max_detections=1), 0, 2)
    assert len(few.measured) == 1 and counters.counts()['too_many'] == 1
    single = dataclasses.replace(parameters, max_instances=1)
    each, counters = handled(squares, single, 0, 2)
    assert len(each.measured) == 2 and 'outranked' not in counters.counts()
    others = dataclasses.replace(parameters, label_map=('duck=can',), detections_size=(64, 64))
    same, _ = handled(squares, others, 0, 2)
    np.testing.assert_allclose([p.T_camera_object for p in same.measured],
                               [p.T_camera_object for p in answer.measured])


def test_boxes_in_a_corner_are_no_doubt_where_the_node_finds_them_itself():
    """They are in pixels of the image, so advice on other conventions would lead astray."""
    corners = {'duck': (20, 30, 220, 180), 'can': (300, 200, 420, 360),
               'brick': (100, 250, 330, 400)}
    boxes = detections_2d(Header(frame_id='camera'), [  # the first as centre, the second as size
        Detection(label, np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]), 0.8)
        for label, (x, y, w, h) in corners.items()])
    for own in (True, False):
        filter_ = DetectionFilter(DropCounters(lambda *_: None), BoxEstimator().objects,
                                  own_detector=own)
        for _ in range(5):
            filter_.detections(boxes, (640, 480), NodeParameters())
        assert bool(filter_.doubts()) != own


def test_spare_boxes_raise_no_doubt_about_the_poses():
    """Of an object that is there once the best pose tells whether poses are wrong."""
    best, filter_ = BoxEstimator(), DetectionFilter(
        DropCounters(lambda *_: None), BoxEstimator().objects, own_detector=True, probable=True)
    boxes = [Detection('duck', np.array([60.0 * k, 10, 60.0 * k + 30, 50]), 0.5) for k in range(3)]
    parameters, camera = NodeParameters(max_instances=1), Camera(np.diag([600.0, 600, 1]), *SIZE)
    result = best.estimate(None, camera, boxes, most=filter_.most(parameters))
    for times, score in ((30, 0.8), (90, 0.05)):
        poses = [dataclasses.replace(pose, score=score) for pose in result.poses]
        for _ in range(times):
            good = filter_.good_poses(dataclasses.replace(result, poses=poses), parameters)
            assert [p.score for p in good] == [score]
        assert bool(filter_.doubts()) == (score < 0.5)
    assert 'probably wrong' in filter_.doubts()[0].text


def test_what_is_meant_for_a_topic_of_detections_does_not_stop_the_own_detector(squares):
    """A robot's parameters stay as they are when it goes over to the detector of the model."""
    parameters = NodeParameters(detector=str(squares), detections_type='yolo_msgs',
                                label_map=('0=cup',))
    handler = load_handler(lambda _: BoxEstimator(), parameters, DropCounters(lambda *_: None),
                           Tree())
    handler.close()


def test_all_boxes_of_the_own_detector_come_to_the_filter(squares, monkeypatch):
    """So that those beyond max_detections are counted."""
    many = [FoundObject(0, 0.9, np.array([x, y, x + 2.0, y + 2.0]))
            for x in np.arange(0.0, 40, 4) for y in np.arange(0.0, 40, 4)]
    monkeypatch.setattr(object_detector, 'decode_detections', lambda *_: many)
    counters = DropCounters(lambda *_: None)
    parameters = NodeParameters(detector=str(squares), max_detections=10)
    handler = load_handler(lambda _: BoxEstimator(), parameters, counters, Tree())
    answer = handler.answer(Frame(*picture(1), None), parameters)
    handler.close()
    assert len(answer.found.detections) == 100 and len(answer.measured) == 10
    assert counters.counts()['too_many'] == 90


def test_where_an_object_is_there_once_one_detection_of_it_counts():
    """Any detector's: the others are counted, and those far below the best get no pose at all."""
    counters = DropCounters(lambda *_: None)
    estimator = BoxEstimator()
    filter_ = DetectionFilter(counters, estimator.objects, own_detector=False)
    message = detections_2d(Header(frame_id='camera'), [
        Detection('duck', np.array([10.0, 10, 40, 50]), 0.5), Detection(
            'duck', np.array([60.0, 10, 90, 50]), 0.8), Detection(
            'duck', np.array([60.0, 60, 90, 90]), 0.1), Detection(
            'can', np.array([10.0, 60, 40, 90]), 0.3)])
    size = SIZE[0], SIZE[1]
    parameters = NodeParameters(max_instances=1)
    wanted = filter_.detections(message, size, parameters)
    assert [(d.label, d.score) for d in wanted] == [('duck', 0.5), ('duck', 0.8), ('can', 0.3)]
    assert counters.counts()['outranked'] == 1
    result = estimator.estimate(None, Camera(np.diag([600.0, 600, 1]), *SIZE), wanted,
                                most=filter_.most(parameters))
    filter_.tell_skipped(result, wanted)
    good = filter_.good_poses(result, parameters)
    assert [p.label for p in good] == ['duck', 'can'] and counters.counts()['outranked'] == 2
    assert filter_.most(NodeParameters()) is None


def test_spare_boxes_push_out_no_other_object():
    """Of two objects and two more boxes of one, both have a pose where two are allowed."""
    counters, objects = DropCounters(lambda *_: None), BoxEstimator().objects
    message = detections_2d(Header(frame_id='camera'), [
        Detection(label, np.array([x, 10.0, x + 9, 40]), score) for label, x, score in (
            ('duck', 0.0, 0.9), ('duck', 15.0, 0.8), ('duck', 30.0, 0.7), ('can', 45.0, 0.6))])
    wanted = DetectionFilter(counters, objects, own_detector=False).detections(
        message, (SIZE[0], SIZE[1]), NodeParameters(max_instances=1, max_detections=2))
    assert [(d.label, d.score) for d in wanted] == [('duck', 0.9), ('can', 0.6)]
    assert counters.counts() == {'outranked': 2}, 'as many objects as max_detections allows'


def test_objects_beyond_the_largest_number_are_told_beside_spare_boxes():
    """Of three objects with two boxes each, two may be answered."""
    told = []
    counters = DropCounters(lambda *reason: told.append(reason))
    message = detections_2d(Header(frame_id='camera'), [
        Detection(label, np.array([x, 10.0, x + 9, 40]), score) for label, x, score in (
            ('duck', 0.0, 0.9), ('duck', 15.0, 0.8), ('can', 20.0, 0.6), ('can', 30.0, 0.5),
            ('brick', 45.0, 0.4), ('brick', 50.0, 0.4))])
    wanted = DetectionFilter(counters, BoxEstimator().objects, own_detector=False).detections(
        message, (SIZE[0], SIZE[1]), NodeParameters(max_instances=1, max_detections=2))
    assert [(d.label, d.score) for d in wanted] == [('duck', 0.9), ('can', 0.6)]
    assert counters.counts() == {'too_many': 1, 'outranked': 3}
    assert told[0] == ('too_many', '3 boxes of known objects in a frame; max_detections is 2')


@pytest.mark.parametrize(('instances', 'told'), [(0, None), (2, 2)])
def test_the_estimator_is_told_how_often_an_object_is_there(instances, told):
    """With it, it need not answer all boxes, and false ones say nothing of a plane."""
    asked, estimator = [], BoxEstimator()
    handler = FrameHandler(estimator, {}, DropCounters(lambda *_: None), compressed=False)
    estimator.estimate = lambda *args, most=None: asked.append(most) or FrameResult([], [])
    handler.answer(Frame(*frame(1, ('duck', 30), ('duck', 31), ('can', 9))),
                   NodeParameters(max_instances=instances))
    assert asked == [told and dict.fromkeys(estimator.objects, told)]


def test_the_threshold_of_the_detector_is_a_parameter(squares):
    """A faint square is found from a lower score on; it may change while the node runs."""
    image, info = picture(1)
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    x1, y1, x2, y2 = RED
    pixels[y1:y2, x1:x2, 0] = 105  # a score of 0.19
    image.data = pixels.tobytes()
    estimator = BoxEstimator()
    handler = FrameHandler(estimator, {label: model.bounds()
                                       for label, model in estimator.objects.items()},
                           DropCounters(lambda *_: None), compressed=False,
                           detector=ObjectDetector.load(squares))
    usual = NodeParameters(detector=str(squares))
    assert usual.detector_threshold == LEAST_SCORE
    for threshold, found in ((LEAST_SCORE, 0), (0.15, 1), (0.24, 0)):
        answer = handler.answer(Frame(image, info, None), dataclasses.replace(
            usual, detector_threshold=threshold))
        assert len(answer.measured) == len(answer.found.detections) == found
    handler.close()


@pytest.mark.parametrize(('labels', 'said'), [
    (('duck', 'teapot'), 'teapot, which the model does not know'),
    (None, 'has no detector')])
def test_over_dds_a_detector_that_cannot_be_used_is_told_at_configure(tmp_path, labels, said):
    """Labels that the model lacks, and a directory without a detector, are named."""
    model = tmp_path / 'model'
    if labels is None:
        model.mkdir()
        (model / 'model.json').write_text('{"format_version": 1, "name": "poses", "files": {}}')
    else:
        write_red_detector(model, labels)
    with double_node(own_domain(161), f'detector:={model}') as process:
        assert said in process.wait_for_log(str(model))
        process.wait_for_log('the node has not started')
        assert process.stop() == 0


def test_whether_the_node_has_a_detector_does_not_change_under_way():
    """Another detector may take its place with ~/set_model, none may not."""
    own = NodeParameters(detector='a')
    assert reloaded_parameters(own, [Parameter('detector', value='b')]).detector == 'b'
    for current, value in ((own, ''), (NodeParameters(), 'b')):
        with pytest.raises(SpecError, match='parameter detector cannot become empty'):
            reloaded_parameters(current, [Parameter('detector', value=value)])
