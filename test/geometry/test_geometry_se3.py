"""Laws of rotations and rigid motions."""

import numpy as np
import pytest

from mrcnet_ros.geometry import se3

COUNT = 200


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def random_rotations(rng, count=COUNT):
    quat = rng.standard_normal((count, 4))
    return se3.rotation_from_quat_wxyz(quat)


def random_transforms(rng, count=COUNT):
    return se3.make_transform(random_rotations(rng, count), rng.uniform(-2, 2, (count, 3)))


def test_a_transform_times_its_inverse_is_the_identity_on_both_sides(rng):
    """Inverting undoes a rigid motion from the left and from the right."""
    T = random_transforms(rng)
    identity = np.broadcast_to(np.eye(4), T.shape)
    np.testing.assert_allclose(T @ se3.inverse(T), identity, atol=1e-12)
    np.testing.assert_allclose(se3.inverse(T) @ T, identity, atol=1e-12)


def test_the_inverse_of_a_product_is_the_reversed_product_of_inverses(rng):
    """Frames cancel: inv(T_a_b T_b_c) = T_c_b T_b_a."""
    T_a_b, T_b_c = random_transforms(rng), random_transforms(rng)
    np.testing.assert_allclose(
        se3.inverse(T_a_b @ T_b_c), se3.inverse(T_b_c) @ se3.inverse(T_a_b), atol=1e-12)


def test_a_transform_maps_points_from_its_second_frame_to_its_first(rng):
    """The convention p_a = T_a_b p_b, and the inverse alone would give another point."""
    R, t = random_rotations(rng, 1)[0], np.array([0.3, -0.2, 0.9])
    T_a_b = se3.make_transform(R, t)
    p_b = np.array([0.1, 0.2, 0.3])
    p_a = (T_a_b @ np.append(p_b, 1.0))[:3]
    np.testing.assert_allclose(p_a, R @ p_b + t, atol=1e-15)
    assert np.linalg.norm(p_a - (se3.inverse(T_a_b) @ np.append(p_b, 1.0))[:3]) > 0.1


def test_make_transform_broadcasts_one_rotation_over_many_translations(rng):
    """A batch of translations may share a rotation."""
    R = random_rotations(rng, 1)[0]
    t = rng.uniform(-1, 1, (5, 3))
    T = se3.make_transform(R, t)
    assert T.shape == (5, 4, 4)
    np.testing.assert_array_equal(T[:, :3, :3], np.broadcast_to(R, (5, 3, 3)))
    np.testing.assert_array_equal(T[:, 3], np.broadcast_to([0, 0, 0, 1], (5, 4)))


@pytest.mark.parametrize('angle', [0.0, 1e-12, 1e-9, 1e-5, 0.1, 1.0, 3.0, np.pi - 1e-4])
def test_log_undoes_exp_for_every_size_of_angle(rng, angle):
    """Rotation vectors survive the round trip, tiny and nearly half turns too."""
    axis = rng.standard_normal((50, 3))
    w = angle * axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    np.testing.assert_allclose(se3.log_so3(se3.exp_so3(w)), w, atol=1e-11)


def test_exp_undoes_log_for_every_rotation(rng):
    """Rotations survive the other round trip, exact half turns included."""
    half_turns = np.array([np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1])])
    R = np.concatenate([random_rotations(rng), half_turns, np.eye(3)[None]])
    np.testing.assert_allclose(se3.exp_so3(se3.log_so3(R)), R, atol=1e-12)


def test_exp_has_the_derivative_of_a_rotation_at_zero(rng):
    """Close to zero exp(w) p moves p by w cross p."""
    w, p = rng.standard_normal(3), rng.standard_normal(3)
    step = 1e-6
    difference = (se3.exp_so3(step * w) @ p - se3.exp_so3(-step * w) @ p) / (2 * step)
    np.testing.assert_allclose(difference, np.cross(w, p), atol=1e-8)


def test_rotations_about_one_axis_add_their_angles():
    """Two turns about one axis make one turn."""
    axis = np.array([1.0, 2.0, -0.5]) / np.linalg.norm([1.0, 2.0, -0.5])
    np.testing.assert_allclose(
        se3.exp_so3(0.4 * axis) @ se3.exp_so3(0.7 * axis), se3.exp_so3(1.1 * axis), atol=1e-14)


@pytest.mark.parametrize('angle', [0.0, 1e-9, 1e-6, 0.5, 2.0, np.pi - 1e-7, np.pi])
def test_the_rotation_angle_is_exact_also_near_zero_and_near_half_a_turn(angle):
    """The angle does not lose digits where an arc cosine would."""
    axis = np.array([0.36, 0.48, 0.8])
    assert se3.rotation_angle(se3.exp_so3(angle * axis)) == pytest.approx(angle, abs=1e-10)


def test_the_rotation_angle_does_not_depend_on_the_frame(rng):
    """Conjugation keeps the angle."""
    R, Q = random_rotations(rng), random_rotations(rng)
    np.testing.assert_allclose(
        se3.rotation_angle(Q @ R @ np.swapaxes(Q, -1, -2)), se3.rotation_angle(R), atol=1e-10)


