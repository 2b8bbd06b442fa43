"""Depth corrects a pose where it sees the object, and never makes it worse where it does not."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from meshes import cube, rasterise

from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_angle
from mrcnet_ros.inference.depth_alignment import DepthFit, PoseDoubt, align_all
from mrcnet_ros.inference.depth_surface import SEEN_POINTS, SampledSurface
from mrcnet_ros.objects import Mesh

CAMERA = Camera(np.array([[570.0, 0.0, 159.5], [0.0, 570.0, 119.5], [0.0, 0.0, 1.0]]), 320, 240)
BOX = cube(0.08)
DIAMETER_M = 0.08 * 3**0.5
TRUTH = make_transform(exp_so3([0.5, 0.6, 0.2]), [0.02, -0.01, 0.8])
TABLE_M = 0.95


def surface_of(mesh: Mesh, diameter_m: float) -> SampledSurface:
    """Return the surface of a mesh in its true size."""
    return SampledSurface.sample(mesh.vertices, mesh.faces, diameter_m, mesh.normals)


def depth_of(mesh: Mesh, T: np.ndarray, background_m: float = TABLE_M) -> np.ndarray:
    """Return what an ideal sensor sees of an object before a wall, (240, 320) [m]."""
    depth = rasterise(mesh, T, CAMERA.K, CAMERA.width, CAMERA.height)
    return np.where(np.isfinite(depth), depth, background_m).astype(np.float32)


def moved(along: float = 0.0, turn: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """Return the truth with the distance wrong by a part of it, and turned about the camera."""
    T = TRUTH.copy()
    T[:3, 3] *= 1 + along
    T[:3, :3] = exp_so3(turn) @ T[:3, :3]
    return T


def align(surface: SampledSurface, T: np.ndarray, depth_m: np.ndarray, camera: Camera,
          doubt: PoseDoubt | None = None) -> DepthFit:
    """Correct one pose."""
    return align_all([surface], T[None], depth_m, camera, [doubt or PoseDoubt()])[0]


def errors(fit: DepthFit) -> tuple[float, float]:
    """Return the errors of distance [m] and rotation [rad]."""
    T = fit.T_camera_object
    return (float(np.linalg.norm(T[:3, 3]) - np.linalg.norm(TRUTH[:3, 3])),
            float(rotation_angle(T[:3, :3] @ TRUTH[:3, :3].T)))


@pytest.mark.parametrize('along', [-0.12, -0.05, 0.03, 0.10])
def test_a_wrong_distance_is_corrected(along):
    """An error of up to twice its deviation is gone to two millimetres."""
    fit = align(surface_of(BOX, DIAMETER_M), moved(along), depth_of(BOX, TRUTH), CAMERA)
    assert fit.used != 'none'
    assert abs(errors(fit)[0]) < 0.002
    assert fit.agreement > 0.95


def test_a_wrong_rotation_is_corrected():
    """Twelve degrees become three or less."""
    start = moved(0.04, (0.12, -0.15, 0.08))
    assert rotation_angle(start[:3, :3] @ TRUTH[:3, :3].T) > np.radians(11)
    fit = align(surface_of(BOX, DIAMETER_M), start, depth_of(BOX, TRUTH), CAMERA)
    assert fit.used == 'pose'
    assert errors(fit)[1] < np.radians(3)
    assert abs(errors(fit)[0]) < 0.003


def test_a_right_pose_stays_right():
    """From the truth nothing moves by more than a millimetre and a degree."""
    fit = align(surface_of(BOX, DIAMETER_M), TRUTH, depth_of(BOX, TRUTH), CAMERA)
    assert np.linalg.norm(fit.T_camera_object[:3, 3] - TRUTH[:3, 3]) < 1.5e-3
    assert errors(fit)[1] < np.radians(1.5)


def test_an_occluder_in_front_does_not_pull_the_object():
    """Half of the object is hidden by something 20 cm in front: the rest decides."""
    depth = depth_of(BOX, TRUTH)
    depth[:, :172] = 0.6
    fit = align(surface_of(BOX, DIAMETER_M), moved(0.06), depth, CAMERA)
    assert fit.used != 'none'
    assert abs(errors(fit)[0]) < 0.004


@pytest.mark.parametrize('missing', [0.3, 0.6])
def test_holes_steps_and_noise_of_a_sensor_are_survived(missing):
    """A third or more than half of the pixels missing, steps of 3 mm, noise of 3 mm."""
    rng = np.random.default_rng(0)
    depth = depth_of(BOX, TRUTH) + 0.003 * rng.standard_normal((240, 320))
    depth = np.round(depth / 0.003) * 0.003
    lost = rng.random(depth.shape)
    depth[lost < missing] = 0.0
    depth[lost < missing / 3] = np.nan
    fit = align(surface_of(BOX, DIAMETER_M), moved(-0.07, (0.05, 0.05, 0)),
                depth.astype(np.float32), CAMERA)
    assert fit.used != 'none'
    assert abs(errors(fit)[0]) < 0.003
    assert errors(fit)[1] < np.radians(6)


@pytest.mark.parametrize('wrong', ['nothing', 'millimetres', 'nan', 'elsewhere', 'wall'])
def test_depth_that_is_not_of_this_object_changes_nothing(wrong):
    """Empty, wrongly scaled, and another scene's depth leave the pose of the network as it is."""
    true = depth_of(BOX, TRUTH)
    depth = {'nothing': np.zeros_like(true), 'millimetres': 1000 * true,
             'nan': np.full_like(true, np.nan), 'elsewhere': 10 * true,
             'wall': np.full_like(true, 1.6)}[wrong]
    start = moved(0.05)
    fit = align(surface_of(BOX, DIAMETER_M), start, depth, CAMERA)
    assert fit.used == 'none'
    np.testing.assert_array_equal(fit.T_camera_object, start)
    assert not fit.information.any()


