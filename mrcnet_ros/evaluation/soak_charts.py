"""What a soak run looked like over time."""

from __future__ import annotations

from itertools import pairwise

from .charts import Line, LineChart
from .steadiness import DROPPED, Samples


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
