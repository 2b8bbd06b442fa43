"""Objects that stand on a known plane get their distance from it, and no others."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from meshes import cube

from mrcnet_ros.errors import SpecError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_angle
from mrcnet_ros.inference.calibration_entries import write_law
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.poses import Detection
from mrcnet_ros.inference.resting_bodies import Body
from mrcnet_ros.inference.scoring import ScoreLaw
from mrcnet_ros.inference.support_plane import (
    checked_plane,
    plane_of_frame,
    standing,
    usual_covariance,
)

CAMERA = Camera(np.array([[250.0, 0, 119.5], [0, 250.0, 89.5], [0, 0, 1]]), 240, 180)
IMAGE = np.random.default_rng(0).integers(0, 255, (180, 240, 3), np.uint8)
SIDE_M = 0.08
BOX = Body(cube(SIDE_M).vertices, np.zeros(3), SIDE_M * 3**0.5)
# a camera 0.7 m away that looks down at 45 degrees
T_CAMERA_TABLE = make_transform(exp_so3([0.75 * np.pi, 0.0, 0.0]), [0.0, 0.05, 0.7])
PLANE = checked_plane(plane_of_frame(T_CAMERA_TABLE))


def on_table(height_m: float = 0.0, tilt: tuple[float, float, float] = (0, 0, 0),
             away: float = 1.0) -> np.ndarray:
    """Return a box on the table, its lowest face so high, seen so many times as far away."""
    T = T_CAMERA_TABLE @ make_transform(
        exp_so3(tilt) @ exp_so3([0, 0, 0.4]), [0.05, 0.02, SIDE_M / 2 + height_m])
    T[:3, 3] *= away
    return T


def stand(T: np.ndarray, body: Body = BOX) -> Any:
    """Return the correction of a pose that is as uncertain as usual."""
    return standing(body, T, None, PLANE)


@pytest.mark.parametrize('away', [0.965, 0.98, 1.0, 1.02, 1.035])
def test_a_box_on_the_table_comes_to_its_true_distance(away):
    """Within what the plane and its mesh may be off; its rotation and direction hardly change."""
    T, left = stand(on_table(away=away))
    np.testing.assert_allclose(T[:3, 3], on_table()[:3, 3], atol=0.003)
    assert rotation_angle(T[:3, :3].T @ on_table()[:3, :3]) < np.radians(1.5)
    ray = T[:3, 3] / np.linalg.norm(T[:3, 3])
    assert 0.002 < np.sqrt(ray @ left[:3, :3] @ ray) < 0.01  # from 0.04


@pytest.mark.parametrize(('elevation_deg', 'page_mm'), [(60, 6), (45, 8), (30, 11)])
def test_the_deviation_that_is_left_grows_with_a_flatter_view(elevation_deg, page_mm):
    """As docs/grasping.md says: the error of the height over the sine of the elevation."""
    T_camera_table = make_transform(
        exp_so3([np.radians(90 + elevation_deg), 0, 0]), [0.0, 0.0, 0.8])
    T = T_camera_table @ make_transform(np.eye(3), [0, 0, SIDE_M / 2])
    C = np.diag([0.003, 0.003, 0.03, 0.1, 0.1, 0.1])**2
    _, left = standing(BOX, T, C, checked_plane(plane_of_frame(T_camera_table)))
    assert 1e3 * np.sqrt(np.linalg.eigvalsh(left[:3, :3]).max()) == pytest.approx(page_mm, abs=1)


def test_a_tilted_pose_is_put_upright_and_onto_the_plane():
    """The network's rotation is wrong by seven degrees; the plane knows it to three."""
    tilted = on_table(tilt=(0.12, 0, 0), away=1.03)
    T, _ = stand(tilted)
    heights = (BOX.corners @ T[:3, :3].T + T[:3, 3]) @ PLANE[:3] + PLANE[3]
    assert abs(heights.min()) < 0.003
    off = [rotation_angle(R.T @ on_table()[:3, :3]) for R in (tilted[:3, :3], T[:3, :3])]
    assert off[1] < 0.4 * off[0]


def test_a_turn_about_the_plane_is_none_of_its_business():
    """It tells nothing of where an upright object looks."""
    turned = on_table() @ make_transform(exp_so3([0, 0, 0.2]), [0, 0, 0])
    T, _ = stand(turned)
    np.testing.assert_allclose(T, turned, atol=1e-3)


