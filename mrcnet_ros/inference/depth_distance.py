"""First step of the alignment: finds the distance of an object in the depth image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..geometry.se3 import Array
from .depth_fit import PoseDoubt
from .depth_look import (
    CONTRADICTION,
    LEAST_POINTS,
    SMALLEST_KERNEL_M,
    Bools,
    DepthEyes,
    Look,
    median,
)

# Width of the kernel of the search, in diameters.
KERNEL = 0.04
# Trial distances of the search for each width of the kernel.
TRIALS = 2
# Of the points that should be seen, the part that must agree on a distance before it is believed:
# with less, depth of another view moved poses on generated scenes by 0.02 to 0.06 diameters. Where
# more than a third of them is missing, this part of those that were measured is enough.
LEAST_SUPPORT, LEAST_OF_MEASURED = 0.4, 0.6
_GAUSS = np.exp(-0.5 * (np.arange(-3 * TRIALS, 3 * TRIALS + 1) / TRIALS) ** 2)


def at_measured_distance(eyes: DepthEyes, T: Array, look: Look, doubts: Sequence[PoseDoubt]
                          ) -> tuple[Array, Bools]:
    """Move objects along their rays to where depth sees their surfaces.

    :return: (N, 4, 4) poses, and for which objects there is such a distance, (N,).
    """
    T = T.copy()
    along = np.array([doubt.along for doubt in doubts])
    width_m = np.maximum(KERNEL * eyes.diameter_m, SMALLEST_KERNEL_M)
    visible, known = look.visible.sum(axis=1), look.known.sum(axis=1)
    needed = np.maximum(LEAST_POINTS, np.minimum(LEAST_SUPPORT * visible,
                                                 LEAST_OF_MEASURED * known))
    found = visible >= LEAST_POINTS
    for again in range(2):
        if again:
            look = eyes.look(T)
        ahead, sigma_m = look.ahead_m, along * T[:, 2, 3]
        near = look.known & (np.abs(ahead) < (3 * sigma_m + width_m)[:, None])
        best = _most_supported(ahead, near, sigma_m, width_m, eyes.diameter_m)
        at = near & (np.abs(ahead - best[:, None]) < 1.5 * width_m[:, None])
        found &= (near.sum(axis=1) >= LEAST_POINTS) & (at.sum(axis=1) >= needed)
        step = np.where(found, median(ahead, at), 0.0)
        T[:, :3, 3] *= (1 + step / T[:, 2, 3])[:, None]
    return T, found


def _most_supported(ahead: Array, near: Bools, sigma_m: Array, width_m: Array,
                    diameter_m: Array) -> Array:
    """Return how far behind its pose most of each object's surface was measured, (N,) [m].

    What lies in front of a trial distance hides it; what lies behind speaks against it.
    """
    step_m = width_m / TRIALS
    half = int(np.ceil((3 * sigma_m + width_m).max() / step_m.min())) + 1
    bins = 2 * half + 1
    index = np.rint(ahead / step_m[:, None]).clip(-half, half).astype(np.int64) + half
    index += bins * np.arange(len(ahead))[:, None]
    votes = np.bincount(index[near], minlength=bins * len(ahead)).reshape(-1, bins)
    support = cv2.filter2D(votes.astype(np.float32), -1, _GAUSS[None],
                           borderType=cv2.BORDER_CONSTANT)
    behind = np.rint(np.maximum(CONTRADICTION * diameter_m, 2 * width_m) / step_m).astype(int)
    beyond = votes.sum(axis=1, keepdims=True) - np.cumsum(votes, axis=1)
    at = np.minimum(np.arange(bins) + behind[:, None], bins - 1)
    support = support - np.take_along_axis(beyond, at, axis=1)
    trial_m = (np.arange(bins) - half) * step_m[:, None]
    support = np.maximum(support, 0) * np.exp(-0.5 * (trial_m / sigma_m[:, None]) ** 2)
    return np.asarray(trial_m[np.arange(len(ahead)), support.argmax(axis=1)])
