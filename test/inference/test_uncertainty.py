"""Covariances of poses: what widens them, and along which axes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from decoding import decode_pose

from mrcnet_ros.errors import SpecError
from mrcnet_ros.geometry.bins import cell_centres, scale_centres
from mrcnet_ros.geometry.crop import CropCamera, pinhole
from mrcnet_ros.geometry.rotation_grid import grid_of
from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_to_axis
from mrcnet_ros.geometry.symmetry import Symmetries, continuous_symmetry
from mrcnet_ros.inference.decoding import IDENTITY_6D
from mrcnet_ros.inference.uncertainty import CovarianceLaw, Posed, pose_spreads, score_odds
from mrcnet_ros.specs import BinSpec

BINS = BinSpec()
GRID = grid_of(BINS)
DIAMETER_M = 0.1
BIN, CELL, SCALE = 200, 5 * 12 + 7, 16
# the camera looks elsewhere; the crop's looks at the box, and the object is off its centre
CROP = CropCamera(rotation_to_axis([0.4, -0.3, 1.0]), pinhole(700.0, 96), 96)
STRAIGHT = CropCamera(np.eye(3), pinhole(700.0, 96), 96)
LAW = CovarianceLaw(lateral_floor=0.01, lateral_gain=0.5, depth_floor=0.02, depth_gain=0.6,
                    rotation_floor_rad=0.05, rotation_gain=0.7, score_exponent=0.3)
ROUND = Symmetries(continuous_symmetry([0.0, 0.0, 1.0], np.zeros(3)))


def xy_of(cell: int) -> np.ndarray:
    """Return the centre of a cell [crop widths]."""
    centres = cell_centres(BINS)
    return np.array([centres[cell % BINS.cells], centres[cell // BINS.cells]])


def peaked(**others: dict[int, float]) -> dict[str, np.ndarray]:
    """Return logits of one frame with one pose that leave one bin of each kind.

    :param others: by kind, logits of other bins against the 0 of the right one.
    """
    logits = {}
    for name, size, right in (('rotation', BINS.rotations, BIN), ('cell', BINS.cells**2, CELL),
                              ('scale', BINS.scale_bins, SCALE)):
        values = np.full((1, size), -200.0)
        values[0, right] = 0.0
        for index, logit in others.get(name, {}).items():
            values[0, index] = logit
        logits[f'{name}_logits'] = values
    return logits


def posed(crop: CropCamera = CROP, score: float = 0.5,
          symmetries: Symmetries | None = None) -> Posed:
    """Return the pose that the peaked logits mean."""
    T = decode_pose(IDENTITY_6D, xy_of(CELL), scale_centres(BINS)[SCALE], GRID[BIN], crop,
                    DIAMETER_M)
    return Posed(T, score, crop, symmetries or Symmetries.none(), np.ones(BINS.rotations, bool))


def covariance(logits: dict[str, np.ndarray], pose: Posed) -> np.ndarray:
    """Return the covariance of a pose."""
    return LAW.covariances(pose_spreads(logits, [pose], BINS))[0]


def assert_positive_definite(C: np.ndarray) -> None:
    """Check that a covariance is one."""
    assert C.shape == (6, 6)
    assert C.dtype == np.float64
    np.testing.assert_array_equal(C, C.T)
    assert np.linalg.eigvalsh(C / np.sqrt(np.outer(np.diag(C), np.diag(C)))).min() > 1e-6


@pytest.mark.parametrize('seed', range(5))
def test_a_covariance_is_symmetric_and_positive_definite(seed):
    """Whatever the logits are, flat or peaked, and whatever the score."""
    rng = np.random.default_rng(seed)
    items = [posed(crop, score, same) for crop in (CROP, STRAIGHT)
             for score in (0.0, 0.3, 1.0) for same in (None, ROUND)]
    logits = {name: rng.normal(0, 10.0 ** rng.uniform(-2, 3), (len(items), values.shape[1]))
              for name, values in peaked().items()}
    for C in LAW.covariances(pose_spreads(logits, items, BINS)):
        assert_positive_definite(C)


def test_a_peaked_distribution_gives_the_floor():
    """Only the floors are left, in metres across and along the ray, and in radians."""
    pose = posed()
    t, (x, y) = pose.T_camera_object[:3, 3], CROP.R_crop_camera[:2]
    width_m = (CROP.R_crop_camera @ t)[2] * 96 / 700.0
    C = covariance(peaked(), pose)
    expected = (0.01 * width_m) ** 2 * (np.outer(x, x) + np.outer(y, y)) + 0.02**2 * np.outer(t, t)
    np.testing.assert_allclose(C[:3, :3], expected, rtol=1e-9)
    np.testing.assert_allclose(C[3:, 3:], 0.05**2 * np.eye(3), atol=1e-12)
    assert not C[:3, 3:].any()


@pytest.mark.parametrize('crop', [STRAIGHT, CROP])
def test_a_wider_depth_widens_along_the_ray_alone(crop):
    """Also when the camera of the crop is turned away from the axis of the image."""
    pose = posed(crop)
    t = pose.T_camera_object[:3, 3]
    change = covariance(peaked(scale={SCALE - 3: -0.5, SCALE + 3: -0.5}), pose) \
        - covariance(peaked(), pose)
    step = scale_centres(BINS)[3] - scale_centres(BINS)[0]
    variance = step**2 * 2 * np.exp(-0.5) / (1 + 2 * np.exp(-0.5))
    np.testing.assert_allclose(change[:3, :3], 0.6**2 * variance * np.outer(t, t), rtol=1e-6)
    assert np.abs(change[3:]).max() < 1e-15
    assert np.abs(t[:2]).max() > 0.01, 'the ray is not the axis'


def test_wider_cells_widen_across_the_ray_alone():
    """Cells beside one another widen along the crop's x axis, as its camera has it."""
    pose = posed()
    change = covariance(peaked(cell={CELL + 1: 0.0}), pose) - covariance(peaked(), pose)
    x = CROP.R_crop_camera[0] * (CROP.R_crop_camera @ pose.T_camera_object[:3, 3])[2] * 96 / 700.0
    np.testing.assert_allclose(change[:3, :3], 0.5**2 / (4 * 12**2) * np.outer(x, x), rtol=1e-6)
    assert np.abs(change[3:]).max() < 1e-15


