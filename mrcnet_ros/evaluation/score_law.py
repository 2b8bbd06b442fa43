"""From judged answers to a law of scores and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence

from ..inference.scoring import ScoreLaw, ScoreSource
from .covariance_law import Images
from .score_errors import Judged
from .score_fit import fit_score_law


def score_law_of(judged: Sequence[Judged], images: Images) -> tuple[ScoreLaw, ScoreSource]:
    """Return the law that answers tell, and its source.

    :raises DatasetError: when there are too few poses to tell.
    """
    law = fit_score_law(judged)
    right = sum(j.right for j in judged) / len(judged)
    return law, ScoreSource(
        source=images.source, images=len({j.image for j in judged}), poses=len(judged),
        right=round(right, 3), boxes=images.boxes, crops=images.crops)
