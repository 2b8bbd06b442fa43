"""Visible surface discrepancy from rendered and measured depth.

Source: Hodan et al., BOP Challenge 2020; in its variant of 2019 a surface counts as visible where
the sensor gave no depth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalogue import DatasetFacts
from ..geometry.se3 import Array

# fractions of the object's diameter
TAUS: Array = 0.05 * np.arange(1.0, 11.0)

Depth = NDArray[np.float32]


def vsd(
    depth_est_m: Depth, depth_gt_m: Depth, depth_test_m: Depth, K: Array, diameter_m: float,
    delta_m: float = DatasetFacts.vsd_tolerance_m,
) -> Array:
    """Return the visible surface discrepancy for each tolerance of :data:`TAUS`.

    :param depth_est_m: (H, W) of the model in the estimated pose [m], 0 where empty.
    :param depth_gt_m: (H, W) of the model in the true pose [m], 0 where empty.
    :param depth_test_m: (H, W) measured [m], 0 where missing.
    :param K: (3, 3) [px] of the three images.
    :return: (10,) in 0..1; 1 where neither pose has a visible pixel.
    """
    along_ray = _ray_lengths(K, depth_test_m.shape[1], depth_test_m.shape[0])
    est, gt, test = (d * along_ray for d in (depth_est_m, depth_gt_m, depth_test_m))
    visible_gt = _visible(gt, test, delta_m)
    visible_est = _visible(est, test, delta_m) | (visible_gt & (est > 0))
    both, either = visible_gt & visible_est, visible_gt | visible_est
    if not either.any():
        return np.ones(len(TAUS))
    distances = np.abs(gt[both] - est[both]) / diameter_m
    wrong = np.array([np.count_nonzero(distances >= tau) for tau in TAUS])
    alone = np.count_nonzero(either) - np.count_nonzero(both)
    return np.asarray((wrong + alone) / np.count_nonzero(either), dtype=np.float64)


def _ray_lengths(K: Array, width: int, height: int) -> Array:
    """Return how much longer the way along each pixel's ray is than its depth, (H, W)."""
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    y = (v - K[1, 2]) / K[1, 1]
    x = (u - K[0, 2] - K[0, 1] * y) / K[0, 0]
    return np.asarray(np.sqrt(1.0 + x**2 + y**2), dtype=np.float64)


def _visible(model: Array, test: Array, delta_m: float) -> NDArray[np.bool_]:
    return np.asarray(((model - test <= delta_m) | (test == 0)) & (model > 0), dtype=np.bool_)
