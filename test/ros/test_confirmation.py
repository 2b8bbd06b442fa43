"""When several frames agree on a pose, and how far they are apart."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from stand_in_node import box_object

from mrcnet_ros.errors import UnknownLabelError
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.ros.confirmation import Confirmation, spread
from mrcnet_ros.ros.params import NodeParameters

MS = 10**6
HALF_TURN = exp_so3([0.0, 0.0, np.pi])


@pytest.fixture(scope='module')
def objects(tmp_path_factory):
    folder = tmp_path_factory.mktemp('boxes')
    return {label: box_object(folder, label) for label in ('duck', 'can', 'brick')}


def _noisy_poses(rng, count=200):
    T = make_transform(exp_so3(rng.normal(size=3)), [0.1, 0.2, 0.9])
    offsets = rng.normal(size=(count, 6)) * [0.01, 0.02, 0.03, 0.1, 0.2, 0.05]
    return T, offsets, np.stack([
        make_transform(exp_so3(w[3:]) @ T[:3, :3], T[:3, 3] + w[:3]) for w in offsets])


def test_the_spread_of_poses_is_that_of_their_offsets():
    """Position, then rotation vector, both along the axes of the frame the poses are in."""
    T, offsets, poses = _noisy_poses(np.random.default_rng(0))
    found = spread(poses)
    assert np.allclose(found.T_mean, T, atol=0.05)
    assert np.allclose(found.covariance, np.cov(offsets.T), atol=5e-4)
    assert found.position_m == pytest.approx(
        np.linalg.norm(poses[:, :3, 3] - found.T_mean[:3, 3], axis=1).max())


def test_the_spread_turns_with_the_frame():
    """Seen from another frame the mean is the same pose, and the covariance is turned."""
    rng = np.random.default_rng(1)
    _, _, poses = _noisy_poses(rng, 5)
    T = make_transform(exp_so3(rng.normal(size=3)), rng.normal(size=3))
    here, there = spread(poses), spread(T @ poses)
    assert np.allclose(there.T_mean, T @ here.T_mean)
    turn = np.kron(np.eye(2), T[:3, :3])
    assert np.allclose(there.covariance, turn @ here.covariance @ turn.T)
    assert there.rotation_rad == pytest.approx(here.rotation_rad)


def _estimate(label='duck', x=0.0, R=None, score=0.9):
    T = make_transform(np.eye(3) if R is None else R, [x, 0.0, 1.0])
    return PoseEstimate(label, 1, T, score, 0, '', np.zeros(4))


def _first_confirmed(confirmation, estimates, *, times_ms=None, name=None, **parameters):
    """Return the number of the first frame that confirms, and what it confirms."""
    parameters = NodeParameters(confirm_frames=3, **parameters)
    times_ms = times_ms or range(0, 30 * len(estimates), 30)
    for number, (at_ms, estimate) in enumerate(zip(times_ms, estimates, strict=True), 1):
        found = confirmation.see(at_ms * MS, [name or estimate.label], [estimate], parameters)
        if found is not None:
            return number, found
    return None, None


def test_as_many_frames_as_are_wanted_confirm_a_pose(objects):
    """The answer is their mean, and how far they lie apart."""
    number, found = _first_confirmed(
        Confirmation('duck', 0, objects), [_estimate(x=x) for x in (0.0, 0.003, 0.006)])
    assert number == 3
    assert found.estimate.T_camera_object[0, 3] == pytest.approx(0.003)
    assert found.spread.position_m == pytest.approx(0.003)
    assert found.spread.covariance[0, 0] == pytest.approx(0.003**2)


def test_a_confirmed_pose_has_the_covariance_of_a_frame_and_the_spread(objects):
    """Positive definite, where a few frames' spread is not; of a model without a law none."""
    C = np.diag([4e-6, 4e-6, 1e-4, 0.01, 0.01, 0.01])
    poses = [dataclasses.replace(_estimate(x=x), covariance=C) for x in (0.0, 0.003, 0.006)]
    found = _first_confirmed(Confirmation('duck', 0, objects), poses)[1]
    np.testing.assert_allclose(found.estimate.covariance, C + found.spread.covariance)
    assert found.estimate.covariance[0, 0] == pytest.approx(4e-6 + 0.003**2)
    assert np.linalg.eigvalsh(found.estimate.covariance).min() >= 4e-6 - 1e-12
    assert np.linalg.matrix_rank(found.spread.covariance) < 6
    same = [dataclasses.replace(_estimate(), covariance=C)] * 3
    alike = _first_confirmed(Confirmation('duck', 0, objects), same)[1]
    np.testing.assert_allclose(alike.estimate.covariance, C, atol=1e-15)
    bare = _first_confirmed(Confirmation('duck', 0, objects), [_estimate()] * 3)[1]
    assert bare.estimate.covariance is None


