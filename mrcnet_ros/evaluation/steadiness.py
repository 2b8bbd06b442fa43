"""Judges samples of a long run: memory, handles, threads, silence and failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import SpecError
from ..geometry.se3 import Array
from .charts import Line, LineChart

Samples = Sequence[Mapping[str, float | None]]
LEAST_SAMPLES = 4  # a slope through fewer points is chance
DROPPED = 'dropped_'
# Points for the slope at most: its time and memory grow with their square.
_MOST_POINTS = 400


@dataclass(frozen=True)
class SteadinessLimits:
    """Limits after the warm-up.

    :param warm_up_s: samples of this time at the start are not judged.
    :param memory_mb_per_h: growth of the memory.
    :param memory_slack_mb: growth that is tolerated however short the time; allocators grow in
        steps.
    :param handles: growth of the number of open handles.
    :param threads: growth of the number of threads.
    :param silence_s: time without an answer.
    """

    warm_up_s: float = 60.0
    memory_mb_per_h: float = 20.0
    memory_slack_mb: float = 5.0
    handles: int = 2
    threads: int = 2
    silence_s: float = 5.0


@dataclass(frozen=True)
class Check:
    """One judged figure.

    :param limit: the largest that passes, in the same unit.
    """

    name: str
    unit: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the limit is kept."""
        return self.value <= self.limit

    def __str__(self) -> str:
        """Say what was found."""
        return (f'{"ok" if self.passed else "FAILED"}: {self.name} {self.value:.4g} {self.unit}, '
                f'at most {self.limit:.4g}')


def check_duration(duration_s: float, period_s: float, limits: SteadinessLimits) -> None:
    """Check that a run has enough samples to judge.

    :raises SpecError: when it has not.
    """
    least_s = limits.warm_up_s + (LEAST_SAMPLES + 1) * period_s
    if duration_s < least_s:
        raise SpecError(f'{duration_s:g} s is too short for a warm-up of {limits.warm_up_s:g} s '
                        f'and samples every {period_s:g} s; give at least {least_s:g} s, a '
                        'shorter warm-up or a shorter period')


def judge(samples: Samples, limits: SteadinessLimits) -> list[Check]:
    """Judge the samples that were taken after the warm-up.

    :param samples: in the order of ``time_s``, with ``rss_mb``, ``handles``, ``threads``,
        ``silence_s`` and ``dropped_failed``.
    :raises SpecError: when there are too few.
    """
    kept = _after_warm_up(samples, limits)
    if len(kept) < LEAST_SAMPLES:
        raise SpecError(f'{len(kept)} samples after a warm-up of {limits.warm_up_s:g} s; at least '
                        f'{LEAST_SAMPLES} are needed: give more time or a shorter warm-up')
    names = ('time_s', 'rss_mb', 'handles', 'threads', 'silence_s', 'dropped_failed')
    columns = {name: np.array([s[name] for s in kept], np.float64) for name in names}
    hours = float(np.ptp(columns['time_s'])) / 3600
    memory_limit = max(limits.memory_mb_per_h, limits.memory_slack_mb / hours)
    return [
        Check('memory growth', 'MiB/h', slope(columns['time_s'] / 3600, columns['rss_mb']),
              memory_limit),
        Check('handle growth', 'handles', _rise(columns['handles']), limits.handles),
        Check('thread growth', 'threads', _rise(columns['threads']), limits.threads),
        Check('longest silence', 's', float(columns['silence_s'].max()), limits.silence_s),
        Check('frames that raised', 'frames', float(columns['dropped_failed'][-1]), 0.0),
    ]


def steady_figures(samples: Samples, limits: SteadinessLimits) -> dict[str, Any]:
    """Return medians and extremes after the warm-up, and rates; {} without samples.

    :param samples: as for :func:`judge`, with ``age_p50_ms``, ``age_p99_ms``, ``cpu_percent`` and
        counters of drops by reason.
    """
    kept = _after_warm_up(samples, limits)
    if len(kept) < 2:
        return {}
    grown = {name: (kept[-1][name] or 0.0) - (kept[0][name] or 0.0) for name in kept[0]
             if name in ('time_s', 'sent', 'answered') or name.startswith(DROPPED)}
    seconds = grown.pop('time_s')
    return {
        'seconds': seconds,
        'per_second': {name.removeprefix(DROPPED): count / seconds
                       for name, count in grown.items() if count},
        **{name: _spread([s[name] for s in kept])
           for name in ('rss_mb', 'cpu_percent', 'age_p50_ms', 'age_p99_ms')},
    }


def _after_warm_up(samples: Samples, limits: SteadinessLimits) -> list[Mapping[str, float | None]]:
    return [s for s in samples if (s['time_s'] or 0.0) > limits.warm_up_s]


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {'first': known[0], 'last': known[-1], 'median': float(np.median(known)),
            'largest': max(known)}


def slope(x: Array, y: Array) -> float:
    """Return the median of the slopes between all pairs of points; outliers do not move it.

    :param x: (N,) ascending.
    :param y: (N,).
    """
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).astype(int))
    i, j = np.triu_indices(len(some), 1)
    x, y = x[some], y[some]
    return float(np.median((y[j] - y[i]) / (x[j] - x[i])))


def _rise(values: Array) -> float:
    """Return by how much the last quarter lies above the first, medians of both."""
    quarter = max(1, len(values) // 4)
    return float(np.median(values[-quarter:]) - np.median(values[:quarter]))


def soak_charts(samples: Samples) -> list[LineChart]:
    """Return charts of memory, handles, ages, and rates of answers and drops over minutes.

    :param samples: with the columns of :mod:`mrcnet_ros.testbench.soak`.
    """
    def chart(title: str, **names: str) -> LineChart:
        return LineChart(title, 'minutes', [
            Line(shown.replace('_', ' '), minutes, [s[name] for s in samples])
            for shown, name in names.items()])

    minutes = [(s['time_s'] or 0.0) / 60 for s in samples]
    reasons = [name for name in samples[-1] if name.startswith(DROPPED) and samples[-1][name]]
    rates = [Line(name.removeprefix(DROPPED), minutes[1:], _rates(samples, name))
             for name in ('sent', 'answered', *reasons)]
    return [
        chart('resident memory of the node [MiB]', resident='rss_mb'),
        chart('open handles and threads of the node', handles='handles', threads='threads'),
        chart('age of the poses [ms], when published (10 s window) and when received',
              published_p50='age_p50_ms', published_p99='age_p99_ms',
              received_p50='receipt_p50_ms', received_p99='receipt_p99_ms'),
        LineChart('frames sent, answered and dropped each second', 'minutes', rates),
    ]


def _rates(samples: Samples, name: str) -> list[float | None]:
    """Return the growth of a counter each second."""
    return [((b[name] or 0.0) - (a[name] or 0.0)) / ((b['time_s'] or 0.0) - (a['time_s'] or 0.0))
            for a, b in pairwise(samples)]
