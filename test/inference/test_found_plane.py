"""Objects that stand on one plane tell where it is, and their poses are corrected by it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from meshes import cube
from scipy.stats import chi2

from mrcnet_ros.geometry.resting import Rests, resting_faces
from mrcnet_ros.geometry.se3 import exp_so3, log_so3, make_transform
from mrcnet_ros.inference.found_plane import (
    HEIGHT_M,
    SHARED_DISTANCE,
    PlaneFinder,
    settled,
    speakers,
)
from mrcnet_ros.inference.poses import PoseEstimate

SIDES_M = np.array([0.06, 0.09, 0.14])
BOX = resting_faces(cube(1.0).vertices * SIDES_M, np.zeros(3))
# a camera 0.8 m away that looks down at 45 degrees
T_CAMERA_TABLE = make_transform(exp_so3([0.75 * np.pi, 0.0, 0.0]), [0.0, 0.05, 0.8])
# deviations across the ray, along it [m], and of rotation [rad]: those of the network
ACROSS_M, ALONG_M, TURN_RAD = 0.003, 0.02, 0.08


def scene(rng: np.random.Generator, count: int, height_m: float = 0.0) -> np.ndarray:
    """Return boxes side by side on the table, turned about its normal, (N, 4, 4)."""
    places = np.array([[x, y] for x in (-0.2, 0.0, 0.2) for y in (-0.15, 0.0, 0.15)])[:count]
    R = exp_so3(np.array([[0, 0, a] for a in rng.uniform(-3, 3, count)]))
    t = np.column_stack([places, np.full(count, SIDES_M[2] / 2 + height_m)])
    return np.asarray(T_CAMERA_TABLE @ make_transform(R, t))


def doubts(T: np.ndarray) -> np.ndarray:
    """Return covariances like those of the network, (N, 6, 6)."""
    ray = T[:, :3, 3] / np.linalg.norm(T[:, :3, 3], axis=1, keepdims=True)
    C = np.zeros((len(T), 6, 6))
    along = ray[:, :, None] * ray[:, None]
    C[:, :3, :3] = ACROSS_M**2 * (np.eye(3) - along) + ALONG_M**2 * along
    C[:, 3:, 3:] = TURN_RAD**2 * np.eye(3)
    return C


def drawn(rng: np.random.Generator, T: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Return poses that are off as their covariances say."""
    off = np.einsum('nij,nj->ni', np.linalg.cholesky(C), rng.normal(size=(len(T), 6)))
    moved = T.copy()
    moved[:, :3, 3] -= off[:, :3]
    moved[:, :3, :3] = exp_so3(-off[:, 3:]) @ T[:, :3, :3]
    return moved


def stand(T: np.ndarray, C: np.ndarray, rests: Rests = BOX) -> Any:
    """Return the corrections of boxes."""
    return settled(T, C, [rests] * len(T), np.arange(len(T)))


