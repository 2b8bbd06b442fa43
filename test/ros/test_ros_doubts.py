"""What can be used but looks wrong is told, and names of objects never break others' names."""

from __future__ import annotations

import re
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from geometry_msgs.msg import TransformStamped
from rclpy.qos import QoSProfile
from ros_frames import frame
from sensor_msgs.msg import CameraInfo, Image
from stand_in_node import DIAMETERS_M, BoxEstimator
from tf2_msgs.msg import TFMessage

from mrcnet_ros.errors import CameraError, ImageError
from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.ros import messages
from mrcnet_ros.ros.depth_image import depth_from_image
from mrcnet_ros.ros.detection_reading import detections_from_message
from mrcnet_ros.ros.diagnostics import Level
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frame_names import (
    LOOK_MESSAGES,
    MOST_MOVING,
    PAUSE_S,
    ROBOT_FRAMES,
    FrameNames,
)
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.input_doubts import camera_doubts
from mrcnet_ros.ros.input_watch import InputWatch
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.pose_topics import PoseTopics
from mrcnet_ros.ros.silent_input import Expected
from mrcnet_ros.ros.transforms import Tree

D = [0.1, -0.2, 0.0, 0.0, 0.0]


def info(width=640, height=480, fx=600.0, cx=320.0, cy=240.0, **fields):
    """Return a camera_info."""
    return CameraInfo(width=width, height=height, k=[fx, 0.0, cx, 0.0, fx, cy, 0.0, 0.0, 1.0],
                      distortion_model='plumb_bob', **fields)


@pytest.mark.parametrize('given', [
    info(3840, 2160, 13489.9, 11447.9, 6276.5),  # as a driver of a depth camera sent it
    info(640, 480, 920.0, 640.0, 360.0), info(1280, 960),
    info(2064, 1544, 299.5, 254.1, 183.9, binning_x=4, binning_y=4)])
def test_a_matrix_of_another_resolution_is_told(given):
    """Focal lengths would be as wrong as the principal point, and with them all distances."""
    doubt, = camera_doubts(given, '/image', rectified=False)
    assert 'principal point' in doubt and f'{messages.camera_from_info(given).width}x' in doubt


def test_a_usual_camera_and_a_part_of_its_image_are_not_doubted():
    """Nor is what is refused anyway."""
    part = info()
    part.roi.x_offset, part.roi.y_offset, part.roi.width, part.roi.height = 0, 0, 200, 100
    for given in (info(), info(cx=345.0, cy=220.0), part, CameraInfo()):
        assert camera_doubts(given, '/image', rectified=False) == []


@pytest.mark.parametrize(('change', 'rectified', 'said'), [
    ({'fx': 600_000.0}, False, 'telescope'), ({'fx': 15_000.0}, False, ''),
    ({'d': D}, True, 'P of camera_info is zero'), ({'d': D}, False, ''), ({}, True, '')])
def test_focal_lengths_and_projections_that_cannot_be_are_told(change, rectified, said):
    """Other units, and a rectified image without its own K; lenses with a long reach are none."""
    doubts = camera_doubts(info(**change), '/image', rectified=rectified)
    assert bool(doubts) == bool(said) and all(said in doubt for doubt in doubts)


@pytest.mark.parametrize(('d', 'said'), [
    ([-0.28, 0.09, -0.02, 0.001, -0.0007], 'in the order k1, k2, p1, p2, k3'),
    ([-0.28, 0.09, 0.001, -0.0007, -0.02], ''), ([1e5, 0.0, 0.0, 0.0, 0.0], 'bend rays more'),
    ([-6.0, 0.0, 0.0, 0.0, 0.0], 'would not reach the border'), ([-0.4, 0.2, 0, 0, -0.05], '')])
def test_coefficients_that_no_lens_has_are_told(d, said):
    """In the order of another program, or for rays in pixels."""
    doubts = camera_doubts(info(d=[float(v) for v in d]), '/image', rectified=False)
    assert bool(doubts) == bool(said) and all(said in doubt for doubt in doubts)


@pytest.mark.parametrize(('fy', 'told'), [(600.0, False), (650.0, False), (300.0, True)])
def test_pixels_that_are_not_square_are_told(fy, told):
    """An image that was halved in one direction, with the K of both."""
    given = info()
    given.k[4] = fy
    assert any('square' in doubt for doubt in camera_doubts(
        given, '/image', rectified=False)) == told


