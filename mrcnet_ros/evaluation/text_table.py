"""Tables of figures as text: a row for each thing that was measured, '-' where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Column = tuple[str, str, int, str]  # heading, key of the figure, width, format


def heading_line(columns: Sequence[Column]) -> str:
    return ''.join(heading.rjust(width) for heading, _, width, _ in columns)


def figure_line(columns: Sequence[Column], figures: Mapping[str, Any]) -> str:
    """Return the cells of a row, each as wide as its column."""
    return ''.join(cell(figures[key], style).rjust(width) for _, key, width, style in columns)


def cell(value: float | None, style: str) -> str:
    """Return a formatted figure."""
    return '-' if value is None else format(value, style)


def median(values: Sequence[float]) -> float | None:
    """Return the median, None without values."""
    return float(np.median(values)) if len(values) else None
