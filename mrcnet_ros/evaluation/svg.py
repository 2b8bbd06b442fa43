"""Charts as SVG that stands inside a page of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .charts import HEIGHT, INK, WIDTH, BarChart, Canvas, LineChart

FONT_PX = 15  # in units of the chart, which is 760 wide
# of a letter of the page's sans serif; only the legend depends on it
LETTER_PX = 0.53 * FONT_PX
ACROSS = {'l': 'start', 'm': 'middle', 'r': 'end'}
# how far below the point the text stands, in its size: hanging, centred, on it
BELOW = {'a': 0.75, 'm': 0.35, 'b': -0.2}


def svg_of(chart: LineChart | BarChart) -> str:
    """Return a chart as an element that is as wide as there is room."""
    canvas = SvgCanvas()
    chart.draw(canvas)
    return (f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-size="{FONT_PX}">'
            f'<title>{escape(chart.title)}</title>{"".join(canvas.parts)}</svg>')


class SvgCanvas(Canvas):
    """Collects the elements of one chart."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def length(self, text: str) -> float:
        """Return about the width of a text."""
        return LETTER_PX * len(text)

    def text(self, at: tuple[float, float], text: str, anchor: str) -> None:
        v = at[1] + FONT_PX * BELOW[anchor[1]]
        self.parts.append(f'<text x="{at[0]:.1f}" y="{v:.1f}" fill="{INK}" '
                          f'text-anchor="{ACROSS[anchor[0]]}">{escape(text)}</text>')

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: int) -> None:
        path = ' '.join(f'{u:.1f},{v:.1f}' for u, v in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" '
                          f'stroke-width="{width}"/>')

    def dot(self, at: tuple[float, float], colour: str) -> None:
        self.parts.append(f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="3" fill="{colour}"/>')

    def box(self, corners: tuple[float, float, float, float], colour: str) -> None:
        u1, v1, u2, v2 = corners
        self.parts.append(f'<rect x="{u1:.1f}" y="{v1:.1f}" width="{u2 - u1:.1f}" '
                          f'height="{v2 - v1:.1f}" fill="{colour}"/>')
