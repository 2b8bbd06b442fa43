"""Measures the sizes of real objects relative to their meshes, from annotated photographs.

One camera cannot tell size from distance: a mesh that is 5 % larger than the object makes every
pose 5 % too far away. A few photographs with known poses give the size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..datasets.bop import BopFrame, GroundTruth, ResultRow
from ..errors import DatasetError
from ..objects import ObjectModel
from .compared_object import ComparedObject
from .covariance_errors import truths_of

MIN_VISIBLE = 0.6  # of an object that is more hidden the distance is less sure
MAX_ROTATION_RAD = np.radians(30.0)  # beyond, the pose is wrong, and so is its distance
MIN_PHOTOGRAPHS = 3  # the median of fewer is that of the worst
# By which sizes of real objects differ from those of their meshes, as logarithms; what a network
# sees too large or too small is in it. The root mean square of LM-O is 0.021, of T-LESS 0.016;
# 0.02 in place of 0.03 measures the same.
SCATTER = 0.03
# Of the distance in one photograph, before any is seen; it counts as much as four photographs.
PRIOR_SPREAD, PRIOR_PHOTOGRAPHS = 0.02, 4
DEVIATIONS = 3.0  # standard errors by which a size surely differs from the present one
SURE_PHOTOGRAPHS = 8  # fewer are not enough to call a mesh wrong
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
        """Return the standard error of the median, from the median absolute deviation.

        That of a few photographs is chance, so it is averaged with what is usual.
        """
        count = len(self.log_ratios)
        if not count:
            return float('inf')
        spread = 1.4826 * np.median(np.abs(np.array(self.log_ratios) - self.median))
        variance = (count * spread**2 + PRIOR_PHOTOGRAPHS * PRIOR_SPREAD**2) / (
            count + PRIOR_PHOTOGRAPHS)
        return float(1.2533 * np.sqrt(variance / count))

    @property
    def told(self) -> bool:
        """Tell whether there are enough photographs for a size."""
        return len(self.log_ratios) >= MIN_PHOTOGRAPHS

    @property
    def ratio(self) -> float:
        """Return the likeliest size of the real object over that of its mesh.

        It lies between that of the mesh and the measured one: the more photographs there are and
        the better they agree, the nearer to the measured one. Without enough it is the known one.
        """
        if not self.told:
            return self.known
        trust = SCATTER**2 / (SCATTER**2 + self.error**2)
        return float(np.exp(trust * np.log(self.measured)))

    @property
    def measured(self) -> float:
        """Return the size of the real object over that of its mesh, as the photographs have it."""
        return float(self.known * np.exp(self.median))

    @property
    def significant(self) -> bool:
        """Tell whether the size surely differs from the known one."""
        return (len(self.log_ratios) >= SURE_PHOTOGRAPHS
                and abs(self.median) > DEVIATIONS * self.error)

    @property
    def believable(self) -> bool:
        """Tell whether the mesh of the right object in the right unit can have this size."""
        in_range = SIZES[0] <= self.measured <= SIZES[1]
        return (in_range or not self.significant) and abs(self.median) <= ABSURD

    def left_out(self) -> tuple[float, float]:
        """Return the median absolute error of the logarithm of distance before and after.

        After: with each photograph corrected by the size that the others alone tell.
        """
        r = np.array(self.log_ratios)
        others = [replace(self, log_ratios=tuple(np.delete(r, i))) for i in range(len(r))]
        told = np.array([np.log(other.ratio / self.known) for other in others])
        return float(np.median(np.abs(r))), float(np.median(np.abs(r - told)))


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
    """Compare distances of objects that are little hidden and whose rotation was found.

    :param rows: estimates on the frames.
    :param objects: of the model that made them, by label.
    """
    items = {m.object_id: ComparedObject(m.centred()) for m in objects.values()}
    found: dict[int, list[float]] = {i: [] for i in items}
    for row, truth in zip(rows, truths_of(frames, rows), strict=True):
        if truth is not None and row.object_id in items:
            ratio = _log_ratio(row, truth, items[row.object_id])
            if ratio is not None:
                found[row.object_id].append(ratio)
    return [SizeMeasurement(item.model.label, tuple(found[i]), item.model.size_ratio)
            for i, item in items.items()]


def _log_ratio(row: ResultRow, truth: GroundTruth, item: ComparedObject) -> float | None:
    """Return the logarithm of true over estimated distance, None when the photograph is no use."""
    if truth.visible_fraction < MIN_VISIBLE:
        return None
    T_est, T_gt = (item.model.to_centred(T)
                   for T in (row.T_camera_object, truth.T_camera_object))
    nearest = item.nearest(T_est, T_gt)
    if nearest.difference.rotation_rad > MAX_ROTATION_RAD:
        return None
    true_m, estimated_m = (np.linalg.norm(T[:3, 3]) for T in (nearest.T_camera_object, T_est))
    return float(np.log(true_m / estimated_m))
