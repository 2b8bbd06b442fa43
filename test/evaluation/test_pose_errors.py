"""Pose errors against brute force and by their laws."""

import numpy as np
import pytest
from meshes import bumpy_sphere, cube, rasterise

from mrcnet_ros.evaluation import pose_errors
from mrcnet_ros.evaluation.vsd_scores import TAUS, vsd
from mrcnet_ros.geometry import se3
from mrcnet_ros.geometry.hull import hull_vertices
from mrcnet_ros.geometry.symmetry import Symmetries, continuous_symmetry

K = np.array([[500.0, 0.0, 159.5], [0.0, 510.0, 119.5], [0.0, 0.0, 1.0]])
NONE = Symmetries.none()
TWOFOLD = Symmetries(np.array([
    np.eye(4), se3.make_transform(np.diag([-1.0, -1.0, 1.0]), [0.02, 0.0, 0.0])]))
ROUND = Symmetries(continuous_symmetry((0.0, 0.0, 1.0), (0.01, 0.0, 0.0)))
GROUPS = {'none': NONE, 'twofold': TWOFOLD, 'round': ROUND}


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture(params=list(GROUPS))
def symmetries(request):
    return GROUPS[request.param]


def random_pose(rng):
    R = se3.rotation_from_quat_wxyz(rng.standard_normal(4))
    return se3.make_transform(R, [*rng.uniform(-0.1, 0.1, 2), rng.uniform(0.6, 1.2)])


def near(rng, T, angle=0.2, shift=0.02):
    R = se3.exp_so3(rng.normal(0, angle, 3)) @ T[:3, :3]
    return se3.make_transform(R, T[:3, 3] + rng.normal(0, shift, 3))


def moved(T, points):
    return points @ T[:3, :3].T + T[:3, 3]


def pixels(T, points):
    uvw = moved(T, points) @ K.T
    return uvw[:, :2] / uvw[:, 2:]


def test_mssd_is_the_largest_vertex_distance_of_the_best_symmetry(rng, symmetries):
    """The vectorised error is the definition written as two loops."""
    vertices = bumpy_sphere(0.05).vertices
    for _ in range(5):
        T_gt = random_pose(rng)
        T_est = near(rng, T_gt)
        expected = min(
            np.linalg.norm(moved(T_est, vertices) - moved(T_gt @ S, vertices), axis=1).max()
            for S in symmetries.transforms)
        found = pose_errors.mssd(T_est, T_gt, vertices, symmetries)
        assert found == pytest.approx(expected, rel=1e-9)


def test_mspd_is_the_largest_pixel_distance_of_the_best_symmetry(rng, symmetries):
    """The vectorised error is the definition written as two loops."""
    vertices = bumpy_sphere(0.05).vertices
    for _ in range(5):
        T_gt = random_pose(rng)
        T_est = near(rng, T_gt)
        expected = min(
            np.linalg.norm(pixels(T_est, vertices) - pixels(T_gt @ S, vertices), axis=1).max()
            for S in symmetries.transforms)
        found = pose_errors.mspd(T_est, T_gt, K, vertices, symmetries)
        assert found == pytest.approx(expected, rel=1e-9)


def test_chunks_do_not_change_the_errors(rng, monkeypatch):
    """Many symmetries are worked through in pieces with the same result."""
    vertices, T_gt = bumpy_sphere(0.05).vertices, random_pose(rng)
    T_est = near(rng, T_gt)

    def errors():
        return (pose_errors.mssd(T_est, T_gt, vertices, ROUND),
                pose_errors.mspd(T_est, T_gt, K, vertices, ROUND))

    whole = errors()
    monkeypatch.setattr(pose_errors, '_CHUNK_POINTS', 7 * len(vertices))
    np.testing.assert_allclose(errors(), whole, rtol=1e-12)


