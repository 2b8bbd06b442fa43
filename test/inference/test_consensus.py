"""One pose from several crops: what agrees counts, symmetries are no disagreement."""

import numpy as np
import pytest

from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_angle
from mrcnet_ros.geometry.symmetry import Symmetries, continuous_symmetry
from mrcnet_ros.inference.consensus import Answers
from mrcnet_ros.inference.consensus import consensus as consensus_of

DIAMETER_M = 0.4
NONE = Symmetries.none()
TWO_FOLD = Symmetries(np.stack([np.eye(4), make_transform(np.diag([-1.0, -1.0, 1.0]), [0, 0, 0])]))
ROUND = Symmetries(continuous_symmetry([0, 0, 1], [0, 0, 0]))
T = make_transform(exp_so3([0.4, -1.2, 0.7]), [0.1, -0.05, 0.8])


def consensus(poses, quality, symmetries, diameter_m):
    """Return the consensus of crops with one answer each."""
    count = len(poses)
    return consensus_of(Answers(poses, quality, np.ones(count), np.arange(count)), symmetries,
                        diameter_m)


def near(rng, count, angle=0.1, part=0.02):
    """Return poses about T, (count, 4, 4)."""
    return np.stack([make_transform(T[:3, :3] @ exp_so3(rng.normal(scale=angle, size=3)),
                                    T[:3, 3] * (1 + rng.normal(scale=part)))
                     for _ in range(count)])


def error(found):
    """Return angle [rad] and distance [m] from T."""
    return (float(rotation_angle(found[:3, :3].T @ T[:3, :3])),
            float(np.linalg.norm(found[:3, 3] - T[:3, 3])))


def test_one_crop_is_answered_as_it_is():
    """To the bit."""
    found = consensus(T[None], np.array([0.4]), NONE, DIAMETER_M)
    assert found.score == 0.4
    np.testing.assert_array_equal(found.T_camera_object, T)


def test_equal_answers_are_the_answer():
    """With the mean of their scores."""
    found = consensus(np.stack([T] * 3), np.array([0.2, 0.6, 0.7]), NONE, DIAMETER_M)
    assert found.score == pytest.approx(0.5)
    np.testing.assert_allclose(found.T_camera_object, T, atol=1e-12)


def test_an_answer_that_stands_alone_is_left_out_and_lowers_the_score():
    """Even when it is the most confident one."""
    rng = np.random.default_rng(0)
    wrong = make_transform(exp_so3([2.0, 0, 0]) @ T[:3, :3], [0.3, 0.3, 2.0])
    poses = np.concatenate([wrong[None], near(rng, 3, 0.02, 0.001)])
    found = consensus(poses, np.array([0.9, 0.6, 0.6, 0.6]), NONE, DIAMETER_M)
    angle, distance_m = error(found.T_camera_object)
    assert angle < 0.05 and distance_m < 0.003
    assert found.score == pytest.approx(0.45)


@pytest.mark.parametrize('symmetries', [TWO_FOLD, ROUND], ids=['two-fold', 'round'])
def test_symmetric_equivalents_agree(symmetries):
    """They count as one pose, and the answer is one of them rather than something between."""
    rng = np.random.default_rng(1)
    pick = rng.integers(len(symmetries.transforms), size=5)
    poses = T @ symmetries.transforms[pick]
    found = consensus(poses, np.full(5, 0.8), symmetries, DIAMETER_M)
    nearest = symmetries.nearest(found.T_camera_object[:3, :3], found.T_camera_object[:3, 3],
                                 T[:3, :3])
    assert found.score == pytest.approx(0.8)
    assert error(nearest)[0] < 0.02
    apart = consensus(poses, np.full(5, 0.8), NONE, DIAMETER_M)
    assert apart.score < 0.8


def test_of_a_ball_any_rotations_agree():
    """Its pose is the mean of the positions, and all crops take part."""
    ball = Symmetries(np.concatenate([continuous_symmetry(axis, [0, 0, 0]) for axis in (
        [0, 0, 1], [1, 0, 0])]))
    rng = np.random.default_rng(0)
    poses = np.stack([make_transform(exp_so3(3 * rng.normal(size=3)), [0.1, -0.05, z])
                      for z in (0.79, 0.8, 0.81)])
    found = consensus(poses, np.full(3, 0.6), ball, DIAMETER_M)
    assert ball.is_ball and found.members.tolist() == [0, 1, 2] and found.apart < 0.1
    np.testing.assert_allclose(found.T_camera_object[:3, 3], T[:3, 3], atol=1e-3)


