"""One pose from the answers to several crops of the same detection.

Crops that are turned against one another show the network the same object with other pixels, so
that part of their errors is independent: the mean of those that agree is nearer to the truth, and
a pose that only one crop sees is most likely wrong.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..geometry.se3 import Array, make_transform, nearest_rotation
from ..geometry.symmetry import Symmetries

AGREE_RAD = np.radians(25.0)
LEAST = 1e-9  # weight of a score of nothing


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
    equivalents = T_camera_object[:, None] @ symmetries.transforms
    R = T_camera_object[:, :3, :3]
    traces = np.einsum('nij,msij->nms', R, equivalents[..., :3, :3])
    agree = traces.max(axis=2) > 1.0 + 2.0 * np.cos(AGREE_RAD)
    votes = agree @ scores
    best = int(np.argmax(votes))
    nearest = equivalents[np.arange(len(scores)), traces[best].argmax(axis=1)]
    mean = _mean(nearest[agree[best]], np.maximum(scores[agree[best]], LEAST))
    return Consensus(mean, float(votes[best]) / len(scores))


def _mean(T: Array, weights: Array) -> Array:
    """Return the weighted mean of poses that are near one another."""
    part = weights / weights.sum()
    R = nearest_rotation(np.einsum('n,nij->ij', part, T[:, :3, :3]))
    distances_m = np.linalg.norm(T[:, :3, 3], axis=1)
    direction = part @ (T[:, :3, 3] / distances_m[:, None])
    distance_m = np.exp(part @ np.log(distances_m))
    return make_transform(R, direction / np.linalg.norm(direction) * distance_m)
