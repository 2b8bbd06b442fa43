"""Poses of instances from frame to frame, which do not flip."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_client import ready_node
from ros_frames import frame
from stand_in_node import DIAMETERS_M, BoxEstimator
from tracked_instances import MS, estimate_of, names_of

from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_angle
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.ros.confirmation import Confirmation
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.pose_topics import symmetries_message
from mrcnet_ros.ros.tracks import Tracks, blend

HALF_TURN = exp_so3([0.0, 0.0, np.pi])


def _pose(tracks, estimate, at_ms, **parameters):
    _, poses = tracks.update(at_ms * MS, [estimate], NodeParameters(**parameters))
    return poses[0].T_camera_object


def test_a_smooth_pose_does_not_lag_behind_a_moving_camera(tracks):
    """Smoothing is of the object in the world, which rests."""
    _pose(tracks, estimate_of(x=0.0), 0, smoothing_s=10.0)
    tracks.camera_at(make_transform(np.eye(3), [0.05, 0.0, 0.0]))
    moved = estimate_of(x=-0.05)
    np.testing.assert_allclose(_pose(tracks, moved, 30, smoothing_s=10.0),
                               moved.T_camera_object, atol=1e-9)


def test_a_symmetric_object_is_steady_in_a_bag_that_loops_fast():
    """Frames of a loop shorter than track_gap_s are no late ones; a new era begins with it."""
    made = FrameHandler(BoxEstimator(), dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))),
                        DropCounters(lambda *_: None), compressed=False)

    def seen(era, at_ms, name):
        messages = frame(0, ('brick', 31.5, 23.5, 30.0, 0.9, name))
        for message in messages:
            message.header.stamp.nanosec = at_ms * MS
        answer = made.answer(Frame(*messages, era=era), NodeParameters())
        return answer.scene.estimates[0].T_camera_object

    for era, at_ms in ((0, 600), (0, 900), (1, 100), (1, 400), (2, 100)):
        first, second = seen(era, at_ms, ''), seen(era, at_ms + 50, 'flip')
        np.testing.assert_allclose(first, second, atol=1e-9)


def test_naming_a_late_frame_changes_nothing(tracks):
    """However late it is: no name, no place, no pose, and no id that it has."""
    left, right = estimate_of('brick', x=-0.3), estimate_of('brick', x=0.3)
    assert names_of(tracks, left, right, at_ms=10000) == ['brick', 'brick_2']
    for late in ((right,), (estimate_of('brick', '7', x=0.3), estimate_of('brick', '8', x=2.0))):
        assert tracks.names(late, NodeParameters(), ['', 'track 9'][:len(late)]) == [
            'brick_2', 'brick'][:len(late)]
    assert names_of(tracks, right, left, at_ms=10030) == ['brick_2', 'brick']
    flipped = estimate_of('brick', '8', x=0.34, R=HALF_TURN)
    names, (pose,) = tracks.update(10060 * MS, [flipped], NodeParameters(smoothing_s=1.0))
    assert names == ['brick_2'] and np.allclose(pose.T_camera_object[:3, :3], np.eye(3))
    assert 0.3 < pose.T_camera_object[0, 3] < 0.31


def test_a_symmetric_object_does_not_flip(tracks):
    """Of two poses that look the same the one nearest to the last is published."""
    _pose(tracks, estimate_of('brick'), 0)
    small = exp_so3([0.0, 0.0, 0.1])
    T = _pose(tracks, estimate_of('brick', R=small @ HALF_TURN, x=0.01), 30)
    assert np.allclose(T[:3, :3], small)
    assert T[0, 3] == pytest.approx(0.01)


def _far_from_its_origin(brick, middle_m, symmetric=True):
    """Return an object whose middle, and axis of a half turn, is off the origin along x."""
    middle_m = np.array([middle_m, 0.0, 0.0])
    half = make_transform(HALF_TURN, middle_m - HALF_TURN @ middle_m)
    motions = np.stack([np.eye(4), half][:1 + symmetric])
    return dataclasses.replace(brick, symmetries=Symmetries(motions), middle_m=middle_m,
                               bounds_m=brick.bounds_m + middle_m)


def _with_middle(item, x, R):
    """Return an estimate of an object whose middle is at a place."""
    estimate = estimate_of('brick', x=x, R=R)
    return dataclasses.replace(estimate, T_camera_object=item.from_centred(
        estimate.T_camera_object))


@pytest.mark.parametrize('middle_m', [0.0, 0.06, 0.3])
def test_a_symmetric_object_does_not_flip_wherever_its_origin_is(objects, middle_m):
    """An equivalent whose origin is further away than a diameter is no jump."""
    brick = _far_from_its_origin(objects['brick'], middle_m)
    tracks = Tracks({'brick': brick})
    for number, R in enumerate((np.eye(3), HALF_TURN) * 2):
        T = _pose(tracks, _with_middle(brick, 0.0, R), 30 * number)
        np.testing.assert_allclose(T[:3, :3], np.eye(3), atol=1e-9)
        np.testing.assert_allclose(T[:3, 3], [-middle_m, 0.0, 1.0], atol=1e-9)


@pytest.mark.parametrize('turns', [(np.eye(3), HALF_TURN), (
    exp_so3([0.0, 0.1, 0.1]), exp_so3([0.0, -0.1, -0.1]))])
def test_instances_keep_their_names_wherever_the_origin_is(objects, turns):
    """Neither an equivalent pose nor an error of rotation brings one to another's place."""
    brick = _far_from_its_origin(objects['brick'], 1.0, turns[1] is HALF_TURN)
    tracks = Tracks({'brick': brick})
    for number, (left, right) in enumerate(itertools.product(turns, turns)):
        names = names_of(tracks, _with_middle(brick, -0.15, left),
                         _with_middle(brick, 0.15, right), at_ms=60 * number)
        assert names == ['brick', 'brick_2']
        names = names_of(tracks, _with_middle(brick, 0.15, left),
                         _with_middle(brick, -0.15, right), at_ms=60 * number + 30)
        assert names == ['brick_2', 'brick']


