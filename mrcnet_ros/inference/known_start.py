"""Starts from poses that are about known, instead of from stage 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from ..geometry.bins import encode_translation
from ..geometry.crop import CropCamera
from ..geometry.se3 import (
    POSE_TOLERANCE,
    Array,
    checked_rotation,
    rotation_angle,
    rotation_to_axis,
)
from ..objects import ObjectModel
from ..specs import BinSpec
from .uncertainty import PoseSpread

# Of a start that was farther off, stage 2 mends only a part, and a second pass mends the rest. On
# rendered images a start 10 degrees, 5 % of the distance and a tenth of a diameter aside ended
# 4.5 % of a diameter aside after one pass, and 2 % after two. Nearer starts need only one.
FAR_DIAMETERS, FAR_PART, FAR_RAD = 0.04, 0.025, np.radians(8.0)


@dataclass(frozen=True, eq=False)
class KnownPose:
    """About where an object is expected in an image.

    :param T_camera_object: (4, 4) float64 [m].
    :param detection_id: handed on to the answer.
    :param share: how probable this pose is beside others of the object, 0..1, such as one turned
        round: :attr:`.scoring.Evidence.share` of the answer that it comes from. Score and
        covariance of the answer take it in.
    :param spread: what stage 1 has left open about the answer that it comes from:
        :attr:`.poses.PoseEstimate.spread`. Where the refiner follows, stage 1 does not look again,
        so without it the answer has no covariance.
    :raises SpecError: when the pose is none.
    """

    label: str
    T_camera_object: Array
    detection_id: str = ''
    share: float = 1.0
    spread: PoseSpread | None = None

    def __post_init__(self) -> None:
        """Check the pose: a stage answers something whatever it starts from."""
        try:
            T = np.array(self.T_camera_object, dtype=np.float64)
        except (TypeError, ValueError):
            T = np.empty(0)
        if T.shape != (4, 4) or not np.isfinite(T).all() or (T[3] != (0, 0, 0, 1)).any():
            raise SpecError('T_camera_object must be 4x4 and finite, with the last row 0 0 0 1, '
                            f'got {self.T_camera_object!r}')
        checked_rotation(T[:3, :3], POSE_TOLERANCE, 'the rotation of T_camera_object')
        if not isinstance(self.share, (int, float, np.number)) or not 0.0 <= self.share <= 1.0:
            raise SpecError(f'share must be 0 to 1, got {self.share!r}')
        if not isinstance(self.spread, PoseSpread | None):
            raise SpecError('spread must be the spread of a pose, or None, got '
                            f'{self.spread!r}')
        object.__setattr__(self, 'T_camera_object', T)


def start_at(T_camera_object: Array, crop: CropCamera, item: ObjectModel, grid: Array,
             allowed: NDArray[np.bool_], bins: BinSpec) -> tuple[int, Array]:
    """Return what stage 1 would say if it saw an object at a pose.

    Of a symmetric object all equivalent poses are looked at, and of the bins only those that the
    object can be seen in.

    :param T_camera_object: (4, 4) [m] of the real object.
    :param grid: (R, 3, 3) rotation bins.
    :param allowed: (R,) bins that the object can be seen in.
    :return: the nearest rotation bin, and (3,) x and y offset from the crop's centre in crop
        widths and log relative size, kept within what stage 1 can say.
    """
    equivalents = T_camera_object @ item.real_symmetries.transforms
    t = equivalents[:, :3, 3] / item.size_ratio @ crop.R_crop_camera.T
    R_ray = rotation_to_axis(t) @ crop.R_crop_camera @ equivalents[:, :3, :3]
    traces = R_ray.reshape(len(R_ray), 9) @ grid.reshape(len(grid), 9).T
    traces[:, ~allowed] = -np.inf
    row, best = np.unravel_index(int(np.argmax(traces)), traces.shape)
    code = encode_translation(t[row], crop.focal, item.diameter_m)
    low, high = np.log(bins.scale_min), np.log(bins.scale_max)
    return int(best), np.array([*np.clip(code[:2], -0.5, 0.5), np.clip(code[2], low, high)])


def starts_at(poses: Sequence[Array], crops: Sequence[CropCamera], items: Sequence[ObjectModel],
              allowed: NDArray[np.bool_], grid: Array, bins: BinSpec,
              ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the starts of a batch, see :func:`start_at`: (N,) and (N, 3)."""
    found = [start_at(T, crop, item, grid, views, bins) for T, crop, item, views
             in zip(poses, crops, items, allowed, strict=True)]
    return (np.array([best for best, _ in found], np.int64),
            np.array([code for _, code in found], np.float32).reshape(-1, 3))


def moved_far(T_start: Array, T_end: Array, diameter_m: float) -> bool:
    """Tell whether a pose was moved by so much that following should start again from the end.

    :param T_start: (4, 4) T_camera_object [m].
    :param T_end: likewise.
    """
    before, after = T_start[:3, 3], T_end[:3, 3]
    distances = float(np.linalg.norm(before)), float(np.linalg.norm(after))
    aside_m = np.linalg.norm(after / distances[1] - before / distances[0]) * distances[1]
    return bool(aside_m > FAR_DIAMETERS * diameter_m
                or abs(np.log(distances[1] / distances[0])) > FAR_PART
                or rotation_angle(T_start[:3, :3].T @ T_end[:3, :3]) > FAR_RAD)