def test_what_a_symmetry_leaves_open_is_not_turned():
    """About the centre of a ball depth says nothing, so the rotation of the network stays."""
    sphere = trimesh.creation.icosphere(3, 0.05)
    ball = Mesh(np.asarray(sphere.vertices), np.asarray(sphere.faces, np.int32),
                np.asarray(sphere.vertex_normals), np.zeros((len(sphere.vertices), 3), np.uint8))
    start = moved(0.05, (0.2, 0, 0))
    fit = align(surface_of(ball, 0.1), start, depth_of(ball, TRUTH), CAMERA)
    assert abs(errors(fit)[0]) < 0.004
    assert rotation_angle(fit.T_camera_object[:3, :3] @ start[:3, :3].T) < np.radians(4)


def test_depth_beside_the_colours_moves_little_across_the_ray():
    """Depth that is four pixels aside, as of a moment before, corrects the distance only."""
    aside = np.roll(depth_of(BOX, TRUTH), 4, axis=1)
    fit = align(surface_of(BOX, DIAMETER_M), moved(0.05), aside, CAMERA,
                PoseDoubt(across=0.003))
    t = fit.T_camera_object[:3, 3]
    ray = TRUTH[:3, 3] / np.linalg.norm(TRUTH[:3, 3])
    assert fit.used == 'pose'
    assert abs(ray @ t - np.linalg.norm(TRUTH[:3, 3])) < 0.003
    assert np.linalg.norm(t - (ray @ t) * ray) < 0.4 * 4 * 0.8 / 570.0


def test_doubt_bounds_what_depth_may_change():
    """A pose that is sure of its distance is not pulled to a surface three times as far off."""
    start = moved(0.09)
    sure = align(surface_of(BOX, DIAMETER_M), start, depth_of(BOX, TRUTH), CAMERA,
                 PoseDoubt(along=0.01))
    assert sure.used == 'none'


def test_information_is_symmetric_and_not_negative():
    """It can be added to an inverse covariance, and says most about the distance."""
    fit = align(surface_of(BOX, DIAMETER_M), moved(0.04), depth_of(BOX, TRUTH), CAMERA)
    np.testing.assert_allclose(fit.information, fit.information.T)
    assert np.linalg.eigvalsh(fit.information).min() > -1e-6
    assert 1 / np.sqrt(fit.information[2, 2]) < 0.005


def test_points_are_on_the_surface_with_normals_outwards():
    """Of a cube: on its faces, as many on each, normals away from the middle."""
    surface = surface_of(BOX, DIAMETER_M)
    np.testing.assert_allclose(np.abs(surface.points).max(axis=1), 0.04, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(surface.normals, axis=1), 1.0)
    assert (np.einsum('ni,ni->n', surface.points, surface.normals) > 0).all()
    faces = np.bincount(np.abs(surface.points).argmax(axis=1), minlength=3)
    assert np.ptp(faces) < 0.05 * len(surface.points)


def test_an_object_larger_than_its_mesh_is_aligned_in_its_true_size():
    """Of one 5 % larger, the distance is right when the surface is scaled."""
    larger = Mesh(1.05 * BOX.vertices, BOX.faces, BOX.normals, BOX.colors)
    fit = align(surface_of(BOX, DIAMETER_M).scaled(1.05), moved(0.04), depth_of(larger, TRUTH),
                CAMERA)
    assert abs(errors(fit)[0]) < 0.002


