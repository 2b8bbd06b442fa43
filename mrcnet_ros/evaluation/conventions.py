"""Poses that would be right if they were written in another convention.

Such poses score nothing and look like bad poses: a transposed matrix and one in the camera axes of
OpenGL are valid rotations, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from ..datasets.bop import BopFrame, GroundTruth, ResultRow
from ..geometry.se3 import Array, inverse
from ..objects import ObjectModel
from .scores import group_rows

# When two poses are about the same: of a random rotation 0.4 % are as near as that. The distance
# is a part of the true one.
NEAR_RAD, NEAR_PART = np.radians(25.0), 0.15
# Largest share of poses that fit as they are, and smallest share that fit in another convention.
FEW, MANY, LEAST = 0.1, 0.3, 4
# objects of the truth that are looked at, spread over all
ENOUGH = 300

# OpenGL's camera axes in those of this package, and models with y up in models with z up.
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_UPRIGHT = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def _turned(turn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return what turns the rotation of a pose and leaves its translation."""
    def change(T: Array) -> Array:
        changed = T.copy()
        changed[:3, :3] = turn(T[:3, :3])
        return changed
    return change


def _reordered(order: Sequence[int]) -> Callable[[Array], Array]:
    """Return what takes the x, y, z, w of a quaternion in another order."""
    return lambda R: np.asarray(
        Rotation.from_quat(Rotation.from_matrix(R).as_quat()[list(order)]).as_matrix())


READINGS: dict[str, Callable[[Array], Array]] = {
    'R is transposed': _turned(np.transpose),
    'they are those of the camera in the frame of the model': inverse,
    'they are in the camera axes of OpenGL, y up and z back': lambda T: _OPENGL @ T,
    'R alone is in the camera axes of OpenGL, y up and z back':
        _turned(lambda R: _OPENGL[:3, :3] @ R),
    'they are of models in which y is up instead of z': lambda T: T @ _UPRIGHT,
    'they are of models in which z is up instead of y': lambda T: T @ _UPRIGHT.T,
    'quaternions were taken as x, y, z, w that were w, x, y, z':
        _turned(_reordered([1, 2, 3, 0])),
    'quaternions were taken as w, x, y, z that were x, y, z, w':
        _turned(_reordered([3, 0, 1, 2])),
    't is in centimetres': lambda T: np.column_stack([T[:, :3], T[:, 3] * [10.0, 10, 10, 1]]),
}


def other_convention(frames: Iterable[BopFrame], rows: Iterable[ResultRow],
                     objects: Mapping[int, ObjectModel]) -> str:
    """Return the convention in which poses would be right, '' if they are or no other fits.

    :param objects: whose symmetries count, by object id.
    """
    found = group_rows(rows)
    pairs = [(truth, found[frame.scene_id, frame.image_id, truth.object_id])
             for frame in frames for truth in frame.ground_truth
             if (frame.scene_id, frame.image_id, truth.object_id) in found
             and truth.object_id in objects]
    pairs = pairs[::max(1, len(pairs) // ENOUGH)]

    def fitting(change: Callable[[Array], Array]) -> int:
        return sum(_fits(truth, [change(row.T_camera_object) for row in own],
                         objects[truth.object_id]) for truth, own in pairs)

    as_they_are = fitting(lambda T: T)
    if len(pairs) < LEAST or as_they_are > FEW * len(pairs):
        return ''
    counts = {name: fitting(change) for name, change in READINGS.items()}
    best = max(counts, key=lambda name: counts[name])
    if counts[best] < max(LEAST, MANY * len(pairs)):
        return ''
    return (f'of {len(pairs)} objects of the ground truth, {as_they_are} have a pose near theirs, '
            f'and {counts[best]} would if {best}')


def _fits(truth: GroundTruth, poses: Sequence[Array], model: ObjectModel) -> bool:
    """Tell whether one of several poses is about that of the truth."""
    same = truth.T_camera_object @ model.symmetries.transforms
    distance_m = np.linalg.norm(truth.T_camera_object[:3, 3])
    for T in poses:
        off_m = np.linalg.norm(same[:, :3, 3] - T[:3, 3], axis=1)
        cosine = (np.einsum('kij,ij->k', same[:, :3, :3], T[:3, :3]) - 1.0) / 2.0
        if ((off_m < NEAR_PART * distance_m) & (cosine > np.cos(NEAR_RAD))).any():
            return True
    return False
