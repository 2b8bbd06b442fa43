"""Laws of object symmetries and view priors."""

import numpy as np
import pytest

from mrcnet_ros.errors import SpecError
from mrcnet_ros.evaluation.pose_errors import mssd
from mrcnet_ros.geometry import se3
from mrcnet_ros.geometry.rotation_grid import rotation_grid
from mrcnet_ros.geometry.symmetry import Symmetries, continuous_symmetry
from mrcnet_ros.geometry.view_prior import (
    allowed_bins,
    elevation_and_tilt,
    rotation_from_angles,
    sample_rotations,
)
from mrcnet_ros.specs import ViewPrior

MM = 1e-3


def about(axis, angle, offset=(0.0, 0.0, 0.0)):
    """Return the 16 numbers of a turn about an axis through a point, as BOP stores them."""
    offset = np.asarray(offset, dtype=float)
    R = se3.exp_so3(angle * np.asarray(axis, dtype=float))
    return se3.make_transform(R, offset - R @ offset).ravel().tolist()


GROUPS = {
    'none': [],
    'twofold': [about((0, 0, 1), np.pi)],
    'twofold beside the origin': [about((0, 1, 0), np.pi, (12.0, 0.0, -7.0))],
    'fourfold': [about((0, 0, 1), k * np.pi / 2) for k in (1, 2, 3)],
    'box': [about(axis, np.pi) for axis in np.eye(3)],
}


def contains(T, transforms, atol=1e-9):
    return bool(np.isclose(transforms, T, atol=atol).all(axis=(1, 2)).any())


@pytest.fixture(params=list(GROUPS))
def group(request):
    return Symmetries.from_bop({'symmetries_discrete': GROUPS[request.param]}, MM)


def test_a_discrete_group_is_closed_under_composition(group):
    """Two symmetries after each other are a symmetry of the set."""
    for a in group.transforms:
        for b in group.transforms:
            assert contains(a @ b, group.transforms)


def test_a_discrete_group_holds_the_inverse_of_each_member(group):
    """Each symmetry can be undone by one of the set, and the first is the identity."""
    np.testing.assert_allclose(group.transforms[0], np.eye(4))
    for T in group.transforms:
        assert contains(se3.inverse(T), group.transforms)


def test_lengths_of_a_symmetry_become_metres():
    """BOP's millimetres are scaled once, rotations are not."""
    beside = Symmetries.from_bop(
        {'symmetries_discrete': GROUPS['twofold beside the origin']}, MM).transforms[1]
    point = np.array([0.012, 0.4, -0.007, 1.0])
    np.testing.assert_allclose(beside @ point, point, atol=1e-12)
    assert np.linalg.norm(beside[:3, 3]) == pytest.approx(2 * np.hypot(0.012, 0.007))


def test_rotations_of_a_symmetry_are_made_exact():
    """Rounded numbers of a file become proper rotations."""
    rounded = np.round(about((0.2, 0.97, 0.1), np.pi * 0.999), 3).tolist()
    R = Symmetries.from_bop({'symmetries_discrete': [rounded]}, MM).transforms[:, :3, :3]
    np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.tile(np.eye(3), (2, 1, 1)), atol=1e-12)


def test_a_continuous_symmetry_keeps_its_axis_where_it_is():
    """Points on the axis stay, others keep their distance to it: the offset counts."""
    axis, offset = np.array([0.0, 3.0, 4.0]), np.array([10.0, -5.0, 2.0])
    T = Symmetries.from_bop(
        {'symmetries_continuous': [{'axis': axis.tolist(), 'offset': offset.tolist()}]},
        MM).transforms
    on_axis = np.append(offset * MM + 0.3 * axis, 1.0)
    np.testing.assert_allclose(T @ on_axis, np.tile(on_axis, (len(T), 1)), atol=1e-12)
    p = np.array([0.08, 0.01, 0.05, 1.0])
    moved = (T @ p)[:, :3]
    line = axis / 5.0
    distance = np.linalg.norm(np.cross(moved - offset * MM, line), axis=1)
    np.testing.assert_allclose(distance, distance[0], atol=1e-12)
    assert np.linalg.norm((T @ [0, 0, 0, 1.0])[:, :3], axis=1).max() > 0.01


