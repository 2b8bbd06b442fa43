"""Inputs that can be paired and answered, and are wrong all the same, are told."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from rclpy.qos import QoSProfile
from ros_frames import frame
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from stand_in_node import DIAMETERS_M, BoxEstimator
from vision_msgs.msg import Detection2DArray, Detection3DArray

from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.ros import reporter
from mrcnet_ros.ros.detection_watch import DetectionWatch
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.input_doubts import InputDoubts
from mrcnet_ros.ros.input_watch import InputWatch
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.remaps import idle_parameters, is_meant, remap_remarks, unused_files
from mrcnet_ros.ros.silent_input import Expected
from mrcnet_ros.ros.timings import Timings

TOPICS = {'image': '/image', 'camera_info': '/info', 'detections': '/boxes'}
PERIOD_NS = 33_000_000


def header(message, frame_id='camera', stamp=0):
    """Give a message a header."""
    message.header.frame_id = frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    return message


@pytest.mark.parametrize(('frames', 'said'), [
    (['left', 'right'] * 5, True), (['left'] * 9, False), (['left'] * 5 + ['right'] * 5, False),
    (['left', '', '/left', ''] * 3, False)])
def test_two_cameras_on_one_topic_are_told(frames, said):
    """A driver that starts anew with another name is one camera, a missing name is none."""
    doubts = InputDoubts()
    for stamp, name in enumerate(frames):
        doubts.saw(header(Image(), name, stamp), 'image')
    texts = doubts.texts(0.0, TOPICS)
    assert bool(texts) == said
    assert all('do two cameras publish on /image?' in text for text in texts)


def test_two_contents_of_camera_info_for_one_stamp_are_told():
    """Which of them counted would be chance; the same content twice is harmless."""
    now = [0.0]
    doubts = InputDoubts(lambda: now[0])
    infos = [CameraInfo(width=64, height=48, k=[f, 0.0, 32.0, 0.0, f, 24.0, 0.0, 0.0, 1.0])
             for f in (600.0, 600.0, 300.0)]
    doubts.saw(header(infos[0], stamp=5), 'camera_info')
    doubts.saw(header(infos[1], stamp=5), 'camera_info')
    doubts.saw(header(infos[1], stamp=6), 'camera_info')
    assert doubts.texts(0.0, TOPICS) == []
    doubts.saw(header(infos[2], stamp=6), 'camera_info')
    text, = doubts.texts(0.0, TOPICS)
    assert 'for one stamp' in text and '/info' in text
    now[0] = 100.0
    assert doubts.texts(0.0, TOPICS) == []


@pytest.mark.parametrize('change', [{'binning_x': 2}, {'roi': RegionOfInterest(x_offset=8)}])
def test_another_part_of_the_image_for_one_stamp_is_told(change):
    """As when a node that crops images publishes on the topic of the whole ones."""
    doubts = InputDoubts()
    for info in (CameraInfo(), CameraInfo(**change)):
        doubts.saw(header(info, stamp=5), 'camera_info')
    assert len(doubts.texts(0.0, TOPICS)) == 1


@pytest.mark.parametrize(('slop_s', 'late_ns', 'said'), [
    (0.1, 80_000_000, True), (0.1, 5_000_000, True), (0.01, 5_000_000, False), (0.1, 0, False),
    (0.0, 0, False)])
def test_a_slop_that_reaches_another_image_is_told(slop_s, late_ns, said):
    """Boxes with the time of their publication are paired with a later image than theirs."""
    doubts = InputDoubts()
    for number in range(20):
        doubts.saw(header(Image(), stamp=number * PERIOD_NS), 'image')
        doubts.saw(header(Detection2DArray(), stamp=number * PERIOD_NS + late_ns), 'detections')
    texts = doubts.texts(slop_s, TOPICS)
    assert bool(texts) == said
    assert all('may be of another image' in t and '0.033 s' in t for t in texts)


def answered(*objects, frames=12, **parameters):
    """Return what a handler doubts after some frames with the same objects."""
    handler = FrameHandler(BoxEstimator(), dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))),
                           DropCounters(lambda *_: None), compressed=False)
    for second in range(frames):
        handler.answer(Frame(*frame(second, *objects)), NodeParameters(**parameters))
    return ' '.join(problem.text for problem in handler.doubts())


def test_scores_that_are_percentages_are_told():
    """No threshold between 0 and 1 leaves any of them out."""
    assert 'scores of detections reach 87' in answered(('duck', 30, 20, 10, 87.0))
    assert answered(('duck', 30, 20, 10, 1.0)) == ''


def test_boxes_that_lie_on_one_another_are_told():
    """Each would be an object; other labels, other places and a single frame are no fault."""
    twice = ('duck', 30, 20, 20), ('duck', 30.3, 20, 20)
    assert 'non-maximum suppression' in answered(*twice)
    assert answered(*twice, frames=9) == ''
    assert answered(('duck', 30, 20, 20), ('can', 30, 20, 20), ('duck', 40, 20, 20)) == ''
    assert 'score, 0 to 1' in answered(('duck', 30, 20, 20, 0.0))
    assert answered() == ''
    watch = DetectionWatch()
    for _ in range(20):
        watch.see_answers([PoseEstimate(
            'duck', 9, np.eye(4), 0.9, 0, '', np.array([30.0, 20.0, 30.0, 20.0]))] * 2)
    assert watch.problems() == []


@pytest.mark.parametrize('parameters', [
    {'max_instances': 1}, {'track': True}, {'min_pose_score': 0.8}])
def test_boxes_on_one_another_are_no_fault_where_not_each_gets_a_pose(parameters):
    """The best one of an object that is there once, one instance, or none at all."""
    twice = ('duck', 30, 20, 20), ('duck', 30.3, 20, 20)
    assert answered(*twice, **parameters) == ''


@pytest.mark.parametrize(('names', 'told'), [
    (['pose_node'], ''), (['pose_node', 'pose_node'], '/left/pose_node publishes'),
    (['rosbag2', 'pose_node'], '/left/rosbag2 publishes'), ([], '')])
def test_a_node_that_was_started_twice_is_told(names, told):
    """Every answer and every transform would come twice, from two estimators."""
    node = Mock()
    node.get_fully_qualified_name.return_value = '/left/pose_node'
    node.get_publishers_info_by_topic.return_value = [
        SimpleNamespace(node_name=name, node_namespace='/left') for name in names]
    publisher = SimpleNamespace(topic_name='/object_detections', msg_type=Detection3DArray)
    made = reporter.Reporter(node, DropCounters(lambda *_: None), Timings(), (publisher,))
    problems = made._doubles()
    assert [told in p.text and '/object_detections' in p.text for p in problems] == (
        [True] if told else [])
    made.sent_by_others = ['can', 'duck']
    assert 'another node sends can, duck to /tf' in made._doubles()[-1].text


def test_the_frame_of_a_body_is_told_with_its_optical_frame():
    """It is a warning in the status of the inputs, and in the log."""
    node, watch = Mock(), InputWatch(lambda: 1)
    for name, kind in (('image', Image), ('camera_info', CameraInfo)):
        watch.expect(name, Expected(TOPICS[name], kind, QoSProfile(depth=1)))
    assert watch.camera_frame == ''
    watch.saw(header(CameraInfo(), 'camera_link'), 'camera_info')
    assert watch.camera_frame == 'camera_link'
    made = reporter.Reporter(node, DropCounters(lambda *_: None), Timings(), ())
    node.get_publishers_info_by_topic.return_value = []
    assert not any('optical' in p.text for p in made._inputs(NodeParameters(), watch).problems)
    made.optical_frame = 'camera_optical'
    told = [p.text for p in made._inputs(NodeParameters(), watch).problems if 'optical' in p.text]
    assert len(told) == 1 and "images have the frame 'camera_link'" in told[0]
    assert node.get_logger().warning.call_args.args == (told[0],)


def test_each_doubt_about_the_camera_is_logged_once():
    """Also the second one, when the first is mended; a zoom lens does not fill the log."""
    node = Mock()
    made = reporter.Reporter(node, DropCounters(lambda *_: None), Timings(), ())
    for number in [0, 0, 1, 0, 1, *range(100)]:
        made._warn_once(f'doubt {number}')
    told = [call.args[0] for call in node.get_logger().warning.call_args_list]
    assert told == [f'doubt {n}' for n in range(reporter.MOST_WARNINGS)]


@pytest.mark.parametrize(('pattern', 'node', 'meant'), [
    ('/pose_node', '/pose_node', True), ('/pose_node', '/left/pose_node', False),
    ('/left/pose_node', '/left/pose_node', True), ('/**', '/left/pose_node', True),
    ('/**/pose_node', '/pose_node', True), ('/**/pose_node', '/a/b/pose_node', True),
    ('/*/pose_node', '/pose_node', False), ('/*/pose_node', '/a/pose_node', True),
    ('/*', '/left/pose_node', False), ('/left/**', '/left/pose_node', True),
    ('/pose.node', '/pose_node', False)])
def test_names_of_parameter_files_are_those_of_ros(pattern, node, meant):
    """As rcl reads them; each case was tried with it."""
    assert is_meant(pattern, node) == meant


@pytest.mark.parametrize(('rule', 'said'), [
    ('imgae:=/camera/image', 'none of that name; did you mean image?'),
    ('/image:=/camera/image', '/image was remapped'), ('image:=/camera/image', ''),
    ('/left/image:=/camera/image', ''), ('pose_node:image:=/a', ''),
    ('pose_node:imge:=/a', 'image?'),
    ('rviz:overlay_:=/a', ''), ('__ns:=/left', ''), ('~/detections:=/a', ''), ('/tf:=tf', ''),
    ('pose_node/confirm_pose:=/a', ''), ('overlay:=/a', ''), ('detections:=/a', ''),
    ('depth:=/a', 'parameter depth is off'), ('rgb:=/a', 'none of that name')])
def test_a_new_name_for_a_topic_that_is_not_there_is_told(rule, said):
    """ROS takes any, and the node would wait for the topic with its old name."""
    words = ['pose_node', '--ros-args', '-r', rule]
    remarks = remap_remarks(words, '/left/pose_node', NodeParameters())
    assert [said in remark for remark in remarks] == ([True] if said else [])


def test_new_names_of_inputs_that_a_parameter_takes_or_does_not_are_told():
    """With a detector of its own the node listens to no other; depth must be asked for."""
    words = ['--remap', 'detections:=/boxes', '-r', 'depth:=/depth']
    remark, = remap_remarks(words, '/pose_node', NodeParameters(detector='d', depth='auto'))
    assert 'does not listen' in remark
    assert remap_remarks(words, '/pose_node', NodeParameters(depth='required')) == []


def test_parameters_of_a_topic_that_the_own_detector_replaces_are_told():
    """Whoever copies them from another setup would wait for their effect."""
    given = NodeParameters(label_map=('a=b',), detections_size=(640, 640))
    remark, = idle_parameters(dataclasses.replace(given, detector='d'))
    assert remark.startswith('label_map, detections_size without effect')
    assert idle_parameters(given) == idle_parameters(NodeParameters(detector='d')) == []


@pytest.mark.parametrize(('text', 'unused'), [
    ('pose_node: {ros__parameters: {queue: 7}}', True),
    ('left: {pose_node: {ros__parameters: {queue: 7}}}', False),
    ('/**: {ros__parameters: {queue: 7}}', False),
    ('a: {ros__parameters: {}}\nleft/pose_node: {ros__parameters: {}}', False),
    ('camera: {ros__parameters: {fps: 7}}', True), ('', True), ('{{{', False)])
def test_a_parameter_file_for_another_node_is_told(tmp_path, text, unused):
    """ROS leaves it aside without a word, as where the node was given a namespace."""
    file = tmp_path / 'my.yaml'
    file.write_text(text, encoding='utf-8')
    words = ['pose_node', '--ros-args', '--params-file', str(file), '-r', '__ns:=/left']
    remarks = unused_files(words, '/left/pose_node')
    assert bool(remarks) == unused
    assert all(str(file) in r and 'none for /left/pose_node' in r for r in remarks)
    assert unused_files([*words[:3], str(tmp_path / 'none.yaml')], '/pose_node') == []