@pytest.mark.parametrize(('topic', 'rectified', 'd', 'said'), [
    ('/camera/image_rect', False, D, 'image_rectified is false'),
    ('/camera/image_rect_color', False, D, 'image_rectified is false'),
    ('/camera/image_raw', True, D, 'image_rectified is true'),
    ('/camera/image_rect_raw', True, D, ''), ('/rect/image', False, D, ''),
    ('/camera/image_rect', True, D, ''), ('/camera/image_raw', False, D, ''),
    ('/camera/image_rect', False, [0.0] * 5, '')])
def test_a_lens_that_is_corrected_twice_or_not_at_all_is_told(topic, rectified, d, said):
    """By the name of the topic, also compressed; without a distortion it makes no difference."""
    P = [600.0, 0.0, 320.0, 0.0, 0.0, 600.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name in (topic, f'{topic}/compressed'):
        doubts = camera_doubts(info(d=d, p=P), name, rectified=rectified)
        assert bool(doubts) == bool(said) and all(said in doubt for doubt in doubts)


def test_doubts_are_problems_of_the_inputs():
    """Once a camera_info has come."""
    watch = InputWatch(lambda: 0)
    for name, kind in (('image', Image), ('camera_info', CameraInfo)):
        watch.expect(name, Expected(f'/{name}_rect', kind, QoSProfile(depth=1)))
    assert watch.doubtful_camera(rectified=False) == []
    watch.saw(info(d=D, cx=10.0), 'camera_info')
    problems = watch.doubtful_camera(rectified=False)
    assert [p.level for p in problems] == [Level.WARN] * 2


def test_focal_lengths_in_parts_of_the_image_are_refused():
    """No lens sees so much."""
    with pytest.raises(CameraError, match='too short for 640x480 px'):
        messages.camera_from_info(info(fx=0.94, cx=0.5, cy=0.5))


def test_four_bytes_a_pixel_are_no_rgb8():
    """They would come out as stripes; rows that are padded as memory is are no obstacle."""
    for width, refused in ((640, True), (60, True), (6, False)):
        image = Image(width=width, height=2, step=4 * width, encoding='rgb8',
                      data=bytes(8 * width))
        if refused:
            with pytest.raises(ImageError, match=r'4 a pixel, as rgba8'):
                messages.rgb_from_image(image)
        else:
            assert messages.rgb_from_image(image).shape == (2, width, 3)


@pytest.mark.parametrize('theta', [45.0, 90.0, -180.0])
def test_a_box_turned_by_degrees_is_left_out_and_told(theta):
    """90 radians are another angle than 90 degrees."""
    counters = DropCounters(lambda *_: None)
    handler = FrameHandler(BoxEstimator(), dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))), counters,
                           compressed=False)
    found = frame(1, ('duck', 30.0, 20.0))
    found[2].detections[0].bbox.center.theta = theta
    assert handler.answer(Frame(*found), NodeParameters()).poses == []
    reason = counters.reasons()['non_finite']
    assert 'theta' in reason and 'radians' in reason
    found[2].detections[0].bbox.center.theta = -2.0 * np.pi
    assert np.isfinite(detections_from_message(found[2])[0][0].box_xyxy).all()


def test_an_object_named_as_the_frame_of_the_camera_is_not_sent_to_tf():
    """It would be its own parent; a prefix keeps both apart. tf2 knows no leading slash."""
    counters = DropCounters(lambda *_: None)
    handler = FrameHandler(BoxEstimator(), dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))), counters,
                           compressed=False)
    found = frame(1, ('duck', 30.0, 20.0))
    for message in found:
        message.header.frame_id = 'duck'
    answer = handler.answer(Frame(*found), NodeParameters())
    assert len(answer.poses) == 1 and answer.transforms == []
    assert "'duck' has the name of the frame" in counters.reasons()['frame_taken']
    sent, = handler.answer(Frame(*found), NodeParameters(frame_prefix='/seen/')).transforms
    assert sent.child_frame_id == 'seen/duck'


