"""Several estimators on the same images, in turns, so that load affects all alike."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

from ..inference.poses import Estimator
from .charts import BarChart, Line, LineChart
from .speed import Question, TimedAnswer, ask, speed_summary
from .text_table import cell

# pause after another estimator, whose threads may still spin
SETTLE_S = 0.3
# Timed calls in a row of each batch; the table has the median. More take longer and vary less.
CALLS = 3
# Graphs that run for each row of a stage while templates are in memory.
COMPUTED = {'stage1': ('stage1',), 'stage2': ('stage2',), 'refine': ('refiner',)}
Figures = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Contender:
    """An estimator that is compared.

    :param forget: empties its cache of template features; None when it has none.
    :param precision: in which it computes, as ``gemm_flops_per_s`` names it.
    """

    estimator: Estimator
    forget: Callable[[], None] | None
    precision: str


@dataclass
class Times:
    """All calls of one contender.

    :param cold: whole images, the cache emptied before each; none without a cache.
    :param warm: whole images whose templates are in the cache.
    :param batches: by number of detections, all in memory.
    """

    cold: list[TimedAnswer] = field(default_factory=list)
    warm: list[TimedAnswer] = field(default_factory=list)
    batches: dict[int, list[TimedAnswer]] = field(default_factory=dict)


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic of a model, and the speed of this machine.

    :param graph_flops: of one row by graph: a crop in stage 1, a hypothesis in stage 2, a
        template.
    :param gemm_flops_per_s: of large matrix products by precision.
    """

    graph_flops: Mapping[str, int]
    gemm_flops_per_s: Mapping[str, float]


def batch_question(asked: Sequence[Question], count: int) -> Question:
    """Return the image with most detections, with ``count`` of them, repeated if need be."""
    richest = max(asked, key=lambda q: len(q.detections))
    return dataclasses.replace(richest, detections=list(islice(cycle(richest.detections), count)))


def compare_runtimes(contenders: Mapping[str, Contender], asked: Sequence[Question],
                     batches: Sequence[int], repeats: int,
                     between: Callable[[], object] = lambda: None) -> dict[str, Times]:
    """Measure all contenders in each repeat, starting with another one each time.

    :param between: called after each contender's turn.
    """
    times = {name: Times(batches={n: [] for n in batches}) for name in contenders}
    names = list(contenders)
    for repeat in range(repeats):
        for name in names[repeat % len(names):] + names[:repeat % len(names)]:
            time.sleep(SETTLE_S)
            _turn(contenders[name], times[name], asked)
            between()
    return times


def _turn(contender: Contender, times: Times, asked: Sequence[Question]) -> None:
    estimator, forget = contender.estimator, contender.forget
    ask(estimator, asked[0])
    if forget is not None:
        for question in asked:
            forget()
            times.cold.append(ask(estimator, question))
    for question in asked:
        ask(estimator, question)
    times.warm += [ask(estimator, question) for question in asked]
    for count, answers in times.batches.items():
        question = batch_question(asked, count)
        ask(estimator, question)
        answers += [ask(estimator, question) for _ in range(CALLS)]


def contender_figures(times: Times, arithmetic: Arithmetic | None, precision: str
                      ) -> dict[str, Any]:
    """Return medians of all calls, and how much of the machine is used.

    :param arithmetic: None when it is not known.
    """
    batches = {}
    for count, answers in times.batches.items():
        summary = speed_summary(answers)
        summary['detection_median_ms'] = summary['image_median_ms'] / count
        summary['rows'] = {stage: sum(a.rows.get(stage, 0) for a in answers) / len(answers)
                           for stage in COMPUTED}
        summary['share_of_gemm'] = (
            shares(summary, arithmetic, precision) if arithmetic else None)
        batches[str(count)] = summary
    return {'cold': speed_summary(times.cold) if times.cold else None,
            'warm': speed_summary(times.warm), 'batches': batches}


def shares(summary: Mapping[str, Any], arithmetic: Arithmetic, precision: str
           ) -> dict[str, float] | None:
    """Return the rate of arithmetic as a part of that of matrix products, by stage and in all.

    :param summary: of calls, with the mean ``rows`` of each stage, their templates in memory.
    :return: None when the rate of matrix products is not known in this precision.
    """
    rate = arithmetic.gemm_flops_per_s.get(precision)
    if rate is None:
        return None
    flops = {stage: summary['rows'][stage] * sum(arithmetic.graph_flops[graph] for graph in graphs)
             for stage, graphs in COMPUTED.items() if summary['rows'].get(stage)}
    found = {stage: 1e3 * flops[stage] / summary['stage_median_ms'][stage] / rate
             for stage in flops if summary['stage_median_ms'].get(stage)}
    return {**found, 'all': 1e3 * sum(flops.values()) / summary['image_median_ms'] / rate}


def ratios(figures: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[str, float]:
    """Return how many times faster than the baseline each kind of call is."""
    found = {}
    for state in ('cold', 'warm'):
        if figures[state] and baseline[state]:
            found[state] = baseline[state]['image_median_ms'] / figures[state]['image_median_ms']
    for count, summary in figures['batches'].items():
        found[f'batch_{count}'] = (
            baseline['batches'][count]['image_median_ms'] / summary['image_median_ms'])
    return found


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
            cell(own['cold'] and own['cold']['image_median_ms'], '.1f'),
            cell(own['warm']['image_median_ms'], '.1f'),
            *(cell(own['batches'][n]['image_median_ms'], '.1f') for n in (least, most)),
            *(cell(ratio.get(n), '.2f') for n in ('cold', 'warm', f'batch_{most}')),
            cell(shares and shares['all'], '.0%')]
        lines.append(name.ljust(20) + ''.join(c.rjust(13) for c in cells))
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
