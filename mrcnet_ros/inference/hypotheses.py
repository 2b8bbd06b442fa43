"""The rotations that stage 2 starts from: the most probable bins of each crop.

Stage 1 is often undecided between views that look alike, such as front and back. Stage 2 corrects
a bin, but it does not get from a wrong one to the right one. So it starts from several, and what
they end at is compared with the edges of the image, see :mod:`.outline_agreement`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from ..geometry.se3 import Array
from ..geometry.spread import softmax
from ..geometry.symmetry import Symmetries
from ..specs import MOST_HYPOTHESES

# A bin with less than this part of the probability of the crop's best one is not tried. Of three
# bins, 0.3, 0.4 and 0.5 try 2.3, 2.1 and 1.9 on average, and stage 2 takes as many times as long.
# Two cores answer 17.7 images of seven objects a second with 0.5, and 15.9 with 0.4. Their scores
# differ by 0.003 or less, see "Several hypotheses" in docs/experiments.md.
LEAST_SHARE = 0.5
# Bins that are nearer than this to a better one are not tried: stage 2 corrects more than that.
APART_RAD = np.radians(20.0)


class Hypotheses(NamedTuple):
    """Bins of crops; those of one crop stand together, the most probable one first.

    :param rows: (H,) crop of each.
    :param bins: (H,) rotation bins.
    :param shares: (H,) their probability in that crop; 1 where there is no choice.
    """

    rows: NDArray[np.int64]
    bins: NDArray[np.int64]
    shares: Array


def only(bins: NDArray[np.int64]) -> Hypotheses:
    """Return one bin of each crop, (N,)."""
    return Hypotheses(np.arange(len(bins)), bins, np.ones(len(bins)))


class BinChooser:
    """Chooses bins that stage 1 finds probable and that are far from one another.

    :param grid: (R, 3, 3) rotation bins.
    :param allowed: (C, R) bins that the object of each class may have.
    :param symmetries: of each class.
    :param most: bins of each crop.
    :raises SpecError: when that is no whole number from 1 to 8.
    """

    def __init__(self, grid: Array, allowed: NDArray[np.bool_], symmetries: Sequence[Symmetries],
                 most: int) -> None:
        if most not in range(1, MOST_HYPOTHESES + 1) or most is True:
            raise SpecError(f'hypotheses must be a whole number from 1 to {MOST_HYPOTHESES}, '
                            f'got {most!r}')
        self._grid, self._allowed, self._symmetries = grid, allowed, symmetries
        self.most = int(most)
        self._near: dict[tuple[int, int], NDArray[np.bool_]] = {}

    def choose(self, logits: NDArray[np.float32], classes: NDArray[np.int64]) -> Hypotheses:
        """Return the best bins of each crop.

        :param logits: (N, R) of rotation bins.
        :param classes: (N,).
        """
        possible = np.where(self._allowed[classes], logits, -np.inf)
        if self.most == 1:
            return only(np.asarray(np.argmax(possible, axis=1), np.int64))
        found = []
        for row, shares in enumerate(softmax(possible)):
            found += [(row, bin_index, share)
                      for bin_index, share in self._best(int(classes[row]), shares)]
        rows, bins, chances = zip(*found, strict=True)
        return Hypotheses(np.array(rows), np.array(bins), np.array(chances))

    def _best(self, class_index: int, shares: Array) -> list[tuple[int, float]]:
        """Return bins and their probability, the best first.

        :param shares: (R,) probabilities; changed.
        """
        best: list[tuple[int, float]] = []
        while len(best) < self.most:
            bin_index = int(shares.argmax())
            share = float(shares[bin_index])
            if best and not share >= LEAST_SHARE * best[0][1]:
                break
            best.append((bin_index, share))
            shares[self._neighbours(class_index, bin_index)] = 0.0
        return best

    def _neighbours(self, class_index: int, bin_index: int) -> NDArray[np.bool_]:
        """Return which bins are near one, symmetric equivalents included, (R,)."""
        key = class_index, bin_index
        if key not in self._near:
            R = self._grid[bin_index] @ self._symmetries[class_index].transforms[:, :3, :3]
            traces = (self._grid.reshape(-1, 9) @ R.reshape(-1, 9).T).max(axis=1)
            self._near[key] = traces > 1.0 + 2.0 * np.cos(APART_RAD)
        return self._near[key]
