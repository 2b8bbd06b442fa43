"""Where the camera is comes from /tf, and an object that rests is expected where it rests."""

from __future__ import annotations

import itertools
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.parameter import Parameter
from ros_frames import frame
from ros_process import environment, own_domain
from stand_in_node import DIAMETERS_M, BoxEstimator
from std_msgs.msg import Header

from mrcnet_ros.geometry.se3 import (
    exp_so3,
    inverse,
    make_transform,
    quat_wxyz_from_rotation,
    rotation_angle,
)
from mrcnet_ros.inference.poses import FrameResult, PoseEstimate
from mrcnet_ros.ros.camera_path import CameraPath
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.messages import stamp_ns
from mrcnet_ros.ros.node_process import start
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.pose_node import PoseNode
from mrcnet_ros.ros.transforms import CameraTransforms, MotionError, Tree

CAMERA_FRAME = 'camera_optical'
STEP_S = 0.05
MOVING = NodeParameters(track=True, track_frame='/world')


def T_world_camera(step: float) -> np.ndarray:
    """Return a camera that moves at 0.5 m/s and turns at 40 degrees a second."""
    return make_transform(exp_so3([0.0, 0.035 * step, 0.2]), [0.025 * step, 0.1, 1.0])


def stamp(message, step: float):
    """Give a message the moment of a step."""
    ns = round(7e9 + 1e9 * STEP_S * step)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(ns, 10**9)
    return message


def transform(step: float) -> TransformStamped:
    """Return where the camera is at a step, as a message."""
    message = stamp(TransformStamped(child_frame_id=CAMERA_FRAME), step)
    message.header.frame_id = 'world'
    T = T_world_camera(step)
    t, q = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = map(float, T[:3, 3])
    q.w, q.x, q.y, q.z = map(float, quat_wxyz_from_rotation(T[:3, :3]))
    return message


def header(step: float) -> Header:
    """Return the header of an image."""
    return stamp(frame(7)[0], step).header


