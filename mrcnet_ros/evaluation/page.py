"""The report of an evaluation: one page of HTML that needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..store.atomic import writing
from .charts import BarChart, Line, LineChart
from .confidence_curves import Coverage, ScoreCurves
from .gallery import Tile
from .report import COLUMNS
from .svg import svg_of
from .text_table import cell

FILE = 'index.html'
STYLE = '''
:root { color-scheme: light; --ink: #202020; --soft: #5f6368; --rule: #dadce0; }
body { font: 15px/1.5 system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; color: var(--ink);
       background: white; max-width: 1120px; margin: 0 auto; padding: 20px 16px 40px; }
h1 { font-size: 24px; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 32px 0 8px; padding-top: 12px; border-top: 1px solid var(--rule); }
h3 { font-size: 15px; margin: 16px 0 6px; }
p { margin: 4px 0 8px; max-width: 72em; }
.soft, figcaption, td.name + td.fact { color: var(--soft); }
.warning { background: #fdecea; border-left: 4px solid #d62728; padding: 8px 12px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 10px; }
.card { border: 1px solid var(--rule); border-radius: 6px; padding: 8px 12px; }
.card b { display: block; font-size: 22px; line-height: 1.3; }
.card span { color: var(--soft); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
          gap: 18px; }
svg { width: 100%; height: auto; font-family: inherit; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 8px; text-align: right; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; vertical-align: bottom; }
th:first-child, td.name { text-align: left; white-space: nowrap; }
tr.sum td { font-weight: 600; border-top: 2px solid var(--ink); }
table.facts td { text-align: left; vertical-align: top; overflow-wrap: anywhere; }
@media print, (max-width: 800px) { th, td { padding: 2px 4px; } table { font-size: 11px; } }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; }
figure { margin: 0; break-inside: avoid; font-size: 12px; line-height: 1.35; }
figure img { width: 100%; display: block; border-radius: 4px; }
figcaption b { color: var(--ink); display: block; margin-top: 3px; }
@media print { body { padding: 0; font-size: 12px; } h2 { break-after: avoid; }
  .charts > div, .card, tr { break-inside: avoid; } }
'''


@dataclass(frozen=True, eq=False)
class Latency:
    """How long answers took.

    :param what: was measured, in words.
    :param stages_ms: median of each stage, where it is known.
    """

    what: str
    values_ms: Sequence[float]
    stages_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class EvaluationPage:
    """What is shown.

    :param facts: by name, such as model, machine and command.
    :param figures: of :func:`.report.recall_figures`, or ``{'overall': None}`` without truth.
    :param galleries: by name.
    :param skipped: detections without a pose, by reason.
    :param notes: what went wrong, or is missing on the page.
    """

    title: str
    facts: Mapping[str, str]
    figures: Mapping[str, Any]
    latency: Latency
    curves: ScoreCurves | None = None
    coverage: Coverage | None = None
    galleries: Mapping[str, Sequence[Tile]] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_report_page(folder: Path, page: EvaluationPage) -> Path:
    """Write the page and return its file.

    :raises DatasetError: when it cannot be written.
    """
    path = folder / FILE
    with writing(path):
        path.write_text(html(page), encoding='utf-8')
    return path


def html(page: EvaluationPage) -> str:
    parts = [f'<h1>{escape(page.title)}</h1>',
             *(f'<p class="warning">{escape(note)}</p>' for note in page.notes), *_cards(page)]
    if page.figures['overall'] is not None:
        parts += [*_recall(page.figures), *_tables(page), *_confidence(page)]
    parts += [*_latency(page.latency), *_galleries(page), *_facts(page)]
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(page.title)}</title><style>{STYLE}</style></head>\n<body>\n'
            + '\n'.join(parts) + '\n</body></html>\n')


def _cards(page: EvaluationPage) -> Iterator[str]:
    """Yield the most important figures in large type."""
    overall, cards = page.figures['overall'], {}
    if overall is not None:
        cards = {
            f'poses of {overall["targets"]} targets': str(overall['estimates']),
            'average recall, mean of MSSD and MSPD': f'{overall["ar_mean"]:.3f}',
            'within 0.1 diameters and 15°': f'{overall["near"]:.0%}'}
        for text, key, unit in (('median rotation error', 'median_rotation_deg', '°'),
                                ('median error across the view', 'median_xy_mm', ' mm'),
                                ('median error of depth', 'median_depth_mm', ' mm')):
            if overall[key] is not None:
                cards[text] = f'{overall[key]:.1f}{unit}'
    if page.latency.values_ms:
        cards[f'{page.latency.what}, median'] = f'{np.median(page.latency.values_ms):.0f} ms'
    yield '<div class="cards">' + ''.join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(text)}</span></div>'
        for text, value in cards.items()) + '</div>'


def _recall(figures: Mapping[str, Any]) -> Iterator[str]:
    recalls = figures['recalls']
    yield '<h2>Recall</h2>'
    yield ('<p class="soft">Share of the targets whose pose is nearer to the truth than a '
           'threshold. The average over these thresholds is the average recall of BOP.</p>')
    yield _charts([
        LineChart('recall by surface distance (MSSD)', 'threshold [diameters]', [
            Line('all targets', recalls['mssd_thresholds_diameters'], recalls['mssd'])]),
        LineChart('recall by distance in the image (MSPD)', 'threshold [px of a 640 px image]', [
            Line('all targets', recalls['mspd_thresholds_px_at_640'], recalls['mspd'])])])


def _tables(page: EvaluationPage) -> Iterator[str]:
    figures = page.figures
    yield '<h2>Objects</h2>'
    rows = [(f'{i} {entry["label"]}', entry, '') for i, entry in figures['objects'].items()]
    rows.append(('all', figures['overall'], 'sum'))
    rows += [(f'visible {name}', entry, '')
             for name, entry in figures['by_visible_fraction'].items()]
    if figures['without_size_ratios'] is not None:
        rows.append(('all, without size ratios', figures['without_size_ratios'], ''))
    head = '<th>object</th>' + ''.join(f'<th>{escape(column[0])}</th>' for column in COLUMNS)
    body = ''.join(
        f'<tr class="{kind}"><td class="name">{escape(name)}</td>'
        + ''.join(f'<td>{escape(cell(entry[key], style))}</td>' for _, key, _, style in COLUMNS)
        + '</tr>'
        for name, entry, kind in rows)
    yield f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
    yield ('<p class="soft">near: within 0.1 diameters and 15 degrees. Errors are medians over '
           'the targets that have a pose.</p>')
    if page.skipped:
        yield '<p>Without a pose: ' + escape(', '.join(
            f'{count} {reason}' for reason, count in sorted(page.skipped.items()))) + '.</p>'


def _confidence(page: EvaluationPage) -> Iterator[str]:
    """Yield the curves of scores and covariances."""
    charts = []
    if page.curves is not None:
        c = page.curves
        charts += [
            LineChart('poses with at least this score', 'score threshold', [
                Line('precision: right share of the poses', c.thresholds, c.precision),
                Line('recall: share of targets with a right pose', c.thresholds, c.recall)]),
            LineChart('precision over recall', 'recall', [
                Line('score threshold from high to low', c.recall[::-1], c.precision[::-1])]),
            LineChart('share of right poses by score', 'score', [
                Line('measured', c.bin_scores, c.bin_right),
                Line('perfect calibration', [0.0, 1.0], [0.0, 1.0])])]
    if page.coverage is not None:
        v = page.coverage
        charts.append(LineChart(
            f'errors inside the ellipsoids of {v.poses} covariances', 'expected share', [
                Line('position', v.levels, v.position), Line('rotation', v.levels, v.rotation),
                Line('perfect calibration', [0.0, 1.0], [0.0, 1.0])]))
    if charts:
        yield '<h2>Score and covariance</h2>'
        yield ('<p class="soft">A pose is right if it is within 0.1 diameters and 15 degrees. '
               'Only targets count here: poses of false detections are not measured. A curve of '
               'the covariance below the diagonal means that errors exceed it.</p>')
        yield _charts(charts)


def _latency(latency: Latency) -> Iterator[str]:
    if not latency.values_ms:
        return
    values = sorted(latency.values_ms)
    shares = [(i + 1) / len(values) for i in range(len(values))]
    charts: list[LineChart | BarChart] = [LineChart(
        f'{latency.what}: share of images that took at most', 'ms', [
            Line('images', values, shares)])]
    if latency.stages_ms:
        charts.append(BarChart('median of each stage', 'ms', {
            name: {'ms': value} for name, value in latency.stages_ms.items()}))
    p50, p95, top = np.percentile(values, [50, 95, 100])
    yield '<h2>Latency</h2>'
    yield (f'<p>{escape(latency.what.capitalize())}: median {p50:.1f} ms, 95 % within '
           f'{p95:.1f} ms, longest {top:.1f} ms, {len(values)} images.</p>')
    yield _charts(charts)


def _galleries(page: EvaluationPage) -> Iterator[str]:
    if not page.galleries:
        return
    yield '<h2>Poses</h2>'
    yield ('<p class="soft">White: the truth. Green: the estimate, with its axes x red, y green, '
           'z blue. Sorted by MSSD in diameters.</p>')
    for name, tiles in page.galleries.items():
        yield f'<h3>{escape(name.capitalize())}</h3><div class="tiles">' + ''.join(
            f'<figure><img alt="{escape(t.title)}" '
            f'src="data:image/jpeg;base64,{base64.b64encode(t.jpeg).decode()}">'
            f'<figcaption><b>{escape(t.title)}</b>'
            + '<br>'.join(map(escape, t.lines)) + '</figcaption></figure>'
            for t in tiles) + '</div>'


def _facts(page: EvaluationPage) -> Iterator[str]:
    yield '<h2>How it was measured</h2><table class="facts">' + ''.join(
        f'<tr><td class="name">{escape(name)}</td><td class="fact">{escape(text)}</td></tr>'
        for name, text in page.facts.items()) + '</table>'


def _charts(charts: Sequence[LineChart | BarChart]) -> str:
    return '<div class="charts">' + ''.join(
        f'<div>{svg_of(chart)}</div>' for chart in charts) + '</div>'
