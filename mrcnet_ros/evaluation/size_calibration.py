"""Measures the sizes of real objects relative to their meshes, from annotated photographs.

One camera cannot tell size from distance: a mesh that is 5 % larger than the object makes every
pose 5 % too far away. A few photographs with known poses give the size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..datasets.bop import BopFrame, GroundTruth, ResultRow
from ..errors import DatasetError
from ..geometry.hull import hull_vertices
from ..objects import ObjectModel
from .covariance_errors import sole_truths
from .pose_errors import closest_equivalent, pose_difference

MIN_VISIBLE = 0.8  # of an object that is partly hidden the distance is less sure
MAX_ROTATION_RAD = np.radians(30.0)  # beyond, the pose is wrong, and so is its distance
MIN_PHOTOGRAPHS = 8  # the spread of fewer is too uncertain
DEVIATIONS = 3.0  # standard errors by which a size must differ from 1
SIZES = (0.85, 1.15)  # sizes over the mesh's that are possible for the right object
ABSURD = 0.7  # a log ratio that no uncertainty explains: twice or half the size


@dataclass(frozen=True)
class SizeMeasurement:
    """The size of one object, measured on photographs.

    :param log_ratios: logarithm of true over estimated distance, one for each usable photograph.
    :param known: size ratio that the estimates were made with.
    """

    label: str
    log_ratios: tuple[float, ...]
    known: float

    @property
    def median(self) -> float:
        """Return the median of the logarithms, 0 of nothing."""
        return float(np.median(self.log_ratios)) if self.log_ratios else 0.0

    @property
    def error(self) -> float:
        """Return the standard error of the median, from the median absolute deviation."""
        if not self.log_ratios:
            return float('inf')
        spread = 1.4826 * np.median(np.abs(np.array(self.log_ratios) - self.median))
        return float(1.2533 * spread / np.sqrt(len(self.log_ratios)))

    @property
    def significant(self) -> bool:
        """Tell whether the photographs are enough to say that the size differs."""
        enough = len(self.log_ratios) >= MIN_PHOTOGRAPHS
        return enough and abs(self.median) > DEVIATIONS * self.error

    @property
    def ratio(self) -> float:
        """Return the size of the real object over that of its mesh; as it was when unsure."""
        if not self.significant:
            return self.known
        return self.measured

    @property
    def measured(self) -> float:
        """Return the size of the real object over that of its mesh, as the photographs have it."""
        return float(self.known * np.exp(self.median))

    @property
    def believable(self) -> bool:
        """Tell whether the mesh of the right object in the right unit can have this size."""
        in_range = SIZES[0] <= self.measured <= SIZES[1]
        return (in_range or not self.significant) and abs(self.median) <= ABSURD

    def left_out(self) -> tuple[float, float]:
        """Return the median absolute error of the logarithm of distance before and after.

        After: with each photograph corrected by the median of the others alone.
        """
        r = np.array(self.log_ratios)
        others = [np.median(np.delete(r, i)) for i in range(len(r))]
        return float(np.median(np.abs(r))), float(np.median(np.abs(r - np.array(others))))


def check_sizes(sizes: Sequence[SizeMeasurement]) -> None:
    """Refuse sizes that come from a mistake.

    :raises DatasetError: naming the objects.
    """
    wrong = [f'{s.label} {s.measured:.3g}' for s in sizes if not s.believable]
    if wrong:
        raise DatasetError(
            f'measured sizes: {", ".join(wrong)} times the mesh; expected {SIZES[0]} to '
            f'{SIZES[1]}. Lengths of the ground truth and the meshes must be in millimetres, and '
            'the intrinsics must match the size of the images; nothing is written')


def measure_sizes(frames: Sequence[BopFrame], rows: Sequence[ResultRow],
                  objects: Mapping[str, ObjectModel]) -> list[SizeMeasurement]:
    """Compare distances of well visible objects whose rotation was found.

    :param rows: estimates on the frames.
    :param objects: of the model that made them, by label.
    """
    hulls = {m.object_id: hull_vertices(m.centred().load_mesh().vertices)
             for m in objects.values()}
    models = {m.object_id: m for m in objects.values()}
    found: dict[int, list[float]] = {i: [] for i in models}
    for row, truth in zip(rows, sole_truths(frames, rows), strict=True):
        if truth is not None and row.object_id in models:
            ratio = _log_ratio(row, truth, models[row.object_id], hulls[row.object_id])
            if ratio is not None:
                found[row.object_id].append(ratio)
    return [SizeMeasurement(m.label, tuple(found[i]), m.size_ratio) for i, m in models.items()]


def _log_ratio(row: ResultRow, truth: GroundTruth, model: ObjectModel,
               hull: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float | None:
    """Return the logarithm of true over estimated distance, None when the photograph is no use."""
    if truth.visible_fraction < MIN_VISIBLE:
        return None
    T_est, T_gt = (model.to_centred(T) for T in (row.T_camera_object, truth.T_camera_object))
    symmetries = model.centred().symmetries
    T_gt = closest_equivalent(T_est, symmetries.comparable(T_gt, T_est), hull, symmetries)
    if pose_difference(T_est, T_gt).rotation_rad > MAX_ROTATION_RAD:
        return None
    distances = (np.linalg.norm(T[:3, 3]) for T in (T_gt, T_est))
    return float(np.log(next(distances) / next(distances)))
