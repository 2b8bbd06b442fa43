"""From answers on annotated images to a law of covariances and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import DatasetError
from ..inference.uncertainty import GROUPS, CovarianceLaw, LawSource
from ..objects import ObjectModel
from .covariance_errors import PoseError, pose_errors
from .covariance_fit import fit_law
from .covariance_widening import PHOTOGRAPHS, PHOTOGRAPHS_DEPTH, unknown, widened_law
from .runner import Run


@dataclass(frozen=True)
class Images:
    """What answers were given on.

    :param source: ``synthetic`` or ``photographs``.
    :param boxes: which ones, in words.
    :param crops: of each detection.
    :param for_photographs: widen a law of synthetic images by how much larger errors are on
        photographs.
    :param depth: whether depth has corrected the poses.
    """

    source: str
    boxes: str
    crops: int
    for_photographs: bool = True
    depth: bool = False


def errors_of(done: Run, objects: Mapping[str, ObjectModel],
              sizes: Mapping[str, float]) -> list[PoseError]:
    """Return the errors of all answers.

    :param sizes: by label, size ratios that the model is going to have.
    :raises DatasetError: when no answer came with a spread.
    """
    if all(pose.spread is None for pose in done.poses):
        raise DatasetError('no pose came with a spread; only the default preset has them')
    return pose_errors(done.frames, done.rows, done.poses, objects, sizes)


def law_of(errors: list[PoseError], images: Images) -> tuple[CovarianceLaw, LawSource]:
    """Return the law that errors tell, widened by what they leave unknown, and its source.

    :raises DatasetError: when there are too few errors to tell.
    """
    law = fit_law(errors)
    factors = unknown(law, errors)
    if images.source == 'synthetic' and images.for_photographs:
        larger = PHOTOGRAPHS_DEPTH if images.depth else PHOTOGRAPHS
        factors = {name: factors[name] * larger[name] for name in GROUPS}
    lateral, depth, rotation = (round(factors[name], 3) for name in GROUPS)
    return widened_law(law, factors), LawSource(
        source=images.source, images=len({e.image for e in errors}), poses=len(errors),
        boxes=images.boxes, crops=images.crops, widened=(lateral, depth, rotation))
