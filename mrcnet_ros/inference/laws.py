"""The calibrations in ``model.json``: of covariances and scores, with and without depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model_json import REFINED
from ..reading import fields
from .calibration_entries import CALIBRATION
from .depth_correction import DepthLaws
from .depth_law import DepthScoreLaw
from .scoring import Evidence, ScoreLaw, ScoreSource
from .uncertainty import CovarianceLaw, LawSource

Values = Mapping[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Laws:
    """The calibrations of poses that are made in one way.

    :param covariance_law: the covariance model; None where it has not been calibrated.
    :param covariance_source: what it was fitted to; None where that is not known.
    :param score_law: the score calibration; None where it has not been measured.
    :param score_source: what it was fitted to; None where that is not known.
    :param depth_laws: the same for poses that depth has corrected.
    :param covariance_depth_source: what those were fitted to; None where that is not known.
    """

    covariance_law: CovarianceLaw | None = None
    covariance_source: LawSource | None = None
    score_law: ScoreLaw | None = None
    score_source: ScoreSource | None = None
    depth_laws: DepthLaws = field(default_factory=DepthLaws)
    covariance_depth_source: LawSource | None = None

    @classmethod
    def of(cls, values: Values) -> Laws:
        """Read the calibrations of ``model.json``, or of its entry for refined poses.

        :raises SpecError: when one cannot be used.
        """
        def optional(name: str, kind: Callable[[Any], Any]) -> Any:
            return None if values.get(name) is None else kind(values[name])

        return cls(
            covariance_law=optional('covariance', CovarianceLaw.from_dict),
            covariance_source=optional('covariance_source', LawSource.from_dict),
            score_law=optional('score', ScoreLaw.from_dict),
            score_source=optional('score_source', ScoreSource.from_dict),
            depth_laws=DepthLaws(optional('covariance_depth', CovarianceLaw.from_dict),
                                 optional('score_depth', DepthScoreLaw.from_dict)),
            covariance_depth_source=optional('covariance_depth_source', LawSource.from_dict))

    def score(self, evidence: Evidence) -> float:
        """Return the probability that a pose is right; without a law the network's confidence."""
        return (evidence.quality if self.score_law is None
                else self.score_law.probability(evidence))

    def doubts_followed(self) -> list[str]:
        """Return which calibrations may be wrong for poses that the refiner follows."""
        sources = {'covariance': self.covariance_source, 'score': self.score_source}
        return [f'the refiner follows objects, but {law} was calibrated without it, so that of '
                'followed poses may be wrong; run mrcnet calibrate --refine 1 --write'
                for law, source in sources.items() if source is not None and not source.refine]

    def doubts(self, crops: int, hypotheses: int, refine: int) -> list[str]:
        """Return which calibrations may be wrong for poses that are made so, and what to do."""
        sources = {'covariance': self.covariance_source, 'score': self.score_source,
                   'covariance with depth': self.covariance_depth_source}
        return [doubt for law, source in sources.items() if source is not None
                and (doubt := source.doubt(law, crops, hypotheses, refine)) is not None]


def of_refined_poses(values: Values) -> Values:
    """Return the calibrations of ``model.json`` with those of refined poses in place of others.

    :raises ValueError: when there is an unknown one.
    """
    own = values.get(REFINED)
    if own is None:
        return values
    fields.only_known(own, CALIBRATION, REFINED)
    replaced = {*own, *(f'{name}_source' for name in own)}
    return {**{name: values.get(name) for name in CALIBRATION if name not in replaced}, **own}