def test_an_equivalent_pose_has_no_error(rng, symmetries):
    """Every symmetric equivalent of the truth is as good as the truth itself."""
    vertices, T_gt = bumpy_sphere(0.05).vertices, random_pose(rng)
    for S in symmetries.transforms[::40]:
        assert pose_errors.mssd(T_gt @ S, T_gt, vertices, symmetries) < 1e-12
        assert pose_errors.mspd(T_gt @ S, T_gt, K, vertices, symmetries) < 1e-9


def test_a_symmetry_that_is_not_stated_is_an_error(rng):
    """Turning an object without symmetry by half costs about its size."""
    vertices, T_gt = cube(0.08).vertices, random_pose(rng)
    turned = T_gt @ se3.make_transform(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))
    assert pose_errors.mssd(turned, T_gt, vertices, NONE) == pytest.approx(0.08 * np.sqrt(2))


def test_a_shift_costs_its_length_in_metres_and_its_projection_in_pixels():
    """Moving 10 mm sideways at 1 m is 10 mm and f / 100 px at the nearest vertex."""
    vertices = np.array([[0.0, 0, 0], [0.01, 0, 0.2], [0, 0.01, -0.2]])
    T_gt = se3.make_transform(np.eye(3), [0.0, 0.0, 1.0])
    T_est = se3.make_transform(np.eye(3), [0.01, 0.0, 1.0])
    assert pose_errors.mssd(T_est, T_gt, vertices, NONE) == pytest.approx(0.01)
    assert pose_errors.mspd(T_est, T_gt, K, vertices, NONE) == pytest.approx(500 * 0.01 / 0.8)


@pytest.mark.parametrize('group', [NONE, TWOFOLD], ids=['none', 'twofold'])
def test_estimate_and_truth_may_be_exchanged(rng, group):
    """For a group of symmetries, and vertices that have them, both errors are symmetric."""
    half = bumpy_sphere(0.05).vertices
    vertices = np.concatenate([half, moved(group.transforms[-1], half)])
    for _ in range(5):
        T_a = random_pose(rng)
        T_b = near(rng, T_a, 0.6)
        assert pose_errors.mssd(T_a, T_b, vertices, group) == pytest.approx(
            pose_errors.mssd(T_b, T_a, vertices, group), rel=1e-9)
        assert pose_errors.mspd(T_a, T_b, K, vertices, group) == pytest.approx(
            pose_errors.mspd(T_b, T_a, K, vertices, group), rel=1e-9)


def test_the_hull_is_enough_for_mssd(rng, symmetries):
    """Hull vertices give the same error to 1e-12 m with far fewer points."""
    vertices = bumpy_sphere(0.05).vertices
    hull = hull_vertices(vertices)
    assert len(hull) < 0.7 * len(vertices)
    for _ in range(20):
        T_gt = random_pose(rng)
        T_est = near(rng, T_gt, 0.8, 0.05)
        assert pose_errors.mssd(T_est, T_gt, hull, symmetries) == pytest.approx(
            pose_errors.mssd(T_est, T_gt, vertices, symmetries), abs=1e-12)


def test_points_in_a_plane_are_all_kept():
    """A flat object has no hull with a volume."""
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0.5, 0.5, 0]])
    np.testing.assert_array_equal(hull_vertices(flat), flat)


def test_an_estimate_behind_the_camera_is_infinitely_far_in_pixels(rng):
    """It has no projection, so no threshold is met."""
    vertices, T_gt = cube(0.08).vertices, random_pose(rng)
    behind = T_gt.copy()
    behind[2, 3] = -0.9
    assert pose_errors.mspd(behind, T_gt, K, vertices, NONE) == float('inf')


def test_differences_are_measured_from_the_nearest_equivalent(rng):
    """Rotation, translation and depth of an equivalent pose that was moved a little."""
    vertices = cube(0.08).vertices
    T_gt = random_pose(rng)
    equivalent = T_gt @ TWOFOLD.transforms[1]
    T_est = equivalent.copy()
    T_est[:3, :3] = se3.exp_so3([0.0, 0.03, 0.0]) @ T_est[:3, :3]
    T_est[:3, 3] += [0.003, 0.0, 0.004]
    nearest = pose_errors.nearest_truth(T_est, T_gt, vertices, TWOFOLD)
    np.testing.assert_allclose(nearest.T_camera_object, equivalent, atol=1e-12)
    np.testing.assert_allclose(nearest.difference, [0.03, 0.005, 0.004], atol=1e-12)
    assert nearest.mssd_m == pose_errors.mssd(T_est, T_gt, vertices, TWOFOLD)
    assert pose_errors.pose_difference(T_est, T_gt).rotation_rad > 3.0