def test_an_object_behind_the_image_border_is_left_alone():
    """Outside the depth image nothing is measured."""
    start = make_transform(TRUTH[:3, :3], [0.6, 0.0, 0.8])
    fit = align(surface_of(BOX, DIAMETER_M), start, depth_of(BOX, TRUTH), CAMERA)
    assert fit.used == 'none' and fit.points == 0


@pytest.mark.parametrize(('hidden', 'in_front_m'), [(0.6, 0.05), (0.55, 0.03), (0.7, 0.1)])
def test_an_object_is_not_pulled_onto_what_hides_most_of_it(hidden, in_front_m):
    """A flat thing close in front covers more than half: what is left of the object decides."""
    whole = depth_of(BOX, TRUTH)
    columns = np.flatnonzero((whole < TABLE_M - 1e-3).any(axis=0))
    depth = whole.copy()
    depth[:, :columns[0] + int(hidden * len(columns))] = TRUTH[2, 3] - DIAMETER_M / 2 - in_front_m
    fit = align(surface_of(BOX, DIAMETER_M), TRUTH, depth, CAMERA)
    assert abs(errors(fit)[0]) < 0.006


def test_a_mesh_that_is_wound_inwards_is_aligned_like_any_other():
    """The winding of faces does not matter where vertex normals point outwards."""
    inward = Mesh(BOX.vertices, BOX.faces[:, ::-1].copy(), BOX.normals, BOX.colors)
    depth = depth_of(BOX, TRUTH)
    expected = align(surface_of(BOX, DIAMETER_M), moved(0.05), depth, CAMERA)
    fit = align(surface_of(inward, DIAMETER_M), moved(0.05), depth, CAMERA)
    assert abs(errors(fit)[0]) < 0.002
    assert abs(errors(expected)[0]) < 0.002


def test_a_pose_counts_as_aligned_only_when_it_was():
    """Where too few points are near the surface the distance alone was corrected, and says so."""
    fit = align(surface_of(BOX, DIAMETER_M), moved(0.04), depth_of(BOX, TRUTH), CAMERA)
    assert fit.used in ('pose', 'distance')
    assert fit.information.any()


def test_the_inside_of_a_tube_is_seen_only_where_nothing_hides_it():
    """Of an open tube seen from the side few of the points that count as seen are hidden."""
    tube = trimesh.creation.annulus(0.036, 0.04, 0.1)
    surface = SampledSurface.sample(
        np.asarray(tube.vertices), np.asarray(tube.faces, np.int32), 0.13,
        np.asarray(tube.vertex_normals))
    T = make_transform(exp_so3([1.1, 0.0, 0.0]), [0.0, 0.0, 0.8])
    seen = surface.seen_from(T)
    eye = -T[:3, :3].T @ T[:3, 3]
    points = seen.vectors[seen.real, 0] + 1e-4 * seen.vectors[seen.real, 1]
    hidden = tube.ray.intersects_any(points, eye - points)
    assert len(points) > 100
    assert hidden.mean() < 0.12


def test_what_is_seen_is_remembered_and_never_more_than_there_is_room_for():
    """From about the same direction the same points, however far away; from behind others."""
    surface = surface_of(BOX, DIAMETER_M)
    seen = surface.seen_from(TRUTH)
    assert surface.seen_from(moved(0.1)) is seen
    assert SEEN_POINTS // 2 < seen.real.sum() <= SEEN_POINTS
    turned = surface.seen_from(moved(turn=(np.pi, 0, 0)))
    assert not np.isin(turned.vectors[turned.real, 0], seen.vectors[seen.real, 0]).all()


def test_objects_are_aligned_together_as_they_are_alone():
    """One that depth sees, one that it does not, and one of another size, in one call."""
    depth = depth_of(BOX, TRUTH)
    small = surface_of(BOX, DIAMETER_M).scaled(0.6)
    outside = make_transform(TRUTH[:3, :3], [0.6, 0.0, 0.8])
    surfaces = [surface_of(BOX, DIAMETER_M), surface_of(BOX, DIAMETER_M), small]
    T = np.array([moved(0.05, (0.05, 0.0, 0.1)), outside, moved(-0.04)])
    doubts = [PoseDoubt(), PoseDoubt(), PoseDoubt(along=0.04)]
    together = align_all(surfaces, T, depth, CAMERA, doubts)
    assert together[0].used == 'pose' and together[1].used == 'none'
    for fit, surface, pose, doubt in zip(together, surfaces, T, doubts, strict=True):
        alone = align(surface, pose, depth, CAMERA, doubt)
        assert (fit.used, fit.points) == (alone.used, alone.points)
        np.testing.assert_allclose(fit.T_camera_object, alone.T_camera_object, atol=1e-9)
    assert align_all([], np.zeros((0, 4, 4)), depth, CAMERA, []) == []
