"""What was measured of a model with its graphs: laws and what they were fitted to.

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
    """What a law was fitted to.

    :param source: ``synthetic`` or ``photographs``.
    :raises SpecError: when the source is another.
    """

    source: str
    images: int
    poses: int

    def __post_init__(self) -> None:
        """Check the source."""
        if self.source not in ('synthetic', 'photographs'):
            raise SpecError(f'{self.entry}: source must be synthetic or photographs, got '
                            f'{self.source!r}')
