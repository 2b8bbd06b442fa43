"""Light on views: codes of directions, and tables that equal the light written out."""

from __future__ import annotations

import numpy as np
import pytest

from mrcnet_ros.training.lighting import SIDE, directions, draw_light, normal_codes


def unit_vectors(count: int) -> np.ndarray:
    """Return directions spread over the sphere, (count, 3)."""
    n = np.random.default_rng(0).normal(size=(count, 3))
    return n / np.linalg.norm(n, axis=1, keepdims=True)


def test_a_code_stands_for_a_direction_close_to_the_normal():
    """Normals of all directions come back within four degrees."""
    n = unit_vectors(5000)
    codes = normal_codes(np.rint(127.5 * (n + 1)).astype(np.uint8))
    angle = np.degrees(np.arccos(np.clip((directions()[codes] * n).sum(1), -1, 1)))
    assert angle.max() < 4.0


def test_every_direction_has_its_own_code():
    """The code of a direction of the table is its row, but for rounding to eight bits."""
    table = directions()
    codes = normal_codes(np.rint(127.5 * (table + 1)).astype(np.uint8))
    assert np.mean(codes == np.arange(SIDE**2)) > 0.8
    assert np.degrees(np.arccos(np.clip((table[codes] * table).sum(1), -1, 1))).max() < 4.0


def test_even_light_is_even():
    """Without a lamp, an environment of one brightness lights all directions alike."""
    even = np.tile(np.diag([0.0, 0.0, 0.0, 1.0]), (3, 1, 1))
    for seed in range(40):
        light = draw_light(np.random.default_rng(seed), even)
        spread = light.diffuse.max() - light.diffuse.min()
        if spread < 1e-6:
            break
    else:
        pytest.fail('40 scenes, and a lamp in every one')
    assert 0.7 < light.diffuse.mean() < 1.3


def test_light_from_above_falls_on_what_faces_up():
    """An environment brighter towards z lights upward surfaces more than downward ones."""
    Q = np.zeros((3, 4, 4))
    Q[:, 3, 3], Q[:, 2, 3], Q[:, 3, 2] = 1.0, 0.4, 0.4
    up, down = normal_codes(np.array([[128, 128, 255], [128, 128, 0]], np.uint8))
    for seed in range(10):
        light = draw_light(np.random.default_rng(seed), Q)
        assert (light.diffuse[up] > light.diffuse[down]).all()


def test_a_highlight_lies_where_the_lamp_is_mirrored():
    """The brightest direction halves the angle between the lamp and the camera."""
    even = np.tile(np.diag([0.0, 0.0, 0.0, 1.0]), (3, 1, 1))
    R = np.eye(3)
    found = 0
    for seed in range(20):
        light = draw_light(np.random.default_rng(seed), even)
        if light.glare < 20:
            continue
        found += 1
        brightest = directions()[light.table(R, 60.0)[:, 3].argmax()]
        half = light.lamp - R[2]
        assert brightest @ half / np.linalg.norm(half) > 0.998
    assert found
