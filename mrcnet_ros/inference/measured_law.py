"""What was measured of a model with its graphs: calibrations and what they were fitted to.

Both are entries of ``model.json``, told by their names in errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import SpecError
from ..specs import from_mapping

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, kw_only=True)
class MeasuredEntry:
    """Named values of an entry of ``model.json``."""

    entry: ClassVar[str]
    holds: ClassVar[str] = 'values'

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Restore them from plain data.

        :raises SpecError: when a field is unknown or missing, of another type or out of range.
        """
        if not isinstance(values, Mapping):
            raise SpecError(f'{cls.entry} must map names to {cls.holds}, got {values!r}')
        restored: Self = from_mapping(cls, values, cls.entry)
        return restored


@dataclass(frozen=True, kw_only=True)
class Law(MeasuredEntry):
    """Numbers that turn one thing into another.

    :raises SpecError: when one is out of the range that ``limits`` has for it.
    """

    holds: ClassVar[str] = 'numbers'
    limits: ClassVar[Mapping[str, tuple[float, float]]]

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, (low, high) in self.limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise SpecError(f'{self.entry}: {name} must be {low:g} to {high:g}, got {value:g}')


@dataclass(frozen=True, kw_only=True)
class FittedTo(MeasuredEntry):
    """What a calibration was fitted to.

    :param source: ``synthetic`` or ``photographs``.
    :param boxes: which ones, in words.
    :param crops: of each detection.
    :param hypotheses: of each crop.
    :param refine: passes of the refiner.
    :raises SpecError: when the source is another.
    """

    source: str
    images: int
    poses: int
    boxes: str
    crops: int
    hypotheses: int
    refine: int

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Restore it from plain data.

        Earlier versions had one hypothesis and no refinement, and did not tell.
        """
        return super().from_dict({'hypotheses': 1, 'refine': 0, **values}
                                 if isinstance(values, Mapping) else values)

    def __post_init__(self) -> None:
        """Check the source."""
        if self.source not in ('synthetic', 'photographs'):
            raise SpecError(f'{self.entry}: source must be synthetic or photographs, got '
                            f'{self.source!r}')

    def doubt(self, law: str, crops: int, hypotheses: int, refine: int) -> str | None:
        """Return what is wrong with the calibration for poses that are made in another way.

        :param law: its name.
        """
        given, here = (self.crops, self.hypotheses, self.refine), (crops, hypotheses, refine)
        if given == here:
            return None
        was, now = (f'crops {c}, hypotheses {h} and refine {r}' for c, h, r in (given, here))
        return (f'{law} was calibrated with {was}, but here are {now}, so it may be wrong; run '
                f'mrcnet calibrate{with_passes(refine)} --write')


def with_passes(refine: int) -> str:
    """Return the option of ``mrcnet calibrate`` for poses that are refined so often."""
    return f' --refine {refine}' if refine else ''