def test_smoothing_turns_an_object_about_its_middle(objects):
    """Half way between two rotations the middle stays where both have it."""
    brick = _far_from_its_origin(objects['brick'], 0.3, symmetric=False)
    tracks = Tracks({'brick': brick})
    _pose(tracks, _with_middle(brick, 0.0, np.eye(3)), 0)
    T = _pose(tracks, _with_middle(brick, 0.0, exp_so3([0.0, 0.0, 0.4])), 30, smoothing_s=0.05)
    np.testing.assert_allclose(brick.to_centred(T)[:3, 3], [0.0, 0.0, 1.0], atol=1e-9)
    assert 0.1 < rotation_angle(T[:3, :3]) < 0.3


@pytest.mark.parametrize('ratio', [1.0, 0.9])
def test_an_equivalent_of_an_object_smaller_than_its_mesh_is_where_the_object_is(objects, ratio):
    """An axis of symmetry beside the origin is nearer to it; all that is published knows that."""
    aside = make_transform(HALF_TURN, [0.1, 0.0, 0.0])
    brick = dataclasses.replace(objects['brick'], size_ratio=ratio, symmetries=Symmetries(
        np.stack([np.eye(4), aside])))
    real = make_transform(HALF_TURN, [0.1 * ratio, 0.0, 0.0])
    flipped = estimate_of('brick').T_camera_object @ real
    first, second = estimate_of('brick'), dataclasses.replace(
        estimate_of('brick'), T_camera_object=flipped)
    tracks, T = Tracks({'brick': brick}), first.T_camera_object
    for number, estimate in enumerate((first, second)):
        _, (pose,) = tracks.update(number * 30 * MS, [estimate], NodeParameters())
        assert np.allclose(pose.T_camera_object, T)
    confirmation = Confirmation('brick', 0, {'brick': brick})
    found = [confirmation.see(number * 30 * MS, ['brick'], [estimate], NodeParameters(
        confirm_frames=2)) for number, estimate in enumerate((first, second))][1]
    assert found is not None and np.allclose(found.estimate.T_camera_object, T)
    (told,) = json.loads(symmetries_message({'brick': brick}).data)['objects']
    assert np.allclose(told['transforms'][1], real.ravel())
    assert told['diameter_m'] == pytest.approx(ratio * brick.diameter_m)


def test_the_covariance_is_that_of_the_pose_that_is_published(objects):
    """Where an equivalent has its origin elsewhere, rotation errors move it on a lever."""
    aside = make_transform(HALF_TURN, [0.02, 0.0, 0.0])  # half a turn about an axis off the origin
    brick = dataclasses.replace(
        objects['brick'], symmetries=Symmetries(np.stack([np.eye(4), aside])))
    tracks, C = Tracks({'brick': brick}), np.diag([1e-6, 1e-6, 1e-4, 0.01, 0.01, 0.01])
    flipped = estimate_of('brick')
    flipped = dataclasses.replace(
        flipped, covariance=C, T_camera_object=flipped.T_camera_object @ aside)
    published = [tracks.update(number * 30 * MS, [estimate], NodeParameters())[1][0]
                 for number, estimate in enumerate(
                     [dataclasses.replace(estimate_of('brick'), covariance=C), flipped])]
    assert np.array_equal(published[0].covariance, C)
    assert np.allclose(published[1].T_camera_object, estimate_of('brick').T_camera_object)
    expected = C.copy()
    expected[1, 1] += 0.02**2 * 0.01
    expected[2, 2] += 0.02**2 * 0.01
    assert np.allclose(np.diag(published[1].covariance), np.diag(expected))
    assert np.linalg.eigvalsh(published[1].covariance).min() > 0
    assert np.array_equal(flipped.covariance, C)


