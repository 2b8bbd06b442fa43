"""The plane that objects stand on comes from /tf; without it frames are answered all the same."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from ros_frames import frame
from stand_in_node import DIAMETERS_M, BoxEstimator
from std_msgs.msg import Header

from mrcnet_ros.geometry.se3 import exp_so3, make_transform, quat_wxyz_from_rotation
from mrcnet_ros.inference.support_plane import plane_of_frame
from mrcnet_ros.ros.diagnostics import Level
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.statuses import Account, support_status
from mrcnet_ros.ros.transforms import PlaneError, SupportFrame, Tree

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


def test_a_table_that_moves_is_where_it_was_at_the_stamp(support):
    """A lift that rises by 10 cm in a second, and a camera that comes nearer, look the same."""
    for sec in (0, 1):
        moved = transform(T_CAMERA_TABLE @ make_transform(np.eye(3), [0.0, 0.0, 0.1 * sec]))
        moved.header.stamp = Time(sec=5 + sec)
        support._buffer.set_transform(moved, '')
    for part in (0.0, 0.3, 0.9):
        header = Header(frame_id='camera', stamp=Time(sec=5, nanosec=round(1e9 * part)))
        np.testing.assert_allclose(
            support.plane(header), plane_of_frame(
                T_CAMERA_TABLE @ make_transform(np.eye(3), [0.0, 0.0, 0.1 * part])), atol=1e-6)
    with pytest.raises(PlaneError, match='at the stamp of the image'):
        support.plane(Header(frame_id='camera', stamp=Time(sec=7)))


def test_a_table_that_rests_is_known_when_time_goes_back(support):
    """/tf_static comes once; what moved is forgotten."""
    support._buffer.set_transform_static(transform(T_CAMERA_TABLE), '')
    support.begin((0, 9 * 10**9))
    support.begin((1, 5 * 10**9))
    assert support.plane(Header(frame_id='camera', stamp=Time(sec=5))).shape == (4,)


class Asked(BoxEstimator):
    """Remembers the heights of the planes that it was given."""

    def __init__(self):
        """Remember none yet."""
        super().__init__()
        self.heights = []

    def estimate(self, *given, support_plane=None, **known):
        """Answer without the plane."""
        self.heights.append(support_plane if support_plane is None else support_plane[3])
        return super().estimate(*given, **known)

    def follow(self, image_rgb, camera, starts, depth_m=None, support_plane=None):
        """Answer without the plane."""
        self.heights.append(support_plane if support_plane is None else support_plane[3])
        return super().follow(image_rgb, camera, starts, depth_m)


def answered(known):
    """Follow a duck through five images; the detections of the second one come late.

    :param known: whether /tf tells the plane, which rises by a metre a second.
    :return: the heights that the estimator was given, the stamps that were asked for, and counts.
    """
    asked, counters, estimator = [], DropCounters(lambda *_: None), Asked()

    def plane_of(header):
        asked.append(header.stamp.sec)
        if not known:
            raise PlaneError('no transform')
        return np.array([0.0, 0.0, 1.0, float(header.stamp.sec)])

    handler = FrameHandler(estimator, dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))), counters,
                           compressed=False, tree=Tree(plane=plane_of))
    parameters = NodeParameters(track=True, track_lost_s=9.0, depth='auto')
    for number in (1, 2, 3, 4, 5, 2):
        image, info, boxes = frame(number, ('duck',))
        late = number == 2 and len(asked) > 2
        handler.answer_if_wanted(Frame(image, info, boxes if number == 1 or late else None),
                                 parameters, (0, 5) if late else (0, 0))
    return estimator.heights, asked, counters.counts()


def test_with_track_each_image_has_the_plane_of_its_stamp():
    """It is looked up once for each look at an image, and followed poses are counted too."""
    heights, asked, counts = answered(known=True)
    assert asked[:5] == [1, 2, 3, 4, 5] and heights[:5] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert set(heights[5:]) <= {float(sec) for sec in asked[5:]}
    assert counts['plane_left'] == 6 and 'plane_missing' not in counts


def test_what_an_image_lacks_is_counted_once_however_often_the_node_looks_at_it():
    """Late detections make it look again at their image and at those since."""
    heights, asked, counts = answered(known=False)
    assert set(heights) == {None} and len(asked) > 5
    assert counts['plane_missing'] == 5 and counts['depth_late'] == 5


def test_only_poses_that_are_answered_are_counted():
    """A detector has three boxes of the one duck; two of their poses are not published."""
    counters, estimator = DropCounters(lambda *_: None), BoxEstimator()
    estimator.finds_plane = True
    handler = FrameHandler(estimator, dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))), counters,
                           compressed=False)
    handler.answer(Frame(*frame(1, ('duck', 30), ('duck', 31), ('duck', 32))),
                   NodeParameters(max_instances=1))
    assert counters.counts()['plane_left'] == 1


def test_poses_on_a_found_plane_are_counted_apart():
    """Frames whose named plane is missing are answered with a found one."""
    counters = DropCounters(lambda *_: None)
    counters.plane([True, True, False], found=False)
    counters.plane([True], found=True)
    assert counters.counts() == {'plane_stands': 2, 'plane_found': 1, 'plane_left': 1}


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
    in_millimetres = make_transform(exp_so3([0.75 * np.pi, 0.0, 0.0]), [0.0, 50.0, 700.0])
    support._buffer.set_transform_static(transform(in_millimetres), '')
    with pytest.raises(PlaneError, match=r'/tf be in metres: .* at most 100 m from the'):
        support.plane(Header(frame_id='camera'))


def test_diagnostics_tells_what_the_plane_does():
    """How many poses stand on it; a warning says why frames had none."""
    counts = {'plane_stands': 3, 'plane_found': 2, 'plane_left': 1}
    account = Account(10.0, counts, counts, {}, {})
    good = support_status(account, 'table', finds=True)
    assert good.level == Level.OK and '3 poses corrected, 2 by a plane found' in good.message
    found = support_status(account, '', finds=True)
    assert found.message.startswith('found in the images: 2 poses corrected; 1 not corrected')
    none = support_status(account, '', finds=False)
    assert none.message == ('cannot find a plane: the model has no covariance calibration; '
                            'run mrcnet calibrate --write')
    bad = support_status(Account(10.0, {'plane_missing': 2}, {'plane_missing': 2},
                                 {'plane_missing': 'no transform'}, {}), 'table', finds=True)
    assert bad.level == Level.WARN and 'for 2 frames: no transform' in bad.message