def along_m(T: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return how far distances are off."""
    return np.abs(np.linalg.norm(T[:, :3, 3], axis=1) - np.linalg.norm(truth[:, :3, 3], axis=1))


def test_objects_on_a_table_come_near_to_where_they_stand():
    """The errors of distance shrink, those of tilt as well, and the stated errors are true."""
    rng = np.random.default_rng(1)
    before, after, tilts, squares = [], [], [], []
    for _ in range(30):
        truth = scene(rng, 7)
        C = doubts(truth)
        T = drawn(rng, truth, C)
        for i, found in enumerate(stand(T, C)):
            if found is None:
                continue
            moved, left = found
            before.append(along_m(T[i:i + 1], truth[i:i + 1])[0])
            after.append(along_m(moved[None], truth[i:i + 1])[0])
            off = [log_so3(truth[i, :3, :3] @ R.T)[[0, 2]] for R in (T[i, :3, :3], moved[:3, :3])]
            tilts.append(np.linalg.norm(off, axis=1))
            error = truth[i, :3, 3] - moved[:3, 3]
            squares.append(error @ np.linalg.solve(left[:3, :3], error))
            assert np.linalg.eigvalsh(left).min() > 0
            np.testing.assert_array_equal(left[3:, 3:], C[i, 3:, 3:])
    assert len(after) > 0.8 * 30 * 7
    assert np.median(after) < 0.7 * np.median(before)
    assert np.median(np.array(tilts)[:, 1]) < 0.9 * np.median(np.array(tilts)[:, 0])
    assert 0.8 < np.mean(np.array(squares) < chi2.ppf(0.9, 3)) <= 1.0


def test_a_wrong_distance_among_right_ones_is_put_right():
    """As far as errors that all objects may share, and its own, allow."""
    truth = scene(np.random.default_rng(2), 7)
    T = truth.copy()
    T[3, :3, 3] *= 1.03
    found = stand(T, doubts(truth))
    limit_m = HEIGHT_M + SHARED_DISTANCE * 0.8
    assert along_m(found[3][0][None], truth[3:4])[0] < limit_m < along_m(T[3:4], truth[3:4])[0]
    right = np.array([item[0] for i, item in enumerate(found) if i != 3])
    assert along_m(right, truth[[0, 1, 2, 4, 5, 6]]).max() < 0.006


def test_the_camera_may_be_turned():
    """The same scene, seen by a camera with other axes, has the same answers there."""
    rng = np.random.default_rng(3)
    truth = scene(rng, 6)
    C = doubts(truth)
    T = drawn(rng, truth, C)
    A = make_transform(exp_so3([0.2, -0.1, 1.9]), [0, 0, 0])
    turn = np.zeros((6, 6))
    turn[:3, :3] = turn[3:, 3:] = A[:3, :3]
    for here, there in zip(stand(T, C), stand(A @ T, turn @ C @ turn.T), strict=True):
        assert (here is None) == (there is None)
        if here is not None:
            np.testing.assert_allclose(A @ here[0], there[0], atol=1e-9)
            np.testing.assert_allclose(turn @ here[1] @ turn.T, there[1], atol=1e-12)


def test_a_held_object_is_left_alone():
    """It is twelve centimetres above the table; the others are corrected."""
    rng = np.random.default_rng(4)
    truth = np.concatenate([scene(rng, 6), scene(rng, 9, height_m=0.12)[6:7]])
    found = stand(truth * 1.0, doubts(truth))
    assert found[6] is None and sum(item is not None for item in found) == 6


def test_a_heap_has_no_plane():
    """Objects turned at random agree by chance only; of 120 heaps hardly one is moved."""
    rng = np.random.default_rng(5)
    moved = 0
    for _ in range(120):
        truth = scene(rng, 8)
        truth[:, :3, :3] = exp_so3(rng.normal(size=(8, 3)) * 2.0)
        truth[:, :3, 3] *= rng.uniform(0.85, 1.15, (8, 1))
        moved += any(item is not None for item in stand(truth, doubts(truth)))
    assert moved <= 2  # 5 if a plane could be found by chance


@pytest.mark.parametrize('count', [1, 2])
def test_two_objects_make_no_plane(count):
    """Any two nearly do."""
    truth = scene(np.random.default_rng(6), count)
    assert stand(truth, doubts(truth)) == [None] * count


def test_a_table_seen_from_its_edge_says_nothing():
    """There, a small error of height would be a large one of distance."""
    T_edge = make_transform(exp_so3([0.53 * np.pi, 0.0, 0.0]), [0.0, 0.05, 0.8])
    truth = scene(np.random.default_rng(7), 7)
    truth = T_edge @ np.linalg.inv(T_CAMERA_TABLE) @ truth
    assert stand(truth, doubts(truth)) == [None] * 7


def test_what_is_below_the_camera_is_no_ceiling():
    """Objects that hang from a plane that is seen from its other side have none."""
    truth = scene(np.random.default_rng(8), 7)
    cone = Rests(BOX.ups[:1], BOX.lowest_m[:1], BOX.nearest)  # rests on one face alone
    up = T_CAMERA_TABLE[:3, 2]
    for i in range(7):  # that face is turned up, away from the table
        side = truth[i, :3, :3] @ cone.ups[0]
        axis = np.cross(side, -up)
        turn = exp_so3(axis / max(np.linalg.norm(axis), 1e-9) * np.arccos(np.clip(
            side @ -up, -1, 1)))
        truth[i, :3, :3] = turn @ truth[i, :3, :3]
    assert stand(truth, doubts(truth), cone) == [None] * 7


BODY = SimpleNamespace(rests=BOX, diameter_m=float(np.linalg.norm(SIDES_M)))
BODIES: Any = {'box': BODY, 'crate': BODY}


@pytest.mark.filterwarnings('error')
def test_a_plate_exactly_on_its_edge_does_not_keep_others_from_a_plane():
    """It has no slopes in their frame; poses of simulators are as exact as that."""
    T = np.tile(np.eye(4), (5, 1, 1))  # below a camera that looks straight down
    T[:, :3, 3] = [[x, 0.1, 1.0] for x in (-0.2, 0.0, 0.2, 0.3, 0.1)]
    T[4, :3, :3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    plate = resting_faces(cube(1.0).vertices * (0.1, 0.1, 0.001), np.zeros(3))
    found = settled(T, doubts(T), [BOX] * 4 + [plate], np.arange(5))
    assert [item is not None for item in found] == [True] * 4 + [False]


def estimates(T: np.ndarray, C: np.ndarray) -> list[PoseEstimate]:
    """Return them as the estimator's poses."""
    return [PoseEstimate('box', 1, pose, 0.5, i, '', np.zeros(4), covariance=covariance)
            for i, (pose, covariance) in enumerate(zip(T, C, strict=True))]


def test_poses_with_depth_stay_and_those_without_covariance_do_not_count():
    """Depth says where the plane is; nothing is known of how far the others may be off."""
    truth = scene(np.random.default_rng(9), 6)
    T = truth.copy()
    T[:, :3, 3] *= 1.015
    poses = estimates(T, doubts(truth))
    depth: Any = SimpleNamespace(is_used=True)
    poses[0] = dataclasses.replace(poses[0], depth=depth)
    poses[1] = dataclasses.replace(poses[1], covariance=None)
    finder = PlaneFinder(BODIES)
    found = finder.correct(poses)
    assert [pose.stands for pose in found] == [False, False, True, True, True, True]
    assert found[0] is poses[0] and found[1] is poses[1]
    assert [pose.detection_index for pose in found] == list(range(6))
    assert finder.correct(poses[:3]) == poses[:3]  # two that count


def test_boxes_of_one_object_do_not_agree_with_one_another():
    """Two objects with three boxes each make no plane, wherever they are."""
    rng = np.random.default_rng(10)
    for _ in range(40):
        T = np.repeat(scene(rng, 7)[[0, 6]], 3, axis=0)
        T[:3, :3, 3] *= rng.uniform(0.97, 1.03)
        poses = estimates(drawn(rng, T, 0.03 * doubts(T)), doubts(T))
        assert PlaneFinder(BODIES).correct(poses) == poses


@pytest.mark.parametrize('label', ['box', 'crate'])
def test_a_second_pose_of_an_object_tells_nothing_but_is_moved(label):
    """The surest one speaks for its object, whatever a detector calls the others."""
    rng = np.random.default_rng(11)
    truth = scene(rng, 7)
    C = doubts(truth)
    poses = estimates(drawn(rng, truth, C), C)
    again = [dataclasses.replace(poses[3], label=label, score=0.4)] * 2
    once = PlaneFinder(BODIES).correct(poses)
    found = PlaneFinder(BODIES).correct([again[0], *poses, again[1]])
    assert all(pose.stands for pose in found)
    for before, pose in zip([once[3], *once, once[3]], found, strict=True):
        np.testing.assert_allclose(pose.T_camera_object, before.T_camera_object, atol=1e-12)
        np.testing.assert_allclose(pose.covariance, before.covariance, atol=1e-12)


@pytest.mark.parametrize('label', ['box', 'crate'])
def test_objects_side_by_side_are_several(label):
    """Only poses that can only be of one object are taken together."""
    truth = scene(np.random.default_rng(12), 2)
    poses = estimates(truth, doubts(truth))
    poses[1] = dataclasses.replace(poses[1], label=label)
    assert speakers(poses, BODIES).tolist() == [0, 1]


def test_a_pose_that_is_not_chosen_tells_no_plane_and_may_stand_on_it():
    """Otherwise false boxes would say where the table is."""
    rng = np.random.default_rng(13)
    truth = scene(rng, 5)
    C = doubts(truth)
    right = estimates(drawn(rng, truth, C), C)
    afloat = truth.copy()
    afloat[:, :3, 3] -= 0.3 * T_CAMERA_TABLE[:3, 2]
    afloat[:, :3, 3] += [0.9, 0.0, 0.0]  # beside the others
    false = estimates(afloat, 0.01 * C)
    finder = PlaneFinder(BODIES)
    found = finder.correct([*false, *right], right)
    assert [pose.stands for pose in found] == [False] * 5 + [True] * 5
    for pose, alone in zip(found[5:], finder.correct(right), strict=True):
        np.testing.assert_allclose(pose.T_camera_object, alone.T_camera_object, atol=1e-12)
    assert not any(pose.stands for pose in finder.correct([*false, *right], right[:2]))


def test_a_rival_is_compared_with_the_plane_of_the_others_alone():
    """Neither it nor the pose whose place it would take says where that is."""
    rng = np.random.default_rng(14)
    truth = scene(rng, 6)
    C = doubts(truth)
    poses = [dataclasses.replace(pose, label=label) for pose, label in zip(
        estimates(drawn(rng, truth, C), C), ['crate', *['box'] * 5], strict=True)]
    finder = PlaneFinder(BODIES)
    rival = dataclasses.replace(poses[0], T_camera_object=drawn(rng, truth, C)[0])
    rival.T_camera_object[:3, 3] += T_CAMERA_TABLE[:3, 0]  # in another place on the table
    found = []
    for height_m in (-0.01, 0.01):
        other = dataclasses.replace(poses[0], T_camera_object=poses[0].T_camera_object.copy())
        other.T_camera_object[:3, 3] += height_m * T_CAMERA_TABLE[:3, 2]
        corrected = finder.correct([rival, other, *poses[1:]], [other, *poses[1:]])
        assert corrected[0].stands and corrected[1].stands
        found.append(corrected[0].T_camera_object)
    np.testing.assert_allclose(found[0], found[1], atol=3e-4)