def test_the_mean_is_nearer_than_its_parts():
    """Independent errors shrink with the root of their number, in rotation and in distance."""
    rng = np.random.default_rng(2)
    trials = [near(rng, 9) for _ in range(60)]
    single = np.mean([[error(p) for p in poses] for poses in trials], axis=(0, 1))
    mean = np.mean([error(consensus(poses, np.full(9, 0.5), NONE, DIAMETER_M).T_camera_object)
                    for poses in trials], axis=0)
    assert (mean < 0.5 * single).all()


def test_seen_from_a_turned_camera_the_answer_turns():
    """No direction of the camera is special."""
    rng = np.random.default_rng(3)
    poses, scores = near(rng, 4), rng.uniform(0.2, 0.9, 4)
    turn = make_transform(exp_so3([0.3, -0.8, 1.1]), [0, 0, 0])
    here, there = (consensus(p, scores, TWO_FOLD, DIAMETER_M) for p in (poses, turn @ poses))
    np.testing.assert_allclose(turn @ here.T_camera_object, there.T_camera_object, atol=1e-9)


def test_scores_of_nothing_still_give_a_pose():
    """It is finite, and its score says what to think of it."""
    found = consensus(near(np.random.default_rng(4), 3), np.zeros(3), NONE, DIAMETER_M)
    assert np.isfinite(found.T_camera_object).all() and 0 <= found.score < 1e-6


def test_poses_that_agree_in_rotation_alone_are_not_averaged():
    """Between two places there is none; the answer is one of the poses, and less is it sure."""
    far = T.copy()
    far[:3, 3] += [0.6 * DIAMETER_M, 0.0, 0.0]
    found = consensus(np.stack([far, T]), np.array([0.5, 0.8]), NONE, DIAMETER_M)
    np.testing.assert_allclose(found.T_camera_object, T, atol=1e-12)
    assert found.score == pytest.approx(0.4)
    near_enough = T.copy()
    near_enough[:3, 3] += [0.4 * DIAMETER_M, 0.0, 0.0]
    both = consensus(np.stack([near_enough, T]), np.array([0.5, 0.8]), NONE, DIAMETER_M)
    assert both.score == pytest.approx(0.65)


def test_equivalents_whose_origin_moves_agree():
    """The origin of a symmetric object need not be on the axis of the symmetry."""
    flip = make_transform(np.diag([-1.0, -1.0, 1.0]), [0.9 * DIAMETER_M, 0.0, 0.0])
    symmetries = Symmetries(np.stack([np.eye(4), flip]))
    found = consensus(np.stack([T, T @ flip]), np.array([0.5, 0.7]), symmetries, DIAMETER_M)
    assert found.score == pytest.approx(0.6)
    assert found.members.tolist() == [0, 1]
    assert min(error(found.T_camera_object), error(found.T_camera_object @ flip))[1] < 1e-9


def test_the_crops_that_took_part_are_named():
    """What else is told of a pose, its bin and covariance, has to come from one of them."""
    rng = np.random.default_rng(5)
    wrong = make_transform(exp_so3([2.0, 0, 0]) @ T[:3, :3], T[:3, 3])
    poses = np.concatenate([wrong[None], near(rng, 2, 0.02, 0.001), wrong[None]])
    poses[3, :3, 3] += DIAMETER_M
    found = consensus(poses, np.array([0.6, 0.5, 0.5, 0.6]), NONE, DIAMETER_M)
    assert found.members.tolist() == [1, 2]


def test_how_far_crops_are_apart_is_that_of_their_surfaces():
    """Of a ball with all points at 0.3 diameters: a turn moves as much of it as it really does."""
    rng = np.random.default_rng(5)
    points = rng.normal(size=(20000, 3))
    points *= 0.3 * DIAMETER_M / np.linalg.norm(points, axis=1)[:, None]
    other = make_transform(exp_so3([0.2, -0.3, 0.1]) @ T[:3, :3], T[:3, 3] + [0.01, 0.0, 0.02])
    moved = points @ (other - T)[:3, :3].T + (other - T)[:3, 3]
    apart = np.sqrt((moved**2).sum(axis=1).mean()) / DIAMETER_M
    found = consensus(np.stack([T, other]), np.array([0.5, 0.6]), NONE, DIAMETER_M)
    assert found.apart == pytest.approx(apart, rel=0.01)
    assert np.isnan(consensus(T[None], np.array([0.4]), NONE, DIAMETER_M).apart)


@pytest.mark.parametrize('symmetries', [TWO_FOLD, ROUND], ids=['two-fold', 'round'])
def test_symmetric_equivalents_are_not_apart(symmetries):
    """They look the same; the same turn of another object is far."""
    poses = T @ symmetries.transforms[[0, len(symmetries.transforms) // 2, 0]]
    scores = np.full(3, 0.5)
    assert consensus(poses, scores, symmetries, DIAMETER_M).apart < 1e-6
    assert consensus(poses, scores, NONE, DIAMETER_M).apart > 0.2
