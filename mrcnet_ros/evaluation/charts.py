"""Line and bar charts, drawn with Pillow or as SVG."""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..errors import DatasetError

# Pixels of a chart and of its margins: two charts fit side by side into the report, and the
# margins hold the labels of the axes and a legend above.
WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 62, 48
BAR_LEFT = 170  # room for the longest name beside a bar [px]
COLOURS = ('#1f77b4', '#ff7f0e', '#2ca02c', '#d62728', '#9467bd', '#8c564b', '#17becf', '#7f7f7f')
INK, GRID = '#202020', '#dddddd'
SUPERSAMPLING = 2  # lines are drawn this much larger and averaged, for smooth edges


@dataclass(frozen=True)
class Line:
    """Values over x.

    :param y: None where there is no value; the line has a gap there.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]


@dataclass(frozen=True)
class LineChart:
    """Lines over the same axes, both from zero unless all values are far from it."""

    title: str
    x_label: str
    lines: Sequence[Line]

    def draw(self, canvas: Canvas) -> None:
        """Draw axes, lines and legend."""
        ys = [v for line in self.lines for v in line.y if v is not None]
        xs = [v for line in self.lines for v in line.x]
        x_axis, y_axis = _axis(xs), _axis(ys)
        canvas.title(self.title)
        canvas.legend([line.name for line in self.lines])
        box = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)

        def place(x: float, y: float) -> tuple[float, float]:
            return (_scaled(x, x_axis, box[0], box[2]), _scaled(y, y_axis, box[3], box[1]))

        for value in y_axis:
            (_, v) = place(x_axis[0], value)
            canvas.line([(box[0], v), (box[2], v)], GRID, 1)
            canvas.text((box[0] - 6, v), f'{value:g}', 'rm')
        for value in x_axis:
            (u, _) = place(value, y_axis[0])
            canvas.line([(u, box[3]), (u, box[3] + 4)], INK, 1)
            canvas.text((u, box[3] + 8), f'{value:g}', 'ma')
        canvas.line([(box[0], box[1]), (box[0], box[3]), (box[2], box[3])], INK, 1)
        canvas.text(((box[0] + box[2]) / 2, HEIGHT - 6), self.x_label, 'mb')
        for number, line in enumerate(self.lines):
            for part in _unbroken(line):
                canvas.line([place(x, y) for x, y in part], COLOURS[number % len(COLOURS)], 2)
                for x, y in part if len(line.x) <= 20 else part[:1]:
                    canvas.dot(place(x, y), COLOURS[number % len(COLOURS)])


@dataclass(frozen=True)
class BarChart:
    """Horizontal bars from zero, each made of parts.

    :param bars: the parts of each bar by its label.
    """

    title: str
    unit: str
    bars: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def draw(self, canvas: Canvas) -> None:
        """Draw bars with their sums, and a legend of the parts."""
        names = list(dict.fromkeys(name for parts in self.bars.values() for name in parts))
        sums = {label: sum(parts.values()) for label, parts in self.bars.items()}
        axis = _axis([0.0, *sums.values()])
        left, right, bottom = BAR_LEFT, WIDTH - RIGHT - 50, HEIGHT - BOTTOM
        canvas.title(self.title)
        canvas.legend(names if len(names) > 1 else [])
        for value in axis:
            u = _scaled(value, axis, left, right)
            canvas.line([(u, TOP), (u, bottom)], GRID, 1)
            canvas.text((u, bottom + 6), f'{value:g}', 'ma')
        canvas.text(((left + right) / 2, HEIGHT - 6), self.unit, 'mb')
        pitch = (bottom - TOP) / max(1, len(self.bars))
        for row, (label, parts) in enumerate(self.bars.items()):
            middle, start = TOP + (row + 0.5) * pitch, 0.0
            half = min(0.36 * pitch, 16)
            for name, value in parts.items():
                ends = (_scaled(v, axis, left, right) for v in (start, start + value))
                u1, u2 = ends
                canvas.box((u1, middle - half, u2, middle + half),
                           COLOURS[names.index(name) % len(COLOURS)])
                start += value
            canvas.text((left - 6, middle), label, 'rm')
            canvas.text((_scaled(start, axis, left, right) + 4, middle), f'{start:.4g}', 'lm')


class Canvas(ABC):
    """What a chart is drawn on; a point is (u, v) from the upper left corner."""

    def title(self, text: str) -> None:
        """Write the heading."""
        self.text((LEFT, 8), text, 'la')

    def legend(self, names: Sequence[str]) -> None:
        """Write the names in their colours, in one line below the heading."""
        u = float(LEFT)
        for number, name in enumerate(names):
            colour = COLOURS[number % len(COLOURS)]
            self.box((u, 34, u + 12, 44), colour)
            self.text((u + 17, 39), name, 'lm')
            u += 33 + self.length(name)

    @abstractmethod
    def length(self, text: str) -> float:
        """Return the width of a text."""

    @abstractmethod
    def text(self, at: tuple[float, float], text: str, anchor: str) -> None:
        """Write at a point, which the text has at the place that Pillow calls ``anchor``."""

    @abstractmethod
    def line(self, points: Sequence[tuple[float, float]], colour: str, width: int) -> None:
        """Connect points."""

    @abstractmethod
    def dot(self, at: tuple[float, float], colour: str) -> None:
        """Mark a point."""

    @abstractmethod
    def box(self, corners: tuple[float, float, float, float], colour: str) -> None:
        """Fill a rectangle."""


class PictureCanvas(Canvas):
    """A part of a picture, with its own origin."""

    def __init__(self, image: Image.Image, origin: tuple[int, int]) -> None:
        self._draw, self._origin = ImageDraw.Draw(image), origin
        self._font = ImageFont.load_default(13 * SUPERSAMPLING)

    def length(self, text: str) -> float:
        return float(self._font.getlength(text)) / SUPERSAMPLING

    def text(self, at: tuple[float, float], text: str, anchor: str) -> None:
        self._draw.text(self._at(at), text, fill=INK, font=self._font, anchor=anchor)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: int) -> None:
        self._draw.line([self._at(p) for p in points], colour, width * SUPERSAMPLING, 'curve')

    def dot(self, at: tuple[float, float], colour: str) -> None:
        # not ImageDraw.circle, which Pillow has since 10.4 only
        (u, v), radius = self._at(at), 3 * SUPERSAMPLING
        self._draw.ellipse((u - radius, v - radius, u + radius, v + radius), colour)

    def box(self, corners: tuple[float, float, float, float], colour: str) -> None:
        self._draw.rectangle([self._at(corners[:2]), self._at(corners[2:])], colour)

    def _at(self, point: tuple[float, float]) -> tuple[float, float]:
        return ((self._origin[0] + point[0]) * SUPERSAMPLING,
                (self._origin[1] + point[1]) * SUPERSAMPLING)


def draw_charts(path: Path, charts: Sequence[LineChart | BarChart]) -> None:
    """Draw charts side by side and below each other into a picture.

    :raises DatasetError: when it cannot be written.
    """
    picture = _drawn(charts, 2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path}: cannot be written ({error})') from error


def png_of(chart: LineChart) -> bytes:
    """Return a chart as the bytes of a PNG file."""
    data = io.BytesIO()
    _drawn([chart], 1).save(data, 'png')
    return data.getvalue()


def _drawn(charts: Sequence[LineChart | BarChart], columns: int) -> Image.Image:
    size = (WIDTH * min(columns, len(charts)), HEIGHT * math.ceil(len(charts) / columns))
    image = Image.new('RGB', (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING), 'white')
    for number, chart in enumerate(charts):
        chart.draw(PictureCanvas(
            image, (WIDTH * (number % columns), HEIGHT * (number // columns))))
    return image.resize(size, Image.Resampling.LANCZOS)


def _axis(values: Sequence[float]) -> list[float]:
    """Return round numbers that enclose the values, and zero where that is near."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if 0 <= low < 0.7 * high or high <= 0:
        low, high = min(low, 0.0), max(high, 0.0)
    span = high - low or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(f for f in (1, 2, 5, 10) if span / (f * step) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def _scaled(value: float, axis: Sequence[float], low: float, high: float) -> float:
    return low + (value - axis[0]) / (axis[-1] - axis[0]) * (high - low)


def _unbroken(line: Line) -> list[list[tuple[float, float]]]:
    """Return the stretches of a line that have values."""
    parts: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if y is None:
            parts.append([])
        else:
            parts[-1].append((x, y))
    return [part for part in parts if part]