def test_a_continuous_symmetry_is_fine_enough_and_goes_all_the_way_round():
    """No point within the diameter moves more than 1 % of it between steps; last meets first."""
    T = continuous_symmetry((0, 0, 2.0), (0, 0, 0))
    np.testing.assert_allclose(T[0], np.eye(4), atol=1e-15)
    step = np.radians(360) / len(T)
    np.testing.assert_allclose(
        se3.rotation_angle(np.swapaxes(T[:, :3, :3], 1, 2) @ np.roll(T[:, :3, :3], -1, axis=0)),
        step, atol=1e-9)
    assert step / 2 <= 0.01


def test_discrete_and_continuous_symmetries_are_combined():
    """A cylinder that also turns over has every turn in both orientations."""
    info = {'symmetries_continuous': [{'axis': [0, 0, 1], 'offset': [0, 0, 0]}],
            'symmetries_discrete': [about((1, 0, 0), np.pi)]}
    T = Symmetries.from_bop(info, MM).transforms
    assert len(T) == 2 * len(continuous_symmetry((0, 0, 1), (0, 0, 0)))
    assert (T[:, 2, 2] > 0.99).sum() == (T[:, 2, 2] < -0.99).sum() == len(T) // 2
    np.testing.assert_allclose(T[0], np.eye(4), atol=1e-15)


def test_the_nearest_equivalent_is_the_one_with_the_smallest_angle(group):
    """Of all equivalent poses the nearest to the reference is chosen, with its translation."""
    rng = np.random.default_rng(2)
    for R_gt, R_reference in se3.rotation_from_quat_wxyz(rng.standard_normal((20, 2, 4))):
        t_gt = rng.uniform(-1, 1, 3)
        chosen = group.nearest(R_gt, t_gt, R_reference)
        candidates = se3.make_transform(R_gt, t_gt) @ group.transforms
        angles = se3.rotation_angle(R_reference.T @ candidates[:, :3, :3])
        assert contains(chosen, candidates)
        assert se3.rotation_angle(R_reference.T @ chosen[:3, :3]) == pytest.approx(angles.min())


@pytest.mark.parametrize(('info', 'named'), [
    ({'symmetries_discrete': [[1.0, 0.0, 0.0]]}, '16'),
    ({'symmetries_continuous': [{'axis': [0, 0, 0], 'offset': [0, 0, 0]}]}, 'axis'),
    ({'symmetries_continuous': [{'axis': [0, 1], 'offset': [0, 0, 0]}]}, 'axis'),
    ({'symmetries_continuous': [{'offset': [0, 0, 0]}]}, 'axis'),
])
def test_malformed_symmetries_are_refused_by_name(info, named):
    """The error says which part of the entry is wrong."""
    with pytest.raises(SpecError, match=named):
        Symmetries.from_bop(info, MM)


@pytest.mark.parametrize('bad', [
    np.eye(4), np.zeros((0, 4, 4)), 2 * np.eye(4)[None], np.full((1, 4, 4), np.nan),
])
def test_a_set_without_identity_or_of_wrong_shape_is_refused(bad):
    """Symmetries always start with the identity."""
    with pytest.raises(SpecError, match=r'identity|shape'):
        Symmetries(bad)


def test_view_angles_and_rotations_are_two_names_of_the_same_view():
    """Elevation and tilt are read back from the rotation they made."""
    rng = np.random.default_rng(4)
    azimuth, tilt = rng.uniform(-3, 3, (2, 100))
    elevation = rng.uniform(-1.4, 1.4, 100)
    R = rotation_from_angles(azimuth, elevation, tilt)
    np.testing.assert_allclose(np.linalg.det(R), 1.0, atol=1e-12)
    back = elevation_and_tilt(R)
    np.testing.assert_allclose(back[0], elevation, atol=1e-9)
    np.testing.assert_allclose(back[1], tilt, atol=1e-9)


