"""Boxes of detections and poses as messages; no node runs."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_frames import frame

from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_from_quat_wxyz
from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.ros import detection_reading, messages

NAN = float('nan')


def test_a_box_is_centre_and_size():
    """Class, score and id come along; a detection without a hypothesis is left out."""
    _, _, boxes = frame(1, ('duck', 10.0, 20.0, 6.0, 0.4, 'x'), ('can',))
    boxes.detections[1].results = []
    detections, unlabelled = detection_reading.detections_from_message(boxes)
    assert unlabelled == 1
    assert detections[0].box_xyxy.tolist() == [7.0, 17.0, 13.0, 23.0]
    assert (detections[0].label, detections[0].score) == ('duck', 0.4)
    assert detections[0].detection_id == 'x'


@pytest.mark.parametrize(('theta', 'expected'), [
    (0.0, (100.0, 20.0)), (np.pi / 2, (20.0, 100.0)), (-np.pi / 2, (20.0, 100.0)),
    (np.pi / 4, (120 / np.sqrt(2), 120 / np.sqrt(2))),
])
def test_of_a_turned_box_the_upright_one_around_it_is_taken(theta, expected):
    """The object is in it, whatever the detector's boxes are."""
    boxes = frame(1, ('duck', 200.0, 150.0))[2]
    box = boxes.detections[0].bbox
    box.size_x, box.size_y, box.center.theta = 100.0, 20.0, float(theta)
    x1, y1, x2, y2 = detection_reading.detections_from_message(boxes)[0][0].box_xyxy
    assert (x2 - x1, y2 - y1) == pytest.approx(expected)
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((200.0, 150.0))


def _estimate(T, label='duck', detection_id=''):
    return PoseEstimate(label, 9, T, np.float32(0.5), 0, detection_id, np.zeros(4))


def test_a_pose_survives_the_message():
    """As position and quaternion x y z w, in Python's own numbers."""
    rng = np.random.default_rng(0)
    T = make_transform(exp_so3(rng.normal(size=3)), rng.normal(size=3))
    pose = messages.pose_from_transform(T)
    q = pose.orientation
    assert np.allclose(rotation_from_quat_wxyz([q.w, q.x, q.y, q.z]), T[:3, :3])
    assert np.allclose([pose.position.x, pose.position.y, pose.position.z], T[:3, 3])
    assert type(q.w) is float


def test_the_box_of_a_detection_turns_with_the_object():
    """Its centre is the middle of the mesh, its size is along the object's own axes."""
    T = make_transform(exp_so3([0.0, 0.0, np.pi / 2]), [0.0, 0.0, 1.0])
    bounds = np.array([[0.0, -0.1, -0.1], [0.4, 0.1, 0.1]])
    box = messages.detection_3d(frame(1)[0].header, 'duck_2', _estimate(T), bounds).bbox
    position = box.center.position
    assert np.allclose([position.x, position.y, position.z], [0.0, 0.2, 1.0])
    assert np.allclose([box.size.x, box.size.y, box.size.z], [0.4, 0.2, 0.2])


def _covariance(covariance):
    estimate = dataclasses.replace(
        _estimate(make_transform(np.eye(3), [0.0, 0.0, 1.0])), covariance=covariance)
    bounds = np.array([[-0.1, -0.1, -0.1], [0.1, 0.1, 0.1]])
    message = messages.detection_3d(frame(1)[0].header, 'duck', estimate, bounds)
    return message.results[0].pose.covariance


def test_a_covariance_is_sent_row_by_row():
    """As Python's own numbers."""
    covariance = np.arange(36.0).reshape(6, 6)
    sent = _covariance(covariance)
    assert list(sent) == list(range(36))


@pytest.mark.parametrize('wrong', [None, NAN, float('inf')])
def test_a_covariance_that_is_not_there_or_not_finite_is_marked_so(wrong):
    """Its first element is -1 and the others are 0; the pose is sent all the same."""
    covariance = None if wrong is None else np.eye(6)
    if covariance is not None:
        covariance[2, 2] = wrong
    assert list(_covariance(covariance)) == [-1.0, *[0.0] * 35]
