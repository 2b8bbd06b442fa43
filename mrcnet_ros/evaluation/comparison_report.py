"""Figures of a comparison as a table and as charts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .charts import BarChart, Line, LineChart

Figures = Mapping[str, Any]


def runtime_table(figures: Figures) -> str:
    """Return one line a backend: times, times faster than the baseline, part of the machine.

    :param figures: as ``mrcnet bench backends`` writes them.
    """
    counts = list(next(iter(figures['backends'].values()))['batches'])
    least, most = counts[0], counts[-1]
    heads = ['image cold', 'image warm', f'{least} object', f'{most} objects', 'faster cold',
             'faster warm', f'faster at {most}', 'of GEMM']
    lines = ['median ms'.ljust(20) + ''.join(head.rjust(13) for head in heads)]
    for name, own in figures['backends'].items():
        ratio, shares = own['times_faster_than_baseline'], own['batches'][most]['share_of_gemm']
        cells = [
            _cell(own['cold'] and own['cold']['image_median_ms'], '.1f'),
            _cell(own['warm']['image_median_ms'], '.1f'),
            *(_cell(own['batches'][n]['image_median_ms'], '.1f') for n in (least, most)),
            *(_cell(ratio.get(n), '.2f') for n in ('cold', 'warm', f'batch_{most}')),
            _cell(shares and shares['all'], '.0%')]
        lines.append(name.ljust(20) + ''.join(cell.rjust(13) for cell in cells))
    rates = figures['gemm_gflop_per_s'] or {}
    lines.append(f'faster than {figures["baseline"]}; {figures["images"]} images with '
                 f'{figures["detections"]} detections, {figures["repeats"]} turns each, '
                 f'{figures["threads"]} threads')
    lines.append('matrix products: ' + (', '.join(
        f'{name} {rate:.0f} GFLOP/s' for name, rate in rates.items())
        or 'not measured, PyTorch is not installed'))
    lines += [f'left out: {name} {why}' for name, why in figures['absent'].items()]
    return '\n'.join(lines)


def charts(figures: Figures) -> list[LineChart | BarChart]:
    """Return time over detections, stages, cold and warm images, and parts of the machine."""
    backends = figures['backends']
    most = list(next(iter(backends.values()))['batches'])[-1]
    images = {f'{name}, {state}': {'image': own[state]['image_median_ms']}
              for name, own in backends.items() for state in ('cold', 'warm') if own[state]}
    shares = {name: {'share': 100 * own['batches'][most]['share_of_gemm']['all']}
              for name, own in backends.items() if own['batches'][most]['share_of_gemm']}
    return [
        LineChart('time of a call [ms], templates in memory', 'detections', [
            Line(name, [int(n) for n in own['batches']],
                 [b['image_median_ms'] for b in own['batches'].values()])
            for name, own in backends.items()]),
        BarChart(f'stages with {most} detections, templates in memory', 'ms', {
            name: own['batches'][most]['stage_median_ms'] for name, own in backends.items()}),
        BarChart('a whole image, templates to be computed (cold) or in memory (warm)', 'ms',
                 images),
        BarChart(f'arithmetic at {most} detections, of what matrix products reach', '%', shares),
    ]


def _cell(value: float | None, style: str) -> str:
    return '-' if value is None else format(value, style)