def depth_image(mesh, T):
    depth = rasterise(mesh, T, K, 320, 240)
    return np.where(np.isfinite(depth), depth, 0.0).astype(np.float32)


@pytest.fixture(scope='module')
def square():
    """Return a pose of a cube seen face on, its depth image and its diameter."""
    T = se3.make_transform(np.eye(3), [0.0, 0.0, 1.04])
    return T, depth_image(cube(0.08), T), 0.08 * np.sqrt(3)


def test_vsd_of_the_truth_is_zero_and_of_nothing_is_one(square):
    """The same depth has no discrepancy, an empty estimate has all of it."""
    _, depth, diameter_m = square
    np.testing.assert_array_equal(vsd(depth, depth, depth, K, diameter_m), np.zeros(10))
    nothing = np.zeros_like(depth)
    np.testing.assert_array_equal(vsd(nothing, depth, depth, K, diameter_m), np.ones(10))
    np.testing.assert_array_equal(vsd(nothing, nothing, depth, K, diameter_m), np.ones(10))


def test_vsd_counts_pixels_deeper_than_the_tolerance(square):
    """Pushed back by 12 % of the diameter it is wrong for 5 and 10 %, right from 15 % on."""
    T, depth, diameter_m = square
    back = T.copy()
    back[2, 3] += 0.12 * diameter_m
    missing = np.zeros_like(depth)  # no depth measured: everything counts as visible
    errors = vsd(depth_image(cube(0.08), back), depth, missing, K, diameter_m)
    np.testing.assert_array_equal(errors[:2], 1.0)
    assert errors[2] < 0.35  # the rim that only the nearer one covers
    np.testing.assert_array_equal(errors[2:], errors[2])
    np.testing.assert_allclose(TAUS[:3], [0.05, 0.1, 0.15])


def test_vsd_of_a_sideways_shift_is_the_part_not_shared(square):
    """Half a side to the right leaves a third of the union in common."""
    T, depth, diameter_m = square
    shifted = T.copy()
    shifted[0, 3] += 0.04
    errors = vsd(depth_image(cube(0.08), shifted), depth, np.zeros_like(depth), K, diameter_m)
    np.testing.assert_allclose(errors, 2 / 3, atol=0.03)


def test_vsd_ignores_what_an_obstacle_hides(square):
    """With a wall before its left half only the right half is compared."""
    T, depth, diameter_m = square
    wall = depth.copy()
    wall[:, :160] = 0.5
    shifted = T.copy()
    shifted[0, 3] -= 0.04  # its right half now covers where the left half was
    errors = vsd(depth_image(cube(0.08), shifted), depth, wall, K, diameter_m)
    np.testing.assert_allclose(errors, 1.0, atol=0.05)
    np.testing.assert_array_equal(vsd(depth, depth, wall, K, diameter_m), np.zeros(10))
    farther = T.copy()
    farther[0, 3] += 0.04
    visible = vsd(depth_image(cube(0.08), farther), depth, wall, K, diameter_m)
    np.testing.assert_allclose(visible, 0.5, atol=0.05)


def test_vsd_counts_an_estimate_behind_the_measured_surface_where_the_truth_is_visible(square):
    """Pixels of the estimate hidden by the object itself still belong to it."""
    T, depth, diameter_m = square
    back = T.copy()
    back[2, 3] += 0.03
    errors = vsd(depth_image(cube(0.08), back), depth, depth, K, diameter_m)
    assert errors[0] == 1.0  # 30 mm is 22 % of the diameter
    assert errors[-1] < 0.2
