"""Spreads of distributions, and covariances of poses that look the same."""

from __future__ import annotations

import numpy as np
import pytest

from mrcnet_ros.geometry.se3 import exp_so3, log_so3, make_transform, moved_covariance
from mrcnet_ros.geometry.spread import (
    nearest_equivalents,
    rotation_spread,
    sigmoid,
    softmax,
    spread_about_mean,
)
from mrcnet_ros.geometry.symmetry import Symmetries, continuous_symmetry

HALF_TURN = make_transform(exp_so3([0.0, 0.0, np.pi]), np.zeros(3))
TWO_FOLD = Symmetries(np.stack([np.eye(4), HALF_TURN]))
ROUND = Symmetries(continuous_symmetry([0.0, 0.0, 1.0], np.zeros(3)))
BALL = Symmetries(np.concatenate([
    continuous_symmetry([0.0, 0.0, 1.0], np.zeros(3)),
    continuous_symmetry([1.0, 0.0, 0.0], np.zeros(3))[1:]]))


def rotations(seed: int, count: int) -> np.ndarray:
    """Return random rotations, (count, 3, 3)."""
    return exp_so3(np.random.default_rng(seed).normal(0, 1.0, (count, 3)))


def test_probabilities_add_up_and_leave_out_what_cannot_be():
    """However large the logits are."""
    p = softmax([[1000.0, 1000.0, -np.inf], [0.0, np.log(3.0), -np.inf]])
    np.testing.assert_allclose(p, [[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]])


@pytest.mark.filterwarnings('error')
def test_probabilities_of_logits_are_0_to_1_however_large_these_are():
    """Without a warning, in double precision, of any shape."""
    p = sigmoid(np.array([[0.0, np.log(3.0)], [-1000.0, 1000.0]], np.float32))
    np.testing.assert_allclose(p, [[0.5, 0.75], [0.0, 1.0]], rtol=1e-7)
    assert p.dtype == np.float64 and float(sigmoid(-1.0)) == 1.0 - float(sigmoid(1.0))


def test_the_spread_is_that_of_numpy():
    """With probabilities as weights; all on one point is none."""
    rng = np.random.default_rng(0)
    points, p = rng.normal(size=(9, 2)), rng.dirichlet(np.ones(9), size=3)
    p[2] = np.eye(9)[4]
    found = spread_about_mean(p, points)
    for row, C in zip(p, found, strict=True):
        np.testing.assert_allclose(C, np.cov(points.T, aweights=row, ddof=0), atol=1e-12)
    assert np.abs(found[2]).max() < 1e-15


@pytest.mark.parametrize(('symmetries', 'turns'), [
    (TWO_FOLD, [np.pi]), (ROUND, [0.7, 2.0, -1.3]),
])
def test_symmetric_equivalents_do_not_widen_the_rotation(symmetries, turns):
    """Bins that only turn the object into itself are no spread; without the symmetry they are."""
    R = rotations(1, 1)[0]
    bins = R @ exp_so3(np.array([[0.0, 0.0, a] for a in (0.0, *turns)]))
    p = np.full((1, len(bins)), 1 / len(bins))
    C = rotation_spread(p, bins[None], R[None], [symmetries])
    assert np.sqrt(np.abs(C).max()) < 0.02
    assert np.trace(rotation_spread(p, bins[None], R[None], [Symmetries.none()])[0]) > 1.0


def test_a_tilt_is_seen_through_a_continuous_symmetry():
    """What turns the axis of a bottle widens, whatever turn about the axis comes with it."""
    R, tilt = rotations(2, 1)[0], 0.3
    bins = R @ exp_so3([tilt, 0.0, 0.0]) @ exp_so3([[0.0, 0.0, 2.5]])
    C = rotation_spread(np.ones((1, 1)), bins[None], R[None], [ROUND])[0]
    assert np.sqrt(np.trace(C)) == pytest.approx(tilt, abs=0.01)


def test_the_nearest_equivalents_are_those_of_symmetries():
    """Bin by bin the same as ``Symmetries.nearest``."""
    bins, R = rotations(3, 20), rotations(4, 1)[0]
    found = nearest_equivalents(bins, R, TWO_FOLD)
    for bin_, nearest in zip(bins, found, strict=True):
        expected = TWO_FOLD.nearest(bin_, np.zeros(3), R)[:3, :3]
        np.testing.assert_allclose(nearest, expected, atol=1e-12)


def test_a_rotation_spread_turns_with_the_camera():
    """Seen by a camera turned by Q it is Q C Q^T."""
    Q, R, bins = rotations(5, 1)[0], rotations(6, 1), rotations(7, 8)[None]
    p = np.full((1, 8), 1 / 8)
    C = rotation_spread(p, bins, R, [TWO_FOLD])[0]
    turned = rotation_spread(p, Q @ bins, Q @ R, [TWO_FOLD])[0]
    np.testing.assert_allclose(turned, Q @ C @ Q.T, atol=1e-9)


def test_the_covariance_of_an_equivalent_is_that_of_moved_poses():
    """Poses drawn from a covariance, each replaced by its equivalent, have the one returned."""
    rng = np.random.default_rng(8)
    A = rng.normal(size=(6, 6)) * np.array([0.01] * 3 + [0.02] * 3)[:, None]
    S = make_transform(exp_so3([0.0, 0.0, np.pi]), [0.1, 0.0, 0.05])
    T = make_transform(rotations(9, 1)[0], [0.1, -0.2, 0.9])
    draws = rng.normal(size=(200_000, 6)) @ A.T
    moved = make_transform(exp_so3(draws[:, 3:]) @ T[:3, :3], T[:3, 3] + draws[:, :3]) @ S
    T_moved = T @ S
    errors = np.hstack([moved[:, :3, 3] - T_moved[:3, 3],
                        log_so3(moved[:, :3, :3] @ T_moved[:3, :3].T)])
    found = moved_covariance(A @ A.T, T_moved[:3, 3] - T[:3, 3])
    sigma = np.sqrt(np.diag(found))
    assert np.abs((np.cov(errors.T) - found) / np.outer(sigma, sigma)).max() < 0.02
    assert not np.allclose(found, A @ A.T, rtol=0.1)


@pytest.mark.parametrize(('symmetries', 'expected'), [
    (Symmetries.none(), np.eye(3)), (TWO_FOLD, np.eye(3)), (ROUND, np.diag([1.0, 1.0, 0.0])),
    (BALL, np.zeros((3, 3))),
])
def test_continuous_symmetries_hide_rotations(symmetries, expected):
    """About the axis of a bottle nothing can be seen, and of a ball nothing at all."""
    np.testing.assert_allclose(symmetries.seen_rotations(), expected, atol=1e-3)
