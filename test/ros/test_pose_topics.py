"""Topics of poses with covariance and of symmetries: their names and messages."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_frames import moment
from stand_in_node import DIAMETERS_M, SURE, BoxEstimator

from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.ros.pose_topics import pose_with_covariance, symmetries_message, topic_token


@pytest.mark.parametrize(('name', 'token'), [
    ('can', 'can'), ('can_2', 'can_2'), ('Milk Carton', 'Milk_Carton'),
    ('6d/box', 'object_6d_box'), ('__x__y', 'x_y'), ('é', 'ue9'),
    ('ω', 'u3c9'), ('Dose ä', 'Dose_ue4')])
def test_names_become_parts_of_topics(name, token):
    """Whatever a label is, the topic is one that ROS takes."""
    assert topic_token(name) == token


def test_a_pose_without_covariance_is_not_said_to_be_sure():
    """Zeros would count as certain, so there is no message."""
    T = np.eye(4)
    T[:3, 3] = 0.1, 0.2, 0.9
    pose = PoseEstimate('can', 1, T, 0.9, 0, '', np.zeros(4), covariance=SURE)
    header = moment(3)[0].header
    message = pose_with_covariance(header, pose)
    assert message.header == header and message.pose.pose.position.z == 0.9
    np.testing.assert_allclose(np.reshape(message.pose.covariance, (6, 6)), SURE)
    for covariance in (None, np.full((6, 6), np.nan)):
        assert pose_with_covariance(header, dataclasses.replace(pose, covariance=covariance)
                                    ) is None


def test_symmetries_are_told_in_the_object_frame():
    """Each object has its transforms, the identity among them."""
    told = json.loads(symmetries_message(BoxEstimator().objects).data)
    assert told['version'] == 1
    by_label = {o['label']: np.reshape(o['transforms'], (-1, 4, 4)) for o in told['objects']}
    assert set(by_label) == set(DIAMETERS_M)
    np.testing.assert_allclose(by_label['brick'], [np.eye(4), np.diag([-1.0, -1, 1, 1])])
    assert len(by_label['duck']) == 1