def test_a_pose_is_confirmed_wherever_the_origin_is(objects):
    """Rotations that agree move an origin far from the object by more than confirm_spread_m.

    The answer is about that origin all the same, and its covariance has the lever.
    """
    duck = dataclasses.replace(objects['duck'], middle_m=np.array([0.5, 0.0, 0.0]))
    poses = [_estimate(R=exp_so3([0.0, 0.0, turn])) for turn in (-0.04, 0.0, 0.04)]
    poses = [dataclasses.replace(pose, T_camera_object=duck.from_centred(pose.T_camera_object),
                                 covariance=1e-6 * np.eye(6)) for pose in poses]
    number, found = _first_confirmed(Confirmation('duck', 0, {'duck': duck}), poses)
    assert number == 3 and found.spread.position_m < 1e-9
    np.testing.assert_allclose(
        found.estimate.T_camera_object, make_transform(np.eye(3), [-0.5, 0.0, 1.0]), atol=1e-9)
    assert found.estimate.covariance[1, 1] == pytest.approx((0.5 * 0.04)**2, rel=0.01)


@pytest.mark.parametrize(('estimates', 'expected'), [
    ([_estimate(x=x) for x in (0.0, 0.05, 0.0, 0.05, 0.0)], None),
    ([_estimate(x=x) for x in (0.1, 0.0, 0.0, 0.0)], 4),
    ([_estimate(R=exp_so3([0.3 * i, 0.0, 0.0])) for i in range(6)], None),
    ([_estimate('can') for _ in range(6)], None),
])
def test_poses_that_differ_confirm_nothing(objects, estimates, expected):
    """In position or rotation; what was before the last frames does not matter."""
    assert _first_confirmed(Confirmation('duck', 0, objects), estimates)[0] == expected


@pytest.mark.parametrize(('times_ms', 'expected'), [
    ([0, 30, 60, 90, 120], 3), ([0, 30, 2000, 2030, 2060], 5), ([900, 930, 0, 30, 60], 5),
])
def test_a_gap_or_time_that_runs_backwards_begins_anew(objects, times_ms, expected):
    """Frames in a row are meant."""
    assert _first_confirmed(Confirmation('duck', 0, objects), [_estimate()] * 5,
                            times_ms=times_ms)[0] == expected


def test_one_image_counts_once(objects):
    """However often it comes: the answer is about the scene, not about one picture of it."""
    for times_ms, expected in (([30] * 5, None), ([0, 30, 30, 30, 60], 5)):
        assert _first_confirmed(Confirmation('duck', 0, objects), [_estimate()] * 5,
                                times_ms=times_ms)[0] == expected


def test_poses_with_a_low_score_confirm_nothing(objects):
    """A wrong pose is steady as well; the reason names score and parameter."""
    poor, good = _estimate(score=0.29), _estimate(score=0.31)
    confirmation = Confirmation('duck', 0, objects)
    assert _first_confirmed(confirmation, [poor] * 5)[0] is None
    assert '0.29' in confirmation.account() and 'confirm_min_score' in confirmation.account()
    assert _first_confirmed(
        Confirmation('duck', 0, objects), [good, poor, good, poor, good])[0] == 5
    assert _first_confirmed(
        Confirmation('duck', 0, objects), [poor] * 3, confirm_min_score=0.2)[0] == 3


def test_frames_from_before_the_time_asked_for_do_not_count(objects):
    """A robot asks for images that were taken after it had stopped."""
    assert _first_confirmed(Confirmation('duck', 45 * MS, objects), [_estimate()] * 6)[0] == 5


def test_why_no_frame_counts_is_told(objects):
    """Clocks that differ, and frames that come too rarely."""
    early = Confirmation('duck', 5000 * MS, objects)
    assert _first_confirmed(early, [_estimate()] * 3)[0] is None
    assert '3 frames came with stamps before source_time' in early.account()
    assert 'by 4.94 s' in early.account()
    assert _first_confirmed(early, [_estimate()], times_ms=[5000])[0] is None
    assert early.account() == '1 frames came, and 1 poses in a row'
    rare = Confirmation('duck', 0, objects)
    assert _first_confirmed(rare, [_estimate()] * 5, times_ms=range(0, 7500, 1500))[0] is None
    assert '1.5 s apart' in rare.account() and 'track_gap_s is 1' in rare.account()


def test_poses_that_look_the_same_agree(objects):
    """A brick may be turned by half; a duck may not."""
    turned = [{'R': HALF_TURN if i % 2 else None} for i in range(4)]
    for label, expected in (('brick', 3), ('duck', None)):
        assert _first_confirmed(Confirmation(label, 0, objects),
                                [_estimate(label, **t) for t in turned])[0] == expected


def test_a_name_is_one_instance_and_a_label_any(objects):
    """Of several the one with the best score."""
    parameters = NodeParameters(confirm_frames=2)
    both = [_estimate(score=0.5), _estimate(x=0.4, score=0.8)]
    for wanted, expected in (('duck', 'duck_2'), ('duck_2', 'duck_2')):
        confirmation = Confirmation(wanted, 0, objects)
        confirmation.see(0, ['duck', 'duck_2'], both, parameters)
        assert confirmation.see(30 * MS, ['duck', 'duck_2'], both, parameters).name == expected
    assert _first_confirmed(Confirmation('duck_2', 0, objects), [_estimate()] * 6)[0] is None


@pytest.mark.parametrize('wanted', ['teapot', '', 'duck_', 'duck_1', 'duck_02', 'duck_x', 'duck2'])
def test_what_can_never_come_is_refused(objects, wanted):
    """With the names that can."""
    with pytest.raises(UnknownLabelError, match='brick, can, duck'):
        Confirmation(wanted, 0, objects)