def test_position_axes_are_the_derivative_of_the_decoding():
    """By finite differences of the pose that the estimator decodes."""
    pose, h = posed(), 1e-6
    axes = pose_spreads(peaked(), [pose], BINS)[0].axes_m

    def position(dx=0.0, dy=0.0, dlog=0.0):
        return decode_pose(IDENTITY_6D, xy_of(CELL) + (dx, dy), scale_centres(BINS)[SCALE] - dlog,
                           GRID[BIN], CROP, DIAMETER_M)[:3, 3]

    for column, step in enumerate(({'dx': h}, {'dy': h}, {'dlog': h})):
        np.testing.assert_allclose((position(**step) - position()) / h, axes[:, column],
                                   rtol=1e-4, atol=1e-6)


def test_another_rotation_bin_widens_about_the_axis_between_them():
    """As the camera sees it, and by the angle between them."""
    other = int(np.argsort(-np.einsum('kij,ij->k', GRID, GRID[BIN]))[3])
    pose = posed()
    change = covariance(peaked(rotation={other: 0.0}), pose) - covariance(peaked(), pose)
    T_other = decode_pose(IDENTITY_6D, xy_of(CELL), scale_centres(BINS)[SCALE], GRID[other], CROP,
                          DIAMETER_M)
    turn = T_other[:3, :3] @ pose.T_camera_object[:3, :3].T
    angle = np.arccos((np.trace(turn) - 1) / 2)
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    w = angle * axis / np.linalg.norm(axis)
    np.testing.assert_allclose(change[3:, 3:], 0.7**2 * np.outer(w, w) / 2, rtol=1e-6, atol=1e-12)
    assert np.abs(change[:3]).max() < 1e-15


def test_symmetric_bins_leave_the_floor():
    """A bottle's bins that differ by a turn about its axis are one and the same rotation."""
    turned = [int(np.argmax(np.einsum('kij,ij->k', GRID, GRID[BIN] @ exp_so3([0, 0, a]))))
              for a in (np.pi / 2, np.pi)]
    logits = peaked(rotation=dict.fromkeys(turned, 0.0))
    wide, same = (covariance(logits, posed(symmetries=s)) for s in (Symmetries.none(), ROUND))
    assert np.trace(wide[3:, 3:]) > 1.0
    assert np.trace(same[3:, 3:]) < np.trace(wide[3:, 3:]) / 20


def test_bins_that_an_object_cannot_be_seen_in_do_not_count():
    """However large the network makes their logits."""
    free, other = posed(), (BIN + 300) % BINS.rotations
    allowed = free.allowed.copy()
    allowed[other] = False
    logits = peaked(rotation={other: 5.0})
    assert np.trace(covariance(logits, free)[3:, 3:]) > 0.1
    C = covariance(logits, dataclasses.replace(free, allowed=allowed))
    np.testing.assert_allclose(C, covariance(peaked(), free), atol=1e-12)