def test_quaternions_and_rotations_are_two_names_of_the_same_thing(rng):
    """Quaternion to rotation and back keeps it, with w >= 0."""
    quat = rng.standard_normal((COUNT, 4))
    quat /= np.linalg.norm(quat, axis=-1, keepdims=True)
    quat[quat[:, 0] < 0] *= -1
    back = se3.quat_wxyz_from_rotation(se3.rotation_from_quat_wxyz(quat))
    np.testing.assert_allclose(back, quat, atol=1e-12)
    np.testing.assert_allclose(
        se3.rotation_from_quat_wxyz(-3.0 * quat), se3.rotation_from_quat_wxyz(quat), atol=1e-14)


def test_the_quaternion_starts_with_w():
    """Convention: w x y z; a quarter turn about z has its sine last."""
    half = np.sqrt(0.5)
    np.testing.assert_allclose(
        se3.quat_wxyz_from_rotation([[0, -1, 0], [1, 0, 0], [0, 0, 1]]), [half, 0, 0, half],
        atol=1e-15)


def test_the_nearest_rotation_of_a_rotation_is_itself(rng):
    """Projecting twice is projecting once."""
    R = random_rotations(rng)
    np.testing.assert_allclose(se3.nearest_rotation(R), R, atol=1e-12)


def test_the_nearest_rotation_is_nearer_than_any_other(rng):
    """The projection wins against small turns of it, for scaled, sheared and mirrored input."""
    M = random_rotations(rng, 20) * 1.01 + 0.05 * rng.standard_normal((20, 3, 3))
    M[10:, :, 0] *= -1
    R = se3.nearest_rotation(M)
    np.testing.assert_allclose(np.linalg.det(R), 1.0, atol=1e-12)
    np.testing.assert_allclose(R @ np.swapaxes(R, -1, -2), np.tile(np.eye(3), (20, 1, 1)),
                               atol=1e-12)
    best = np.linalg.norm(M - R, axis=(1, 2))
    for _ in range(50):
        turned = se3.exp_so3(0.05 * rng.standard_normal((20, 3))) @ R
        assert (np.linalg.norm(M - turned, axis=(1, 2)) >= best).all()


def test_six_numbers_become_the_columns_x_and_y_of_a_rotation(rng):
    """The 6D form takes x as it is, y as far as it is orthogonal, z by the right hand."""
    R = random_rotations(rng)
    six = np.concatenate([2.0 * R[..., 0], 3.0 * R[..., 1] + 0.7 * R[..., 0]], axis=-1)
    np.testing.assert_allclose(se3.rotation_from_6d(six), R, atol=1e-12)


def test_a_direction_is_turned_onto_the_optical_axis_by_the_smallest_rotation(rng):
    """The result points along +z, and its angle is the angle between the two directions."""
    d = rng.standard_normal((COUNT, 3))
    d[:, 2] = np.abs(d[:, 2])
    unit = d / np.linalg.norm(d, axis=-1, keepdims=True)
    R = se3.rotation_to_axis(d)
    expected = np.broadcast_to([0.0, 0.0, 1.0], d.shape)
    np.testing.assert_allclose(np.einsum('nij,nj->ni', R, unit), expected, atol=1e-12)
    np.testing.assert_allclose(se3.rotation_angle(R), np.arccos(unit[:, 2]), atol=1e-7)


def test_skew_is_the_matrix_of_the_cross_product(rng):
    """skew(a) b = a cross b."""
    a, b = rng.standard_normal((2, COUNT, 3))
    np.testing.assert_allclose(np.einsum('nij,nj->ni', se3.skew(a), b), np.cross(a, b), atol=1e-14)


def test_a_displaced_pose_is_displaced_by_that_much(rng):
    """Motion and pose tell one another: shift of the origin, then the turn about it."""
    T = random_transforms(rng, 20)
    motion = rng.normal(0, 0.7, (20, 6))
    moved = se3.displaced(T, motion)
    np.testing.assert_allclose(se3.displacement(T, moved), motion, atol=1e-12)
    np.testing.assert_allclose(moved[:, :3, 3] - T[:, :3, 3], motion[:, :3], atol=1e-12)
    np.testing.assert_allclose(se3.displaced(T, np.zeros(6)), T, atol=1e-12)


def test_half_of_a_motion_twice_is_the_whole_motion(rng):
    """So a pose on the way between two is ``displaced(T, part * displacement(T, T_to))``."""
    T, T_to = random_transforms(rng, 2)
    half = 0.5 * se3.displacement(T, T_to)
    np.testing.assert_allclose(se3.displaced(se3.displaced(T, half), half), T_to, atol=1e-12)


def test_a_lever_carries_errors_to_another_point_of_the_object(rng):
    """The change of a point is that of the origin and what the turn adds."""
    T, error = random_transforms(rng, 1)[0], 1e-6 * rng.normal(size=6)
    point = rng.normal(size=3)
    shift_m = T[:3, :3] @ point
    moved = se3.displaced(T, error)
    change = moved[:3, :3] @ point + moved[:3, 3] - shift_m - T[:3, 3]
    np.testing.assert_allclose((se3.lever(shift_m) @ error)[:3], change, atol=1e-10)
    np.testing.assert_allclose(se3.lever(shift_m) @ se3.lever(-shift_m), np.eye(6), atol=1e-12)
