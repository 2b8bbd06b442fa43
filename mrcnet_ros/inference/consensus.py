"""One pose from the answers to several crops of the same detection.

Crops that are turned against one another show the network the same object with other pixels, so
that part of their errors is independent: the mean of those that agree is nearer to the truth, and
a pose that only one crop sees is most likely wrong.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..geometry.se3 import Array, exp_so3, log_so3, make_transform, rotation_angle
from ..geometry.symmetry import Symmetries

AGREE_RAD = np.radians(25.0)
LEAST = 1e-9  # weight of a score of nothing
MEAN_STEPS = 3


class Consensus(NamedTuple):
    """What several crops make of one object.

    :param T_camera_object: (4, 4) [m].
    :param score: 0..1, the scores of the crops that agree over the number of all.
    """

    T_camera_object: Array
    score: float


def consensus(T_camera_object: Array, scores: Array, symmetries: Symmetries) -> Consensus:
    """Return the mean of the poses that most agree with one another.

    Rotations agree that are less than 25 degrees apart, symmetric equivalents included; scores
    are the weights. Distances are averaged as logarithms, apart from directions, because one
    camera errs along its viewing ray far more than across.

    :param T_camera_object: (N, 4, 4) [m], finite, one for each crop.
    :param scores: (N,) 0..1.
    """
    if len(scores) == 1:
        return Consensus(T_camera_object[0], float(scores[0]))
    best_vote, best, agreeing = -1.0, T_camera_object, np.zeros(len(scores))
    for reference in T_camera_object:
        R = reference[:3, :3]
        turned = np.stack([symmetries.nearest(T[:3, :3], T[:3, 3], R) for T in T_camera_object])
        weights = np.maximum(scores, LEAST) * (rotation_angle(R.T @ turned[:, :3, :3]) < AGREE_RAD)
        if weights.sum() > best_vote:
            best_vote, best, agreeing = float(weights.sum()), turned, weights
    return Consensus(_mean(best, agreeing), best_vote / len(scores))


def _mean(T: Array, weights: Array) -> Array:
    """Return the weighted mean of poses; those with a weight are less than 50 degrees apart."""
    part = weights / weights.sum()
    R = T[int(np.argmax(weights)), :3, :3]
    for _ in range(MEAN_STEPS):
        R = R @ exp_so3(part @ log_so3(R.T @ T[:, :3, :3]))
    distances_m = np.linalg.norm(T[:, :3, 3], axis=1)
    direction = part @ (T[:, :3, 3] / distances_m[:, None])
    distance_m = np.exp(part @ np.log(distances_m))
    return make_transform(R, direction / np.linalg.norm(direction) * distance_m)