def tree(*edges: str) -> TFMessage:
    """Return a message of /tf; an edge is ``parent child``."""
    message = TFMessage()
    for edge in edges:
        parent, child = edge.split()
        message.transforms.append(TransformStamped(child_frame_id=child))
        message.transforms[-1].header.frame_id = parent
    return message


@pytest.mark.parametrize(('edges', 'child', 'said'), [
    (('odom base_link', 'base_link tool', 'tool camera'), 'tool', "another node publishes.*'base"),
    (('/table /duck',), 'duck', "another node publishes.*'table'"),
    (('other_camera duck',), 'duck', "'other_camera'"),
    (('cell robot', 'robot camera'), 'cell', 'the camera is fixed to'),
    (('cell robot', 'robot cell', 'cell camera'), 'cell', 'another node publishes'),
    (('duck duck_grasp', 'camera can', 'camera duck'), 'duck', ''), ((), 'duck', ''),
    *(((), name, 'a frame of robots') for name in ROBOT_FRAMES)])
def test_an_object_never_takes_a_frame_of_the_robot(edges, child, said):
    """Its transform would tear the tree apart, or close a loop; a loop of others is survived."""
    names = FrameNames()
    names.note(tree(*edges))
    refusal = names.refusal(child, 'camera')
    assert bool(refusal) == bool(said) and (not said or re.search(said, refusal))
    assert names.refusal(f'seen/{child}', 'camera') == ''


def test_what_the_node_itself_sent_is_no_frame_of_others():
    """Also when the driver names its camera anew: the old transforms may still be on their way."""
    names = FrameNames()
    assert names.refusal('duck', 'camera') == ''
    names.note(tree('camera duck'))
    assert names.refusal('duck', 'camera_2') == ''
    names.note(tree('camera duck', 'camera_2 duck'))
    assert names.refusal('duck', 'camera_2') == ''
    names.note(tree('table duck'))
    assert "'table'" in names.refusal('duck', 'camera_2')


def sent(x_m: float, stamp_s: int = 5) -> TFMessage:
    """Return what a node sends of the duck."""
    message = tree('camera duck')
    message.transforms[0].header.stamp.sec = stamp_s
    message.transforms[0].transform.translation.x = x_m
    return message


def test_poses_of_another_run_in_tf_are_told():
    """A bag that holds them has the same stamps; the node knows its own again, also late ones."""
    now = [0.0]
    names = FrameNames(lambda: now[0])
    assert names.refusal('duck', 'camera') == ''
    names._moved(sent(0.1))
    assert names.others() == []  # before the node has sent it
    for stamp in range(5, 9):
        names.sent(sent(0.1, stamp).transforms)
    for stamp in (8, 5, 5, 6):
        names._moved(sent(0.1, stamp))
    assert names.others() == []
    names._moved(sent(0.2))
    assert names.others() == ['duck']
    now[0] = 20.0
    assert names.others() == []
    names._moved(sent(0.2))  # the node itself no longer sends it
    assert names.others() == []
    names.sent(sent(0.1).transforms)
    assert names.others() == ['duck']


@pytest.mark.parametrize(('child', 'xyzw', 'found'), [
    ('camera_optical_frame', (-0.5, 0.5, -0.5, 0.5), True),
    ('camera_optical_frame', (0.5, -0.5, 0.5, -0.5), True),  # the same rotation
    ('camera_optical_frame', (-0.48, 0.51, -0.52, 0.49), True),  # calibrated
    ('camera_optical_frame', (0.0, 0.0, 0.0, 1.0), False),  # another name of it
    ('camera_optical_frame', (0.0, 0.0, 0.0, 0.0), False),
    ('body_of_optical_frame', (0.5, -0.5, 0.5, 0.5), False),  # a body below an optical frame
    ('gripper', (-0.5, 0.5, -0.5, 0.5), False)])
def test_images_in_the_frame_of_a_body_are_told(child, xyzw, found):
    """As simulators have them: poses with z forward would be turned there."""
    names, message = FrameNames(), tree(f'camera_link {child}')
    rotation = message.transforms[0].transform.rotation
    rotation.x, rotation.y, rotation.z, rotation.w = xyzw
    names.note_fixed(message)
    assert names.optical_of('/camera_link') == child * found
    assert names.optical_of(child) == names.optical_of('') == ''


