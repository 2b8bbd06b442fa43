"""A bar that shows how far a command is; a robot without tqdm just does not see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """Return tqdm's bar, shown in a terminal only, or a silent one where tqdm is not installed.

    :param items: to go through, if the bar is to be looped over.
    """
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return SilentBar(items)
    return tqdm(items, **{'disable': None, **options})


class SilentBar:
    """What the commands use of tqdm."""

    def __init__(self, items: Iterable[Any] | None = None) -> None:
        self._items, self.n = items if items is not None else (), 0

    def __iter__(self) -> Iterator[Any]:
        yield from self._items

    def __enter__(self) -> SilentBar:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def update(self, steps: int = 1) -> None:
        """Count steps."""
        self.n += steps

    def set_description(self, text: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""
