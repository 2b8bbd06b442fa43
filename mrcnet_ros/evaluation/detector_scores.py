"""How well a detector finds the visible objects of annotated images."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..datasets.bop import MIN_VISIBLE_FRACTION, BopFrame
from ..detector.decode import FoundObject
from ..detector.matching import FITS_IOU, which_fit
from ..detector.object_detector import LEAST_SCORE
from ..geometry.boxes import ious
from ..geometry.se3 import Array


@dataclass
class _Counts:
    """The counts of one object.

    :param said: score and whether it is right, of every box that is not of a hidden instance.
    """

    targets: int = 0
    hits: int = 0
    overlaps: list[float] = field(default_factory=list)
    said: list[tuple[float, bool]] = field(default_factory=list)


class DetectorScores:
    """Adds up the scores of images.

    ``recall`` is the share of targets that one of the n best boxes of their class fits, where n is
    the number of instances in the image. ``ap50`` is the area under the curve of precision over
    recall. A box fits if its overlap (IoU) with the visible box is at least one half.

    :param object_ids: of the classes of the detector, in order.
    """

    def __init__(self, object_ids: Sequence[int]) -> None:
        self.object_ids = list(object_ids)
        self._counts = {i: _Counts() for i in self.object_ids}
        self._seconds: list[float] = []

    def add(self, frame: BopFrame, found: Sequence[FoundObject], seconds: float) -> None:
        """Count an image.

        :param found: best first.
        """
        self._seconds.append(seconds)
        for row, object_id in enumerate(self.object_ids):
            seen = [g for g in frame.ground_truth
                    if g.object_id == object_id and g.box_visib_xyxy is not None]
            wanted = [g.box_visib_xyxy for g in seen if g.visible_fraction >= MIN_VISIBLE_FRACTION]
            hidden = [g.box_visib_xyxy for g in seen if g.visible_fraction < MIN_VISIBLE_FRACTION]
            own = [f for f in found if f.class_index == row]
            self._count(self._counts[object_id], _stacked(wanted), _stacked(hidden), own)

    def figures(self, labels: Mapping[int, str]) -> dict[str, Any]:
        """Return all scores as plain data.

        AP50 is a mean over the objects with targets. False boxes of the others, with a score that
        the node would take, are ``boxes_of_absent``.

        :param labels: by object id.
        """
        objects = {labels.get(i, str(i)): _scores(c) for i, c in self._counts.items() if c.targets}
        total = sum(c.targets for c in self._counts.values())
        overlaps = [o for c in self._counts.values() for o in c.overlaps]
        return {
            'images': len(self._seconds), 'targets': total,
            'recall': sum(c.hits for c in self._counts.values()) / total if total else None,
            'ap50': float(np.mean([o['ap50'] for o in objects.values()])) if objects else None,
            'boxes_of_absent': sum(score >= LEAST_SCORE for c in self._counts.values()
                                   if not c.targets for score, _ in c.said),
            'iou_of_hits': statistics.mean(overlaps) if overlaps else None,
            'ms_median': 1e3 * statistics.median(self._seconds) if self._seconds else None,
            'objects': objects,
        }

    def _count(self, counts: _Counts, wanted: Array, hidden: Array,
               found: Sequence[FoundObject]) -> None:
        counts.targets += len(wanted)
        for place, (f, row) in enumerate(zip(found, which_fit(found, wanted), strict=True)):
            right = row >= 0
            if right and place < len(wanted):
                counts.hits += 1
                counts.overlaps.append(float(ious(wanted[row], f.box_xyxy)))
            elif not right and len(hidden) and float(ious(hidden, f.box_xyxy).max()) >= FITS_IOU:
                continue
            counts.said.append((f.score, right))


def _stacked(boxes: Sequence[Array | None]) -> Array:
    return np.array([b for b in boxes if b is not None], np.float64).reshape(-1, 4)


def _scores(counts: _Counts) -> dict[str, Any]:
    return {'targets': counts.targets, 'recall': counts.hits / counts.targets,
            'ap50': average_precision(counts.said, counts.targets)}


def average_precision(said: Sequence[tuple[float, bool]], targets: int) -> float:
    """Return the area under precision over recall.

    Convention: the precision at a recall is the best at that recall or a higher one.

    :param said: score and whether it is right, of every box.
    """
    if not targets or not said:
        return 0.0
    right = np.array([r for _, r in sorted(said, key=lambda s: -s[0])], float)
    found = np.cumsum(right)
    precision = found / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best * right).sum() / targets)


def detector_table(figures: Mapping[str, Any]) -> str:
    """Return the scores as text for a terminal."""
    lines = [f'{"object":16}{"targets":>8}{"recall":>8}{"AP50":>8}']
    lines += [f'{label:16}{o["targets"]:8}{o["recall"]:8.3f}{o["ap50"]:8.3f}'
              for label, o in figures['objects'].items()]
    if figures['targets']:
        lines.append(f'{"all":16}{figures["targets"]:8}{figures["recall"]:8.3f}'
                     f'{figures["ap50"]:8.3f}')
    return '\n'.join(lines)