@pytest.mark.parametrize('parameters', [{}, {'smoothing_s': 1.0}])
def test_a_covariance_is_that_of_the_frame(tracks, parameters):
    """Smoothing does not claim to know better, and a turn about the axes of the object is none."""
    C = np.diag([1e-6, 2e-6, 1e-4, 0.01, 0.02, 0.03])
    _pose(tracks, estimate_of('brick'), 0)
    estimate = dataclasses.replace(estimate_of('brick', R=HALF_TURN), covariance=C)
    _, poses = tracks.update(30 * MS, [estimate], NodeParameters(**parameters))
    assert np.allclose(poses[0].covariance, C)


@pytest.mark.parametrize(('label', 'change', 'parameters'), [
    ('duck', {}, {}),
    ('brick', {'at_ms': 1500}, {}),
    ('brick', {'at_ms': -10}, {}),
    ('brick', {'x': 0.5}, {}),
    ('brick', {}, {'stable_symmetry': False}),
])
def test_what_is_not_the_same_any_more_is_left_as_estimated(tracks, label, change, parameters):
    """No symmetry, a gap, time backwards, a jump, or not wanted."""
    _pose(tracks, estimate_of(label), 0)
    estimate = estimate_of(label, R=HALF_TURN, x=change.get('x', 0.0))
    T = _pose(tracks, estimate, change.get('at_ms', 30), **parameters)
    assert np.array_equal(T, estimate.T_camera_object)


def test_poses_are_not_smoothed_unless_asked_for(tracks):
    """They are the estimator's to the bit."""
    _pose(tracks, estimate_of(), 0)
    estimate = estimate_of(x=0.02, R=exp_so3([0.1, 0.0, 0.0]))
    assert np.array_equal(_pose(tracks, estimate, 30), estimate.T_camera_object)


def test_smoothing_follows_with_its_time_constant(objects):
    """However many frames there are in that time: 63 % of a step after smoothing_s."""
    target = estimate_of(x=0.04, R=exp_so3([0.0, 0.0, 0.3]))
    for frames in (1, 10, 100):
        tracks = Tracks(objects)
        _pose(tracks, estimate_of(), 0)
        for number in range(1, frames + 1):
            T = _pose(tracks, target, 200 * number / frames, smoothing_s=0.2)
        part = 1 - np.exp(-1)
        assert T[0, 3] == pytest.approx(0.04 * part)
        assert rotation_angle(T[:3, :3]) == pytest.approx(0.3 * part)


def test_a_turn_that_is_a_jump_is_not_smoothed():
    """A pose half way between two hypotheses would be neither."""
    old, new = np.eye(4), make_transform(exp_so3([0.0, 1.2, 0.0]), [0.01, 0.0, 0.0])
    assert np.array_equal(blend(old, new, 0.1), new)


def test_over_dds_the_transform_of_a_symmetric_object_is_steady():
    """The estimator flips in every other frame; after a gap its pose is taken as it is."""
    with ready_node(50) as (_, client):
        for number, name in enumerate(['', 'flip', '', 'flip', 'flip']):
            messages = frame(1 if number < 4 else 9, ('brick', 31.5, 23.5, 30.0, 0.9, name))
            for message in messages:
                message.header.stamp.nanosec = number * 10**8
            assert client.answer(messages) is not None
        assert client.spin(lambda: len(client.transforms) == 5)
        turns = [abs(t.transform.rotation.z) for t in client.transforms]
        assert turns == pytest.approx([0.0, 0.0, 0.0, 0.0, 1.0])


def test_estimates_themselves_are_not_changed(tracks):
    """What the estimator returned can be used elsewhere."""
    before = estimate_of('brick', R=HALF_TURN)
    copy = dataclasses.replace(before, T_camera_object=before.T_camera_object.copy())
    _pose(tracks, estimate_of('brick'), 0)
    _pose(tracks, before, 30, smoothing_s=1.0)
    assert np.array_equal(before.T_camera_object, copy.T_camera_object)
