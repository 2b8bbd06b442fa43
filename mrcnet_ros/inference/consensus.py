"""One pose from the answers to several crops of the same detection.

Rotated crops show the network the same object with other pixels, so a part of their errors is
independent. The mean of the answers that agree is nearer to the truth. A pose that only one crop
gives is probably wrong. Of one crop there may be several answers, with beliefs about which is
right.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array, make_transform, nearest_rotation
from ..geometry.symmetry import Symmetries

# 15 to 40 degrees score the same on LM-O (0.631 to 0.638, see docs/experiments.md).
AGREE_RAD = np.radians(25.0)
# On LM-O a limit of 0.5 scores the same as no limit (0.585). A limit of 0.25 scores less (0.579),
# because depth is not that certain.
AGREE_DIAMETERS = 0.5
LEAST = 1e-9  # weight of a score of zero
# Root mean square distance of a surface from its middle; most objects have 0.25 to 0.35.
REACH_DIAMETERS = 0.3


class Answers(NamedTuple):
    """What the network answers to crops.

    :param T_camera_object: (N, 4, 4) [m].
    :param quality: (N,) how good the network thinks each is, 0..1.
    :param belief: (N,) how probable each is beside the others, up to a factor.
    :param crop: (N,) crop of each, ascending.
    """

    T_camera_object: Array
    quality: Array
    belief: Array
    crop: NDArray[np.int64]

    def part(self, rows: NDArray[np.int64]) -> Answers:
        """Return some of them."""
        return Answers(self.T_camera_object[rows], self.quality[rows], self.belief[rows],
                       self.crop[rows])


class Consensus(NamedTuple):
    """What several crops make of one object.

    :param T_camera_object: (4, 4) [m].
    :param score: 0..1, the quality of the answers that agree times their part of the belief.
    :param share: their part of the belief.
    :param members: (M,) rows of the answers that agree, in their order.
    :param apart: mean distance between the surfaces that two crops see [diameters], about; nan of
        one crop alone.
    """

    T_camera_object: Array
    score: float
    share: float
    members: NDArray[np.int64]
    apart: float


def consensus(answers: Answers, symmetries: Symmetries, diameter_m: float) -> Consensus:
    """Return the mean of the poses that most agree with one another.

    Poses agree that are less than 25 degrees and half a diameter apart, symmetric equivalents
    included; quality times belief is their weight. Distances are averaged as logarithms, apart
    from directions, because one camera errs along its viewing ray far more than across.

    :param answers: to the crops of one detection, finite.
    """
    T, quality = answers.T_camera_object, answers.quality
    if len(quality) == 1:
        return Consensus(T[0], float(quality[0]), 1.0, np.zeros(1, np.int64), np.nan)
    if symmetries.is_ball:  # its motions are those about a few axes only
        T = np.stack([symmetries.nearest(one[:3, :3], one[:3, 3], T[0, :3, :3]) for one in T])
    equivalents = T[:, None] @ symmetries.transforms
    traces = np.einsum('nij,msij->nms', T[:, :3, :3], equivalents[..., :3, :3])
    closest = traces.argmax(axis=2)
    rows = np.arange(len(quality))
    t_closest = equivalents[rows, closest, :3, 3]
    apart_m = np.linalg.norm(t_closest - T[:, None, :3, 3], axis=2)
    agree = ((traces.max(axis=2) > 1.0 + 2.0 * np.cos(AGREE_RAD))
             & (apart_m < AGREE_DIAMETERS * diameter_m))
    part = answers.belief / answers.belief.sum()
    votes = agree @ (part * quality)
    best = int(np.argmax(votes))
    members = np.flatnonzero(agree[best])
    nearest = equivalents[members, closest[best, members]]
    mean = mean_pose(nearest, np.maximum(quality[members], LEAST) * part[members])
    pairs = np.outer(part, part) * (answers.crop[:, None] != answers.crop)
    apart = _apart(traces.max(axis=2), apart_m / diameter_m, pairs)
    share = min(float(part[members].sum()), 1.0)  # all of it may add up to a little more
    return Consensus(mean, float(votes[best]), share, members, apart)


def _apart(traces: Array, moved: Array, weights: Array) -> float:
    """Return how far apart the surfaces of poses are on average [diameters]; nan of one crop.

    A point is moved by a rotation of trace t by its distance from the axis times ``sqrt(3 - t)``,
    and two thirds of its squared distance from the middle are across the axis.

    :param traces: (N, N) of the rotations from pose to pose.
    :param moved: (N, N) distances between the origins [diameters].
    :param weights: (N, N) of the pairs, 0 for those of one crop.
    """
    total = float(weights.sum())
    if total == 0.0:
        return float('nan')
    turned = REACH_DIAMETERS**2 * 2.0 / 3.0 * np.maximum(3.0 - traces, 0.0)
    return float((weights * np.sqrt(moved**2 + turned)).sum()) / total


def mean_pose(T: Array, weights: Array) -> Array:
    """Return the weighted mean of poses that are near one another, (4, 4) [m].

    Distances are averaged as logarithms, apart from directions.

    :param T: (N, 4, 4) [m].
    :param weights: (N,) positive.
    """
    part = weights / weights.sum()
    R = nearest_rotation(np.einsum('n,nij->ij', part, T[:, :3, :3]))
    distances_m = np.linalg.norm(T[:, :3, 3], axis=1)
    direction = part @ (T[:, :3, 3] / distances_m[:, None])
    distance_m = np.exp(part @ np.log(distances_m))
    return make_transform(R, direction / np.linalg.norm(direction) * distance_m)
