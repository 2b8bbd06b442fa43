"""Checks whether a detector finds the same boxes in another runtime or a lower precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..datasets.bop import BopFrame
from ..detector.decode import FoundObject
from ..detector.object_detector import LEAST_SCORE, ObjectDetector
from ..errors import SpecError
from ..geometry.boxes import ious

# Two boxes are the same when they overlap so much and their scores differ by no more than this. In
# bf16, 95 of 100 boxes of models/lmo overlap by 0.98 or more, and scores differ by 0.02 or less.
SAME_OVERLAP, SAME_SCORE = 0.9, 0.1


@dataclass(frozen=True)
class BoxComparison:
    """A box of either detector, and the best box of its label that the other one has.

    :param overlap: intersection over union, 0 when there is none.
    :param score_difference: of both scores, 1 when there is none.
    """

    scene_id: int
    image_id: int
    label: str
    overlap: float
    score_difference: float

    @property
    def same(self) -> bool:
        """Return whether both detectors have this box."""
        return self.overlap >= SAME_OVERLAP and self.score_difference <= SAME_SCORE


def compare_boxes(frames: Iterable[BopFrame], reference: ObjectDetector,
                  candidate: ObjectDetector, progress: Callable[[], object] = lambda: None
                  ) -> list[BoxComparison]:
    """Compare the boxes that two detectors of one model find.

    :param reference: with a threshold well below :data:`LEAST_SCORE`, as the other one.
    :param progress: called after each image.
    """
    comparisons = []
    for frame in frames:
        image = frame.load_image()
        both = [detector.find(image, frame.camera) for detector in (reference, candidate)]
        for own, others in (both, both[::-1]):
            comparisons += [
                BoxComparison(frame.scene_id, frame.image_id, reference.labels[box.class_index],
                              *_nearest(box, others)) for box in own if box.score >= LEAST_SCORE]
        progress()
    return comparisons


def _nearest(box: FoundObject, others: Sequence[FoundObject]) -> tuple[float, float]:
    """Return overlap and difference of scores with the box of the same class nearest to it."""
    same_class = [other for other in others if other.class_index == box.class_index]
    if not same_class:
        return 0.0, 1.0
    overlaps = ious(np.array([other.box_xyxy for other in same_class]), box.box_xyxy)
    nearest = int(overlaps.argmax())
    return float(overlaps[nearest]), abs(same_class[nearest].score - box.score)


def boxes_verdict(comparisons: Sequence[BoxComparison], limit: float) -> dict[str, Any]:
    """Return whether nearly all boxes are the same, with the figures.

    :param limit: largest share of the boxes without a match.
    :return: ``passed``, ``limits``, ``figures`` and ``reasons``.
    :raises SpecError: when there is nothing to compare.
    """
    if not comparisons:
        raise SpecError(f'neither finds a box with a score of {LEAST_SCORE} or more, so there is '
                        'nothing to compare; give images of the objects that the detector knows')
    missing = [c for c in comparisons if not c.same]
    reasons = []
    if len(missing) > limit * len(comparisons):
        worst = min(missing, key=lambda c: c.overlap)
        reasons.append(f'{len(missing)} of {len(comparisons)} boxes differ; the limit is '
                       f'{limit:.1%}; for example {worst.label} in image {worst.image_id} of '
                       f'scene {worst.scene_id}')
    overlaps = [c.overlap for c in comparisons]
    differences = [c.score_difference for c in comparisons]
    figures = {'boxes': len(comparisons), 'others': len(missing),
               'overlap_median': float(np.median(overlaps)),
               'overlap_p5': float(np.percentile(overlaps, 5)),
               'score_difference_median': float(np.median(differences)),
               'score_difference_p95': float(np.percentile(differences, 95))}
    return {'passed': not reasons, 'limits': {
        'others': limit, 'counted_score': LEAST_SCORE, 'same_overlap': SAME_OVERLAP,
        'same_score': SAME_SCORE}, 'figures': figures, 'reasons': reasons}


def boxes_table(figures: dict[str, Any]) -> str:
    """Return the figures as lines for people."""
    return (f'{figures["boxes"]} boxes, {figures["others"]} without a match\n'
            f'overlap: median {figures["overlap_median"]:.4f}, 5 % are below '
            f'{figures["overlap_p5"]:.4f}\n'
            f'scores differ: median {figures["score_difference_median"]:.4f}, 5 % by more than '
            f'{figures["score_difference_p95"]:.4f}')
