"""An object rests on the faces of its hull that its middle is well inside of."""

from __future__ import annotations

import time

import numpy as np
import pytest
from meshes import cube

from mrcnet_ros.geometry.resting import DIRECTIONS, resting_faces
from mrcnet_ros.geometry.se3 import exp_so3

RNG = np.random.default_rng(5)


def box(x: float, y: float, z: float) -> np.ndarray:
    """Return the corners of a box about the origin."""
    return cube(1.0).vertices * (x, y, z)


def ring(radius: float, z: float, count: int = 64) -> np.ndarray:
    """Return points on a circle."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(count, z)], axis=1)


def test_a_box_rests_on_all_six_faces_the_largest_first():
    """The plane is where the lowest points are, half a side below the middle."""
    rests = resting_faces(box(0.3, 0.2, 0.1), np.zeros(3))
    np.testing.assert_allclose(np.abs(rests.ups[:2]), [[0, 0, 1], [0, 0, 1]], atol=1e-9)
    assert sorted(np.abs(rests.ups).argmax(axis=1)) == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(rests.lowest_m, -np.array([0.05] * 2 + [0.1] * 2 + [0.15] * 2))


def test_rests_turn_and_shift_with_the_object():
    """The same object in another frame has the same rests in that frame."""
    points, R, t = box(0.3, 0.2, 0.1), exp_so3([0.3, -0.8, 0.5]), np.array([0.5, -0.2, 0.9])
    here, there = resting_faces(points, np.zeros(3)), resting_faces(points @ R.T + t, t)
    for up, lowest in zip(here.ups @ R.T, here.lowest_m, strict=True):
        i = int(np.argmax(there.ups @ up))
        np.testing.assert_allclose(there.ups[i], up, atol=1e-6)
        assert there.lowest_m[i] == pytest.approx(lowest + up @ t, abs=1e-9)


@pytest.mark.parametrize(('points', 'ups'), [
    (np.concatenate([ring(0.05, -0.05), [[0, 0, 0.15]]]), [[0, 0, 1]]),  # a cone on its tip
    (box(0.02, 0.3, 0.5), [[1, 0, 0], [-1, 0, 0]]),  # not on its edges
    (np.concatenate([ring(0.1, 0.0), ring(0.05, 0.0)]), []),
], ids=['cone', 'board', 'sheet'])
def test_what_would_fall_over_is_no_rest(points, ups):
    """Rests that nothing holds: the tip of a cone, the narrow side of a board."""
    found = resting_faces(points, np.zeros(3)).ups
    flat = [up for up in found if max(abs(up)) > 0.999]
    assert sorted(np.round(flat).tolist()) == sorted(map(list, np.array(ups, float).tolist()))


def test_a_face_beside_the_middle_is_none():
    """A loaded box falls over where its weight is beyond its side."""
    points = box(0.1, 0.1, 0.3)
    loaded = resting_faces(points, np.array([0.0, 0.0, 0.148]))
    ups = {tuple(np.round(up).astype(int)) for up in loaded.ups}
    assert (0, 0, -1) in ups and (1, 0, 0) not in ups


def test_the_rough_base_of_a_scan_is_one_face():
    """Half a millimetre of noise on the base of a can makes no other rests there."""
    base = np.concatenate([ring(r, 0.0) for r in (0.01, 0.02, 0.03)])
    points = np.concatenate([base + RNG.normal(size=base.shape) * 5e-4, ring(0.03, 0.12)])
    ups = resting_faces(points, np.array([0, 0, 0.06])).ups
    below = ups[ups[:, 2] > 0.9]
    assert len(below) == 1 and below[0, 2] > 0.999


def test_a_finely_meshed_ball_takes_no_time():
    """It can rest everywhere; each command and node reads it when it starts."""
    ball = RNG.normal(size=(10_000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    start = time.thread_time()
    rests = resting_faces(ball, np.zeros(3))
    assert time.thread_time() - start < 3.0  # about 0.5 s; 7 s face by face
    assert rests.nearest.min() > np.cos(np.radians(8.0))


def test_a_rotation_that_is_hardly_known_is_near_a_rest():
    """The angle may be more than half a turn; chance only grows with it."""
    chance = resting_faces(cube(0.1).vertices, np.zeros(3)).chance(np.linspace(0, 10, 200))
    assert (np.diff(chance) >= 0).all() and chance[-1] == 1.0


def test_chance_is_the_part_of_directions_near_a_rest():
    """Six caps of a cube; everything beyond their half angle, and for a ball."""
    chance = resting_faces(cube(0.1).vertices, np.zeros(3)).chance
    cap = (1 - np.cos(np.radians(20.0))) / 2
    assert chance(np.radians(20.0)) == pytest.approx(6 * cap, abs=0.01)
    assert chance(np.radians(60.0)) == 1.0 and chance(0.0) <= 6 / DIRECTIONS
    ball = RNG.normal(size=(3000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    assert resting_faces(ball, np.zeros(3)).chance(np.radians(20.0)) == 1.0


def test_a_can_lies_on_its_round_side_wherever_it_rolls():
    """Its ends are firmer; every direction across its axis is near a rest."""
    rests = resting_faces(np.concatenate([ring(0.03, -0.06, 200), ring(0.03, 0.06, 200)]),
                          np.zeros(3))
    np.testing.assert_allclose(np.abs(rests.ups[:2, 2]), 1.0)
    across = ring(1.0, 0.0, 90)
    assert np.degrees(np.arccos((across @ rests.ups.T).max(axis=1))).max() < 8.0