def test_an_upright_object_seen_level_has_its_z_axis_up_in_the_image():
    """Convention: up is -v; elevation zero and tilt zero."""
    R = rotation_from_angles(0.3, 0.0, 0.0)
    np.testing.assert_allclose(R[:, 2], [0.0, -1.0, 0.0], atol=1e-12)
    from_above = rotation_from_angles(0.3, np.pi / 2, 0.0)
    np.testing.assert_allclose(from_above[:, 2], [0.0, 0.0, -1.0], atol=1e-12)


def test_sampled_views_obey_their_prior_and_without_one_cover_everything():
    """Every drawn rotation is within the limits; without limits all elevations occur."""
    rng = np.random.default_rng(6)
    prior = ViewPrior(elevation_min_deg=5, elevation_max_deg=80, tilt_max_deg=50)
    elevation, tilt = np.degrees(elevation_and_tilt(sample_rotations(prior, 2000, rng)))
    assert elevation.min() >= 5 and elevation.max() <= 80 and np.abs(tilt).max() <= 50
    free, _ = np.degrees(elevation_and_tilt(sample_rotations(None, 2000, rng)))
    assert free.min() < -70 and free.max() > 70


def test_a_prior_leaves_the_bins_of_its_views_and_drops_the_others():
    """A table-top prior keeps fewer than half of the bins, none a bin seen well from below."""
    grid = rotation_grid(2, 12)
    assert allowed_bins(None, grid).all()
    prior = ViewPrior(elevation_min_deg=5, elevation_max_deg=85, tilt_max_deg=50)
    allowed = allowed_bins(prior, grid)
    assert 0.1 < allowed.mean() < 0.5
    elevation, _ = np.degrees(elevation_and_tilt(grid))
    assert elevation[allowed].min() > -35
    inside = sample_rotations(prior, 3000, np.random.default_rng(8))
    seen = np.argmax(inside.reshape(-1, 9) @ grid.reshape(-1, 9).T, axis=1)
    assert allowed[seen].mean() > 0.999


def test_a_training_takes_every_fifth_degree_of_a_round_object():
    """72 steps, in a moved frame too; discrete symmetries are all there, and scores keep 315."""
    info = {'symmetries_continuous': [{'axis': [0, 0, 1], 'offset': [4, 0, 0]}],
            'symmetries_discrete': [about((1, 0, 0), np.pi)]}
    for found in (Symmetries.from_bop(info, MM),
                  Symmetries.from_bop(info, MM).about([0.01, 0.0, 0.02])):
        fine, coarse = found.transforms, found.for_training
        assert (len(fine), len(coarse)) == (2 * 315, 2 * 72)
        np.testing.assert_allclose(coarse[0], np.eye(4), atol=1e-15)
        turned = np.swapaxes(fine[:, None, :3, :3], 2, 3) @ coarse[None, :, :3, :3]
        nearest = se3.rotation_angle(turned).min(axis=1)
        assert np.degrees(nearest).max() < 2.6
        p = np.array([0.03, 0.02, 0.01, 1.0])
        apart = np.linalg.norm((fine @ p)[:, None] - (coarse @ p)[None], axis=-1).min(axis=1)
        assert apart.max() < 0.05 * np.linalg.norm(p)
    plain = Symmetries.from_bop({'symmetries_discrete': [about((1, 0, 0), np.pi)]}, MM)
    assert plain.for_training is plain.transforms