@pytest.mark.parametrize('pose', [
    on_table(0.05), on_table(0.3), on_table(-0.05), on_table(away=1.2),
    on_table(0.005, tilt=(0.7, 0, 0)), on_table(0.005, tilt=(np.pi / 4, 0, 0)),
], ids=['on another', 'held', 'below', 'far off', 'falling over', 'on its edge'])
def test_what_does_not_stand_is_left_alone(pose):
    """Things on others, in the air, or in a rotation in which they would fall over."""
    assert stand(pose) is None


@pytest.mark.parametrize(('deviations', 'stands'), [(-1.2, True), (1.2, True), (1.8, False)])
def test_a_small_object_may_be_as_far_off_as_its_distance_is_uncertain(deviations, stands):
    """Of a cube of 2 cm, one camera tells the distance to less than a quarter of its diameter."""
    small = Body(cube(0.02).vertices, np.zeros(3), 0.02 * 3**0.5)
    T = T_CAMERA_TABLE @ make_transform(np.eye(3), [0.0, 0.0, 0.01])
    C, up = usual_covariance(T[:3, 3]), PLANE[:3]
    off_m = deviations * np.sqrt(up @ C[:3, :3] @ up)
    T[:3, 3] *= 1 + off_m / (up @ T[:3, 3])
    assert (standing(small, T, C, PLANE) is not None) == stands
    assert standing(small, T, None, PLANE) is None


def test_a_plane_seen_from_the_side_says_nothing_of_the_distance():
    """A small error of height would be a large one of distance."""
    T_camera_table = make_transform(exp_so3([0.52 * np.pi, 0.0, 0.0]), [0.0, 0.05, 0.7])
    pose = T_camera_table @ make_transform(np.eye(3), [0, 0, SIDE_M / 2])
    pose[:3, 3] *= 1.02
    assert standing(BOX, pose, np.eye(6) * 1e-3, checked_plane(plane_of_frame(T_camera_table))
                    ) is None


@pytest.mark.parametrize('plane', [
    [0.0, 0.0, 0.0, 1.0], [0.0, -1.0, np.nan, 0.5], [0.0, -1.0, 0.5], [0.0, 1.0, 0.0, -0.5],
    'table', [1, [2, 3]], [0.0, -0.6, -0.8, 700.0]])  # the last one in millimetres
def test_what_is_no_plane_before_the_camera_is_refused(plane):
    """With what was given and what is expected."""
    with pytest.raises(SpecError, match='support_plane must'):
        checked_plane(plane)


def test_the_estimator_takes_a_plane(tiny_model: Any, tmp_path: Any) -> None:
    """An object that its plane touches after a small change of distance stands on it.

    Without a covariance its score is that at the usual distance, which is better here.
    """
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    write_law(path, ScoreLaw(offset=0.0, quality_gain=1.0, apart_gain=0.0, usual_apart=0.1,
                             distance_gain=-3.0, usual_distance=1.0, least_distance=0.5,
                             most_distance=20.0))
    estimator = PoseEstimator.load(path, tiny_model.meshes,
                                   store_root=tiny_model.store, threads=1, crops=1)
    detections = [Detection('box', np.array([100.0, 60, 160, 110]))]
    plain = estimator.estimate(IMAGE, CAMERA, detections)
    pose = plain.poses[0]
    assert not pose.stands
    T, body = pose.T_camera_object, estimator._bodies['box']
    # of the box's own faces, the plane below the one that looks up most
    axis = int(np.argmax(np.abs(T[2, :3])))
    up = -np.sign(T[2, axis]) * T[:3, axis]
    lowest = float((body.corners @ T[:3, :3].T @ up).min())
    plane = np.append(up, -1.01 * float(up @ T[:3, 3]) - lowest)
    result = estimator.estimate(IMAGE, CAMERA, detections, support_plane=plane)
    assert result.poses[0].stands and result.stage_seconds['plane'] > 0
    assert result.poses[0].score == result.poses[0].presence == pose.presence > pose.score
    np.testing.assert_allclose(result.poses[0].T_camera_object[:3, 3], 1.01 * T[:3, 3], atol=1e-3)
    with pytest.raises(SpecError, match='four finite numbers'):
        estimator.estimate(IMAGE, CAMERA, detections, support_plane=[1.0])
