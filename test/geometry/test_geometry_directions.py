"""Directions that are spread evenly over a sphere."""

import numpy as np
import pytest

from mrcnet_ros.geometry.directions import even_directions


@pytest.mark.parametrize('count', [64, 1500])
def test_directions_are_spread_evenly(count):
    """None is far from its nearest neighbour or close to it, and no side has more of them."""
    found = even_directions(count)
    assert found.shape == (count, 3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0)
    assert np.abs(found.mean(axis=0)).max() < 1 / count
    nearest = np.arccos(np.sort(found @ found.T, axis=1)[:, -2])
    side = np.sqrt(4 * np.pi / count)  # of the part of the sphere that each one has
    assert 0.7 * side < nearest.min() and nearest.max() < 1.2 * side