@pytest.fixture
def motion():
    """Return what looks up the camera."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('motion', context=context)
    found = CameraTransforms(node)
    yield found
    found.close()
    node.destroy_node()
    context.try_shutdown()


def test_the_camera_is_where_it_was_at_the_stamp(motion):
    """Between two transforms it is in the middle; before any comes there is no answer."""
    with pytest.raises(MotionError, match='check track_frame'):
        motion.look_up(header(0), 'world')
    for step in (0, 1):
        motion._buffer.set_transform(transform(step), '')
    np.testing.assert_allclose(motion.look_up(header(1), 'world'), T_world_camera(1), atol=1e-6)
    np.testing.assert_allclose(motion.look_up(header(0.5), 'world'), T_world_camera(0.5),
                               atol=1e-4)
    with pytest.raises(MotionError, match="'map' does not exist"):
        motion.look_up(header(0), 'map')


def test_a_transform_that_is_not_there_yet_is_expected_from_those_before(motion):
    """The image came before the transform of its moment; what is too old tells nothing."""
    for step in (0, 1):
        motion._buffer.set_transform(transform(step), '')
    np.testing.assert_allclose(motion.look_up(header(2), 'world'), T_world_camera(1), atol=1e-6)
    motion._buffer.set_transform(transform(2), '')
    for step in (3, 4.5, 7.9):
        np.testing.assert_allclose(motion.look_up(header(step), 'world'), T_world_camera(step),
                                   atol=2e-3)
    with pytest.raises(MotionError, match=r'0\.30 s older than the image'):
        motion.look_up(header(8.1), 'world')


def test_when_time_goes_back_tf_begins_anew(motion):
    """tf2 takes nothing that is older than ten seconds before its newest transform."""
    late, early = 400, 0  # steps, 20 s from one to the other
    motion.begin((0, stamp_ns(header(late))))
    motion._buffer.set_transform(transform(late), '')
    motion.begin((0, stamp_ns(header(early))))  # a stray image
    motion._buffer.set_transform(transform(early), '')
    assert motion.look_up(header(late), 'world') is not None
    with pytest.raises(MotionError):
        motion.look_up(header(early), 'world')
    motion.begin((1, stamp_ns(header(early))))
    motion._buffer.set_transform(transform(early), '')
    np.testing.assert_allclose(motion.look_up(header(early), 'world'), T_world_camera(early),
                               atol=1e-6)
    motion.begin((2, stamp_ns(header(early + 1))))  # time went on while nobody looked
    assert motion.look_up(header(early + 1), 'world') is not None


@pytest.mark.parametrize('known', [
    lambda step: step >= 9, lambda step: not 4 <= step < 15, lambda step: step % 3 == 0],
    ids=['late at first', 'missing for a while', 'every third only'])
def test_what_tf_does_not_tell_for_a_while_moves_no_object(motion, known):
    """When /tf tells the camera again, an object is expected where it was a moment before.

    From image to image the camera turns by 2 degrees. A few images pass until its motion is
    known.
    """
    _, expected, counts = follow(motion, MOVING, 24, known)
    turns = [a @ inverse(b) for a, b in itertools.pairwise(expected[6:])]
    assert max(rotation_angle(T[:3, :3]) for T in turns) < 0.04
    still = any(np.allclose(T, np.eye(4), atol=1e-9) for T in turns[:-4])
    assert still == (counts.get('no_camera_motion', 0) > 1)
    assert not any(np.allclose(T, np.eye(4), atol=1e-9) for T in turns[-4:])


def test_the_path_of_a_camera_goes_on_in_another_frame():
    """Of an earlier image it is known in the present frames only."""
    path, A, B = CameraPath(), ('map', 'camera'), ('odom', 'camera')
    first = path.at(0, A, T_world_camera(0))
    np.testing.assert_allclose(inverse(first) @ path.at(1, A, T_world_camera(1)),
                               inverse(T_world_camera(0)) @ T_world_camera(1), atol=1e-12)
    before = path.at(1, A, T_world_camera(1))
    np.testing.assert_allclose(path.at(2, A, None), before)
    np.testing.assert_allclose(path.at(3, B, T_world_camera(7)), before, atol=1e-12)
    np.testing.assert_allclose(path.at(1, A, T_world_camera(1)), before)
    np.testing.assert_allclose(inverse(before) @ path.at(2, B, T_world_camera(6)),
                               inverse(T_world_camera(7)) @ T_world_camera(6), atol=1e-12)
    np.testing.assert_allclose(path.at(3, B, T_world_camera(7)), before, atol=1e-12)


class Still(BoxEstimator):
    """Finds whatever it looks for where it is expected, and remembers where that was."""

    def __init__(self) -> None:
        """Look for nothing yet."""
        super().__init__()
        self.expected: list[np.ndarray] = []

    def follow(self, image_rgb, camera, starts, depth_m=None, support_plane=None):
        """Answer each start with itself."""
        self.expected += [s.T_camera_object for s in starts]
        return FrameResult([PoseEstimate(s.label, 9, s.T_camera_object, 0.7, i, s.detection_id,
                                         np.zeros(4)) for i, s in enumerate(starts)], [])


def follow(motion: CameraTransforms, parameters: NodeParameters, steps: int,
           known=lambda step: True):
    """Detect a duck in the first of some images; return where it was and is expected, and drops.

    /tf is known up to the moment of each image, but for the steps that are not known.
    """
    counters, estimator = DropCounters(lambda *_: None), Still()
    handler = FrameHandler(estimator, dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))), counters,
                           compressed=False, tree=Tree(camera=motion.look_up))
    first = None
    for step in range(steps):
        if known(step):
            motion._buffer.set_transform(transform(step), '')
        image, info, boxes = (stamp(m, step) for m in frame(7, ('duck',)))
        answer = handler.answer_if_wanted(Frame(image, info, None if step else boxes), parameters,
                                          (0, 0))
        first = answer.measured[0].T_camera_object if first is None else first
    return first, estimator.expected, counters.counts()


def test_an_object_that_rests_is_expected_where_the_camera_now_sees_it(motion):
    """To a tenth of a millimetre over a second of motion, from the second image on."""
    first, expected, counts = follow(motion, MOVING, 20)
    assert len(expected) == 19 and not counts.get('no_camera_motion')
    T_world_object = T_world_camera(0) @ first
    for step, T in enumerate(expected, start=1):
        np.testing.assert_allclose(T, inverse(T_world_camera(step)) @ T_world_object, atol=1e-4)
    assert np.linalg.norm(expected[-1][:3, 3] - first[:3, 3]) > 0.3


@pytest.mark.parametrize(('parameters', 'told'), [
    (NodeParameters(track=True), 0), (NodeParameters(track=True, track_frame='map'), 3)],
    ids=['no track_frame', 'a frame that /tf does not know'])
def test_without_its_motion_the_camera_is_taken_to_rest(motion, parameters, told):
    """What it sees is expected where it was; a frame that is missing is counted."""
    first, expected, counts = follow(motion, parameters, 3)
    for T in expected:
        np.testing.assert_allclose(T, first, atol=1e-6)
    assert counts.get('no_camera_motion', 0) == told


@pytest.mark.parametrize('fixed', ['', 'world'])
def test_instances_rest_while_the_camera_moves_without_track(motion, fixed):
    """A pose that is smoothed for long stays where its object was in ``track_frame``."""
    handler = FrameHandler(BoxEstimator(), dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))),
                           DropCounters(lambda *_: None), compressed=False,
                           tree=Tree(camera=motion.look_up))
    parameters = NodeParameters(track_frame=fixed, track_jump=10.0, smoothing_s=1e6,
                                stable_symmetry=False)
    found = []
    for step in (0, 4):
        motion._buffer.set_transform(transform(step), '')
        image, info, boxes = (stamp(m, step) for m in frame(7, ('duck',)))
        answer = handler.answer(Frame(image, info, boxes), parameters)
        found.append(answer.scene.estimates[0].T_camera_object)
    moved = inverse(T_world_camera(4)) @ T_world_camera(0) if fixed else np.eye(4)
    np.testing.assert_allclose(found[1], moved @ found[0], atol=1e-4)
    assert np.allclose(moved, np.eye(4)) == (not fixed)


@pytest.mark.parametrize('live', [False, True])
def test_the_node_listens_to_tf_for_track_frame_alone(monkeypatch, live):
    """Given at the start or set later, with ``track`` off."""
    for name, text in environment(own_domain(76)).items():
        monkeypatch.setenv(name, text)
    rclpy.init()
    node, fixed = PoseNode(lambda _: BoxEstimator()), [Parameter('track_frame', value='world')]
    try:
        if not live:
            node.set_parameters(fixed)
        assert start(node)
        if live:
            assert node._camera_motion is None
            assert node.set_parameters_atomically(fixed).successful
        node._camera_motion._buffer.set_transform(transform(3), '')
        np.testing.assert_allclose(node._camera_in(header(3), 'world'), T_world_camera(3),
                                   atol=1e-9)
    finally:
        node.close()
        node.destroy_node()
        rclpy.shutdown()


def test_a_transform_that_is_not_finite_is_none(motion):
    """Following with it would lose every instance."""
    found = transform(0)
    found.transform.translation.x = float('nan')
    motion._buffer = Mock(lookup_transform=lambda *_: found)
    with pytest.raises(MotionError, match='not finite'):
        motion.look_up(header(1), 'world')
