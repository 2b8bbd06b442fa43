"""Names of object instances that stay the same from frame to frame."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ..inference.poses import PoseEstimate

REMEMBERED_FRAMES = 300


class InstanceNames:
    """Gives each instance a frame name: ``<label>``, ``<label>_2``, ``<label>_3`` ...

    An instance with a detection id gets the number it had before, when it is still free; the
    others are numbered in the order of detection. Ids are forgotten after
    ``REMEMBERED_FRAMES`` frames without them.
    """

    def __init__(self) -> None:
        """Start knowing none."""
        self._frame = 0
        self._known: dict[tuple[str, str], tuple[int, int]] = {}

    def name(self, estimates: Sequence[PoseEstimate]) -> list[str]:
        """Return the names of the instances of one frame, all different."""
        self._frame += 1
        numbers: dict[int, int] = {}
        taken: set[tuple[str, int]] = set()
        for keep_known in (True, False):
            for index, estimate in enumerate(estimates):
                number = self._number(estimate, taken, keep_known)
                if index not in numbers and number:
                    numbers[index] = number
                    taken.add((estimate.label, number))
        self._remember(estimates, numbers)
        return [e.label if numbers[i] == 1 else f'{e.label}_{numbers[i]}'
                for i, e in enumerate(estimates)]

    def _number(
        self, estimate: PoseEstimate, taken: set[tuple[str, int]], keep_known: bool,
    ) -> int | None:
        if keep_known:
            number, _ = self._known.get((estimate.label, estimate.detection_id), (0, 0))
            return None if (estimate.label, number) in taken else number or None
        return next(n for n in itertools.count(1) if (estimate.label, n) not in taken)

    def _remember(self, estimates: Sequence[PoseEstimate], numbers: dict[int, int]) -> None:
        for index, estimate in enumerate(estimates):
            if estimate.detection_id:
                self._known[estimate.label, estimate.detection_id] = (numbers[index], self._frame)
        oldest = self._frame - REMEMBERED_FRAMES
        self._known = {key: entry for key, entry in self._known.items() if entry[1] > oldest}