def test_a_ball_is_compared_by_its_position_alone():
    """With any rotation, and where its centre is not the origin; BOP's own error stays large."""
    centre = np.array([0.004, -0.002, 0.001])
    ball = Symmetries.from_bop({'symmetries_continuous': [
        {'axis': axis, 'offset': (centre / MM).tolist()} for axis in ([0, 0, 1], [1, 0, 0])]}, MM)
    directions = np.random.default_rng(1).normal(size=(500, 3))
    surface = centre + 0.05 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    T_gt = se3.make_transform(np.eye(3), [0.1, 0.0, 0.8])
    errors, toolkit = [], []
    for R in se3.exp_so3(np.random.default_rng(0).normal(size=(20, 3)) * 2):
        shift = np.array([0.003, 0.0, 0.0])
        T_est = se3.make_transform(R, T_gt[:3, 3] + centre - R @ centre + shift)
        errors.append(mssd(T_est, ball.comparable(T_gt, T_est), surface, ball))
        toolkit.append(mssd(T_est, T_gt, surface, ball))
    assert ball.is_ball
    np.testing.assert_allclose(errors, 0.003, atol=1e-4)
    assert np.median(toolkit) > 0.03


def test_any_rotation_of_a_ball_is_equivalent():
    """The nearest equivalent has the rotation of the reference, and the same centre."""
    centre = np.array([0.004, -0.002, 0.001])
    ball = Symmetries.from_bop({'symmetries_continuous': [
        {'axis': axis, 'offset': (centre / MM).tolist()} for axis in ([0, 0, 1], [1, 0, 0])]}, MM)
    R, reference = se3.exp_so3(np.random.default_rng(2).normal(size=(2, 3)))
    t = np.array([0.1, -0.2, 0.7])
    T = ball.nearest(R, t, reference)
    np.testing.assert_array_equal(T[:3, :3], reference)
    np.testing.assert_allclose(T[:3, :3] @ centre + T[:3, 3], R @ centre + t, atol=1e-12)


def test_the_true_pose_of_what_is_no_ball_stays_as_it_is():
    """A can is round about one axis only."""
    can = Symmetries.from_bop({'symmetries_continuous': [{'axis': [0, 0, 1], 'offset': [0, 0, 0]}],
                               'symmetries_discrete': [about((1, 0, 0), np.pi)]}, MM)
    T = se3.make_transform(se3.exp_so3([0.3, 0.2, 0.1]), [0.0, 0.0, 0.5])
    assert not can.is_ball and can.comparable(T, np.eye(4)) is T


@pytest.mark.parametrize('digits', [2, 3, 6])
@pytest.mark.parametrize('axis', [(0.1, 0.2, 1.0), (0.3, 0.1, 0.9), (1.0, 2.0, 3.0), (0, 0, 1)])
def test_a_rounded_step_of_a_turn_adds_nothing(axis, digits):
    """A half turn about the axis itself, as some lists have it, makes no ball of a bottle."""
    continuous = [{'axis': list(axis), 'offset': [0.0, 0.0, 0.0]}]
    across = np.cross(axis, (1.0, 0.3, 0.0))
    half = np.round(about(axis / np.linalg.norm(axis), np.pi), digits)
    flip = about(across / np.linalg.norm(across), np.pi)
    for discrete in ([half], [half, flip]):
        wanted = Symmetries.from_bop({'symmetries_continuous': continuous,
                                      'symmetries_discrete': discrete[1:]}, MM)
        found = Symmetries.from_bop({'symmetries_continuous': continuous,
                                     'symmetries_discrete': discrete}, MM)
        assert not found.is_ball
        np.testing.assert_allclose(found.transforms, wanted.transforms)


def test_motions_of_older_models_that_were_rounded_make_no_ball():
    """They hold each step of the turn followed by a half turn of two digits."""
    axis = np.array([0.1, 0.2, 1.0]) / np.linalg.norm([0.1, 0.2, 1.0])
    turns = Symmetries.from_bop({'symmetries_continuous': [
        {'axis': axis.tolist(), 'offset': [0.0, 0.0, 0.0]}]}, MM).transforms
    half = np.eye(4)
    half[:3, :3] = se3.checked_rotation(
        np.round(about(axis, np.pi), 2).reshape(4, 4)[:3, :3], se3.SYMMETRY_TOLERANCE, 'it')
    old = Symmetries(np.concatenate([turns, turns @ half]))
    assert not old.is_ball
    left = np.linalg.svd(old.seen_rotations())[1]
    np.testing.assert_allclose(left, [1, 1, 0], atol=1e-6)