def test_turning_the_camera_turns_the_covariance():
    """The same crop seen by a turned camera has the same ellipsoids in other axes."""
    rng = np.random.default_rng(3)
    logits = {name: rng.normal(0, 2, values.shape) for name, values in peaked().items()}
    pose, Q = posed(), exp_so3([0.3, -0.8, 1.1])
    crop = CropCamera(CROP.R_crop_camera @ Q.T, CROP.K_crop, CROP.size_px)
    turned = dataclasses.replace(pose, crop=crop, T_camera_object=make_transform(
        Q, np.zeros(3)) @ pose.T_camera_object)
    both = np.kron(np.eye(2), Q)
    np.testing.assert_allclose(covariance(logits, turned),
                               both @ covariance(logits, pose) @ both.T, atol=1e-12)


def test_what_is_open_goes_with_an_object_to_a_later_image():
    """Of the same place it is the same; of another one the errors turn with the ray to it."""
    before = pose_spreads(peaked(cell={CELL + 1: -1.0}, scale={SCALE + 1: -1.0}), [posed()],
                          BINS)[0]
    t = before.axes_m[:, 2]
    same = before.moved(t, before.score)
    np.testing.assert_allclose(same.axes_m, before.axes_m, atol=1e-12)
    there = 1.5 * np.linalg.norm(t) * np.array([-0.6, 0.0, 0.8])
    after = before.moved(there, 0.9)
    assert after.score == 0.9 and after.log_size == before.log_size
    np.testing.assert_array_equal(after.rotation, before.rotation)
    np.testing.assert_allclose(after.axes_m[:, 2], there)
    # across the ray the crop shows as many millimetres as before, along it a part of the distance
    np.testing.assert_allclose(np.linalg.norm(after.axes_m[:, :2], axis=0),
                               np.linalg.norm(before.axes_m[:, :2], axis=0))
    for a, b in ((before, t), (after, there)):
        assert a.axes_m[:, 0] @ a.axes_m[:, 1] == pytest.approx(0.0, abs=1e-9)
        C = LAW.covariances([dataclasses.replace(a, cells=np.zeros((2, 2)), score=0.5)])[0]
        axes = np.linalg.eigh(C[:3, :3])[1]
        assert abs(axes[:, 2] @ b) / np.linalg.norm(b) > 0.99


def test_a_better_score_makes_everything_narrower():
    """By the odds to the power of the law, up to a bound; 0 and 1 are scores as well."""
    C = {s: covariance(peaked(), posed(score=s)) for s in (0.0, 0.001, 0.5, 0.9, 0.999, 1.0)}
    np.testing.assert_allclose(C[0.9], C[0.5] * 9.0 ** -0.6)
    np.testing.assert_array_equal(C[1.0], C[0.999])
    np.testing.assert_array_equal(C[0.0], C[0.001])
    assert np.trace(C[0.0]) > np.trace(C[0.5]) > np.trace(C[1.0]) > 0
    assert score_odds(0.5) == 1.0


def test_an_object_that_is_smaller_than_its_mesh_is_less_far_off():
    """Position errors shrink with the distance, rotation errors do not."""
    spread = pose_spreads(peaked(), [posed()], BINS)[0]
    C, half = LAW.covariances([spread, spread.scaled(0.5)])
    np.testing.assert_allclose(half[:3, :3], C[:3, :3] / 4)
    np.testing.assert_array_equal(half[3:, 3:], C[3:, 3:])


@pytest.mark.parametrize(('change', 'told'), [
    ({'depth_floor': 0.0}, 'depth_floor must be'),
    ({'rotation_gain': -0.1}, 'rotation_gain must be'),
    ({'score_exponent': float('nan')}, 'score_exponent must be'),
    ({'lateral_gain': '0.5'}, "lateral_gain must be float, got '0.5'"),
    ({'lateral_floor': True}, 'lateral_floor must be float'),
    ({'sideways': 1.0}, 'sideways'),
])
def test_a_law_out_of_range_is_refused(change, told):
    """The error names the number."""
    with pytest.raises(SpecError, match=told):
        CovarianceLaw.from_dict({**dataclasses.asdict(LAW), **change})


def test_a_law_needs_all_its_numbers():
    """And to be a mapping at all."""
    values = dataclasses.asdict(LAW)
    assert CovarianceLaw.from_dict(values) == LAW
    del values['depth_gain']
    with pytest.raises(SpecError, match='depth_gain'):
        CovarianceLaw.from_dict(values)
    with pytest.raises(SpecError, match='must map names to numbers'):
        CovarianceLaw.from_dict([1.0, 2.0])