def test_a_frame_with_a_slash_is_no_other_frame():
    """Images of bags of ROS 1 have such frames; what the node sends itself comes back without."""
    names = FrameNames()
    assert names.refusal('duck', '/camera') == ''
    names.note(tree('/camera duck'))
    assert names.refusal('duck', '/camera') == ''
    assert names.refusal('duck', 'camera') == ''


def test_ever_new_names_in_tf_take_no_memory():
    """A tracker of people names each anew; the frames of the robot stay known."""
    names, node = FrameNames(), Mock()
    names.listen(node)
    moved, noted = (call.args[2] for call in node.create_subscription.call_args_list)
    noted(tree('cell robot', 'base tool'))
    for number in range(3 * MOST_MOVING):
        moved(tree('robot base', 'base camera', f'map person_{number}'))
    assert sum(len(value) for value in vars(names).values()
               if isinstance(value, dict)) <= MOST_MOVING + 10
    for frame_id in ('cell', 'robot', 'base', 'tool', f'person_{number}'):
        assert names.refusal(frame_id, 'camera')
    moved(tree('base tool'))
    noted(tree('base person_5'))
    assert names.refusal('tool', 'camera') and "'base'" in names.refusal('person_5', 'camera')
    names.close()


def test_of_a_busy_tf_little_is_looked_at():
    """Names change seldom, and robots send hundreds of messages a second."""
    now, node = [0.0], Mock()
    names = FrameNames(lambda: now[0])
    names.listen(node)
    moved, gate = (node.create_subscription.call_args_list[0].args[2],
                   node.create_subscription.call_args_list[0].kwargs['callback_group'])
    taken = 0
    for step in range(1000):
        now[0] = step * 0.01
        if gate.can_execute(None):
            moved(tree('odom base'))
            taken += 1
    assert taken <= LOOK_MESSAGES * (1 + 10.0 / PAUSE_S)
    assert names.refusal('base', 'camera')
    names.close()
    assert node.destroy_subscription.call_count == 2


def test_a_frame_that_is_taken_is_not_sent_to_tf_and_told():
    """The poses are published all the same; frames of parameters are taken, too."""
    counters, names = DropCounters(lambda *_: None), FrameNames()
    handler = FrameHandler(BoxEstimator(), dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))), counters,
                           compressed=False, tree=Tree(refusal=names.refusal))
    names.note(tree('table duck'))
    found = Frame(*frame(1, ('duck', 30.0, 20.0), ('can', 20.0, 20.0)))
    answer = handler.answer(found, NodeParameters())
    assert len(answer.poses) == 2
    assert [t.child_frame_id for t in answer.transforms] == ['can']
    assert counters.counts()['frame_taken'] == 1
    assert "below 'table'" in counters.reasons()['frame_taken']
    found = Frame(*frame(1, ('can', 20.0, 20.0)))
    for name in ('support_plane', 'track_frame'):
        assert handler.answer(found, NodeParameters(**{name: '/can'})).transforms == []
        assert f'parameter {name}' in counters.reasons()['frame_taken']


def test_two_names_that_are_one_topic_do_not_share_it():
    """The second one is told; labels of other alphabets have topics of their own."""
    node = Mock()
    topics = PoseTopics(node)
    pose = PoseEstimate('x', 1, np.eye(4), 0.5, 0, '', np.zeros(4), covariance=np.eye(6))
    header = frame(1)[0].header
    topics.publish(header, {'a b': pose, 'a_b': pose, 'α': pose, 'β': pose}, ())
    made = [call.args[1] for call in node.create_publisher.call_args_list]
    assert made == ['~/pose/a_b', '~/pose/u3b1', '~/pose/u3b2']
    error, = node.get_logger().error.call_args_list
    assert "'a_b' has no topic of its own" in error.args[0] and "'a b'" in error.args[0]


def test_the_largest_depth_of_sixteen_bits_is_none():
    """Cameras write it where they cannot count further; 65.5 m would be a surface."""
    image = Image(width=2, height=1, step=4, encoding='16UC1',
                  data=np.array([800, 65535], np.uint16).tobytes())
    assert depth_from_image(image).tolist() == [[pytest.approx(0.8), 0.0]]
