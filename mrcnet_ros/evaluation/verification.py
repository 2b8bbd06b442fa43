"""Checks whether a runtime or a lower precision gives the poses of the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..datasets.bop import BopFrame
from ..datasets.boxes import BoxSource
from ..errors import SpecError
from ..inference.poses import Estimator, PoseEstimate
from .compared_object import ComparedObject
from .runner import detections_of


@dataclass(frozen=True, kw_only=True)
class VerificationLimits:
    """How far poses of a runtime may be from those of the reference.

    :param move: distance between an object's surface at both poses, in its diameters; symmetries
        taken into account. For detections that both refine from one rotation bin.
    :param moved: largest part of the detections that move farther. Of an object that is nearly
        hidden the pose hardly depends on the image, and any rounding moves it far.
    :param flips: largest part of the detections that are refined from another rotation bin, or
        answered by only one of both: two nearly equal bins may change places.
    """

    move: float = 0.05
    moved: float = 0.01
    flips: float = 0.05

    def __post_init__(self) -> None:
        """Check the values.

        :raises SpecError: when one is not a part of a whole.
        """
        for name, value in asdict(self).items():
            if not 0.0 <= value <= 1.0:
                raise SpecError(f'the limit of {name} is {value}; expected 0 to 1')


@dataclass(frozen=True)
class AnswerComparison:
    """The answers to one detection.

    :param flipped: whether they come from different rotation bins, or one is missing.
    :param move: largest surface distance in diameters, infinite when one is missing.
    :param rotation_rad: angle between them, to the nearest symmetric equivalent.
    :param translation_m: distance of their origins, to the same equivalent.
    """

    scene_id: int
    image_id: int
    label: str
    flipped: bool
    move: float
    rotation_rad: float
    translation_m: float


def compare_answers(frames: Iterable[BopFrame], boxes: BoxSource, reference: Estimator,
                    candidate: Estimator, progress: Callable[[], object] = lambda: None
                    ) -> list[AnswerComparison]:
    """Compare the answers of two estimators of one model.

    Detections that neither answers are left out.

    :param progress: called after each image.
    """
    items = {label: ComparedObject(model, symmetries=model.real_symmetries)
             for label, model in reference.objects.items()}
    comparisons = []
    for frame in frames:
        image = frame.load_image()
        detections, _ = detections_of(frame, reference, boxes)
        pair = [{pose.detection_index: pose
                 for pose in estimator.estimate(image, frame.camera, detections).poses}
                for estimator in (reference, candidate)]
        for i in sorted(set(pair[0]) | set(pair[1])):
            label = detections[i].label
            comparisons.append(AnswerComparison(
                frame.scene_id, frame.image_id, label,
                *_differences(pair[0].get(i), pair[1].get(i), items[label])))
        progress()
    return comparisons


def _differences(reference: PoseEstimate | None, candidate: PoseEstimate | None,
                 item: ComparedObject) -> tuple[bool, float, float, float]:
    """Return what a comparison holds: flipped, move, rotation [rad], translation [m]."""
    if reference is None or candidate is None:
        return True, np.inf, np.inf, np.inf
    nearest = item.nearest(candidate.T_camera_object, reference.T_camera_object)
    return (reference.bin_index != candidate.bin_index, nearest.mssd_m / item.model.diameter_m,
            nearest.difference.rotation_rad, nearest.difference.translation_m)


def verdict(comparisons: Sequence[AnswerComparison], limits: VerificationLimits) -> dict[str, Any]:
    """Return whether all is within the limits, with the figures.

    :return: ``passed``, ``limits``, ``figures``, and ``reasons`` when it failed.
    :raises SpecError: when there is nothing to compare.
    """
    if not comparisons:
        raise SpecError('there are no detections to compare; give images of the objects that the '
                        'model knows')
    kept = [c for c in comparisons if not c.flipped]
    flips = len(comparisons) - len(kept)
    lost = [c for c in kept if not math.isfinite(c.move)]
    moved = [c for c in kept if not c.move <= limits.move]
    reasons = []
    if lost:
        reasons.append(f'{len(lost)} of {len(comparisons)} poses are no numbers, such as '
                       f'{_name(lost[0])}')
    elif len(moved) > limits.moved * len(comparisons):
        worst = max(moved, key=lambda c: c.move)
        reasons.append(
            f'{len(moved)} of {len(comparisons)} detections move by more than {limits.move:g} '
            f'diameters, the limit is {limits.moved:.1%}; farthest {_name(worst)}, by '
            f'{worst.move:.3g}')
    if flips > limits.flips * len(comparisons):
        reasons.append(f'{flips} of {len(comparisons)} detections are refined from another bin, '
                       f'the limit is {limits.flips:.1%}')
    figures = {
        'detections': len(comparisons), 'flips': flips, 'moved': len(moved),
        'move_diameters': _spread([c.move for c in kept]),
        'rotation_rad': _spread([c.rotation_rad for c in kept]),
        'translation_m': _spread([c.translation_m for c in kept])}
    return {'passed': not reasons, 'limits': asdict(limits), 'figures': figures,
            'reasons': reasons}


def _name(comparison: AnswerComparison) -> str:
    return (f'{comparison.label} in image {comparison.image_id} of scene '
            f'{comparison.scene_id}')


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Return median, p95 and maximum; None of nothing, or when one is not finite."""
    if not np.isfinite(values).all() or not values:
        return None
    median, p95, largest = np.percentile(values, [50, 95, 100])
    return {'median': float(median), 'p95': float(p95), 'max': float(largest)}
