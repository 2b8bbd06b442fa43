"""The plane that objects stand on comes from /tf; without it frames are answered all the same."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

import rclpy
from geometry_msgs.msg import TransformStamped
from std_msgs.msg import Header

from mrcnet_ros.geometry.se3 import exp_so3, make_transform, quat_wxyz_from_rotation
from mrcnet_ros.ros.diagnostics import Level
from mrcnet_ros.ros.statuses import Account, support_status
from mrcnet_ros.ros.transforms import PlaneError, SupportFrame

T_CAMERA_TABLE = make_transform(exp_so3([0.75 * np.pi, 0.0, 0.0]), [0.0, 0.05, 0.7])


def transform(T, child='table'):
    """Return T_camera_child as a message."""
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = 'camera'
    t, q = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = map(float, T[:3, 3])
    q.w, q.x, q.y, q.z = map(float, quat_wxyz_from_rotation(T[:3, :3]))
    return message


@pytest.fixture
def support():
    """Return what looks up the frame table."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('support', context=context)
    frame = SupportFrame(node, '/table')
    yield frame
    frame.close()
    node.destroy_node()
    context.try_shutdown()


def test_the_plane_is_that_of_the_frame_in_the_camera(support):
    """Points of z = 0 lie on it, points above it on its positive side."""
    support._buffer.set_transform_static(transform(T_CAMERA_TABLE), '')
    plane = support.plane(Header(frame_id='camera'))
    for height_m in (0.0, 0.1):
        point = T_CAMERA_TABLE @ [0.2, -0.1, height_m, 1.0]
        assert plane[:3] @ point[:3] + plane[3] == pytest.approx(height_m, abs=1e-6)


def test_a_missing_or_useless_frame_is_told(support):
    """No transform, an image without a frame, a plane whose z axis points away from the camera."""
    with pytest.raises(PlaneError, match=r"no transform from 'table' to 'camera'"):
        support.plane(Header(frame_id='camera'))
    with pytest.raises(PlaneError, match='name no frame'):
        support.plane(Header())
    upside_down = make_transform(exp_so3([-0.25 * np.pi, 0.0, 0.0]), [0.0, 0.05, 0.7])
    support._buffer.set_transform_static(transform(upside_down), '')
    with pytest.raises(PlaneError, match='z axis must point up'):
        support.plane(Header(frame_id='camera'))


def test_diagnostics_tells_what_the_plane_does():
    """How many poses stand on it; a warning says why frames had none."""
    counts = {'plane_stands': 3, 'plane_left': 1}
    good = support_status(Account(10.0, counts, counts, {}, {}), 'table')
    assert good.level == Level.OK and '3 poses stand on it' in good.message
    bad = support_status(Account(10.0, {'plane_missing': 2}, {'plane_missing': 2},
                                 {'plane_missing': 'no transform'}, {}), 'table')
    assert bad.level == Level.WARN and 'for 2 frames: no transform' in bad.message
