"""Second step of the alignment: the visible surface is moved onto the measured one.

A depth image is shifted against the colours where its registration is not exact, or where it was
taken a moment earlier and objects or camera have moved since. The shift looks like a motion of the
object across the ray. The colours know that position well, so that depth is not needed for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..geometry.se3 import Array, displaced
from .depth_fit import PoseDoubt
from .depth_look import LEAST_POINTS, SMALLEST_KERNEL_M, DepthEyes, Look

# Gates of the alignment in diameters, one for each step: points further off are not the object.
# More steps take more time: with six, errors of 528 generated poses were the same to a hundredth.
GATES = (0.10, 0.06, 0.04, 0.03)
# Error of a single measurement across the surface [m], at a metre; it grows with the square of
# the distance, as that of structured light and stereo does.
NOISE_M, NOISE_FLOOR_M = 0.003, 0.0015
# Errors of neighbouring pixels are correlated: all points together count as this many.
INDEPENDENT_POINTS = 40.0
# How far depth may be shifted against the colours, across the ray, as a part of the distance: one
# deviation. Kinect images of LM are up to five pixels (0.009) off. Depth of 100 ms before was off
# by 0.005 on generated sequences: objects and camera had moved.
REGISTRATION = 0.005
# The shift's variance along the ray, as a part of that across it: the distance is depth's to tell.
ALONG_SHIFT = 1e-4


def point_to_plane(eyes: DepthEyes, start: Array, look: Look, doubts: Sequence[PoseDoubt]
                   ) -> tuple[Array, Array, Array]:
    """Move the visible surfaces onto the measured ones, staying near the network's poses.

    :return: (N, 4, 4) poses as depth sees them, (N, 4, 4) poses of network and depth together, and
        the (N, 6, 6) information that depth has about them; zero where too little was measured
        near an object's surface.
    """
    T, prior = start.copy(), _priors(start, doubts)
    noise_m = NOISE_FLOOR_M + NOISE_M * start[:, 2, 3] ** 2
    here = np.zeros((len(T), 6))
    information, enough = np.zeros((len(T), 6, 6)), np.ones(len(T), bool)
    for number, gate in enumerate(GATES):
        if number == len(GATES) // 2:
            eyes.turn_to(T)
        if number:
            look = eyes.look(T)
        off_m = look.off_m
        gate_m = np.maximum(gate * eyes.diameter_m, 2 * SMALLEST_KERNEL_M)[:, None]
        weight = np.maximum(1 - (off_m / gate_m) ** 2, 0) ** 2 * look.known  # Tukey's biweight
        enough &= np.count_nonzero(weight, axis=1) >= LEAST_POINTS
        total = np.maximum(weight.sum(axis=1), 1.0)
        weight *= (np.minimum(1.0, INDEPENDENT_POINTS / total) / noise_m**2)[:, None]
        weighted = np.swapaxes(look.J * weight[..., None], 1, 2)
        information = weighted @ look.J
        pull = (weighted @ off_m[..., None] - prior @ here[..., None])
        step = np.linalg.solve(information + prior, pull)[..., 0] * enough[:, None]
        here += step  # turns are small: their order hardly matters
        T = displaced(T, step)
    T[~enough], information[~enough] = start[~enough], 0.0
    known, change = _without_shift(T, information, prior, here)
    information = np.where(enough[:, None, None], known, 0.0)
    return T, displaced(start, change * enough[:, None]), information


def _priors(T: Array, doubts: Sequence[PoseDoubt]) -> Array:
    """Return the inverse covariances of the network's poses, their distances already measured."""
    z = T[:, 2, 3]
    along, across, rotation = np.array(
        [(d.along, d.across, d.rotation_rad) for d in doubts]).T
    along, across = 0.25 * along * z, across * z
    ray = T[:, :3, 3] / np.linalg.norm(T[:, :3, 3], axis=1, keepdims=True)
    prior = np.zeros((len(T), 6, 6))
    prior[:, :3, :3] = np.eye(3) / across[:, None, None] ** 2 + (
        ray[:, :, None] * ray[:, None] * (1 / along**2 - 1 / across**2)[:, None, None])
    prior[:, 3:, 3:] = np.eye(3) / rotation[:, None, None] ** 2
    return prior


def _without_shift(T: Array, information: Array, prior: Array, here: Array
                    ) -> tuple[Array, Array]:
    """Take what depth says across the ray with the doubt that its pixels are beside the colours.

    :param T: (N, 4, 4) poses as depth sees them.
    :param information: (N, 6, 6) of depth alone, as if it were registered exactly.
    :param prior: (N, 6, 6) of the network.
    :param here: (N, 6) how far these poses are from where the alignment started.
    :return: (N, 6, 6) what depth really tells, and (N, 6) how far the pose of both is from there.
    """
    t = T[:, :3, 3]
    distance_m = np.linalg.norm(t, axis=1)
    ray = t / distance_m[:, None]
    # inverse covariance of the shift
    registered = np.eye(3) + (1 / ALONG_SHIFT - 1) * ray[:, :, None] * ray[:, None]
    registered /= (REGISTRATION * distance_m)[:, None, None] ** 2
    unknown = information[:, :, :3] @ np.linalg.inv(information[:, :3, :3] + registered)
    pull = (information + prior) @ here[..., None]
    pull = pull - unknown @ pull[:, :3]
    known = information - unknown @ information[:, :3]
    change = np.linalg.solve(known + prior, pull)[..., 0]
    return known, np.asarray(change, np.float64)
