"""Samples the node under continuous traffic: memory, handles, latency, drops."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..ros.drop_counters import DETECTION_REASONS, FRAME_REASONS
from ..ros.timings import PERCENTILES
from ..store.atomic import writing
from .bag import BagFrame
from .processes import Usage, process_usage
from .traffic import Traffic

REASONS = FRAME_REASONS + DETECTION_REASONS
DROPPED = tuple(f'dropped_{reason}' for reason in REASONS)
AGES = tuple(f'age_p{percent}_ms' for percent in PERCENTILES)
COLUMNS = ('time_s', 'rss_mb', 'handles', 'threads', 'cpu_percent', 'sent', 'answered', 'poses',
           *AGES, 'receipt_p50_ms', 'receipt_p99_ms', 'silence_s', *DROPPED)

# a value for each of COLUMNS; None where nothing could be measured
Sample = dict[str, float | None]


@dataclass(frozen=True)
class SoakPlan:
    """Duration and rates of a run.

    :param rate_hz: of the frames.
    :param period_s: between samples.
    """

    duration_s: float
    rate_hz: float
    period_s: float


class Soak:
    """Sends frames to the node and takes samples."""

    def __init__(self, traffic: Traffic, pid: int) -> None:
        self._traffic, self._pid = traffic, pid
        self._start_s = self._last_s = time.perf_counter()
        self._usage = process_usage(pid)

    def run(self, frames: Sequence[BagFrame], plan: SoakPlan, on_sample: Callable[[Sample], object]
            ) -> None:
        """Send frames in turn until the time is over.

        :param on_sample: called with each sample.
        :raises MrcnetError: when the node ends.
        """
        def look() -> None:
            if time.perf_counter() - self._last_s >= plan.period_s:
                on_sample(self._sample())

        self._start_s = self._last_s = time.perf_counter()
        self._usage = process_usage(self._pid)
        self._traffic.run(frames, plan.rate_hz, plan.duration_s, look)

    def _sample(self) -> Sample:
        """Take a sample.

        Counters count from the start. Ages at publish are those of the node's own window.
        Everything else is since the last sample.
        """
        now, usage, traffic = time.perf_counter(), process_usage(self._pid), self._traffic
        status, dropped = traffic.pose_status, traffic.dropped()
        received = traffic.take_ages_s()
        p50, p99 = (float(1e3 * np.percentile(received, p)) if received else None
                    for p in (50, 99))
        values = (
            now - self._start_s, usage.rss_mb, usage.handles, usage.threads,
            self._cpu_percent(usage, now), traffic.sent, traffic.answered, traffic.poses,
            *(float(status[name]) if name in status else None
              for name in (f'age p{percent} [ms]' for percent in PERCENTILES)),
            p50, p99, traffic.take_silence_s(), *(dropped.get(reason, 0) for reason in REASONS))
        self._last_s, self._usage = now, usage
        return dict(zip(COLUMNS, values, strict=True))

    def _cpu_percent(self, usage: Usage, now: float) -> float:
        return 100 * (usage.cpu_s - self._usage.cpu_s) / (now - self._last_s)


class SampleFile(AbstractContextManager['SampleFile']):
    """A CSV file that holds every sample as soon as it is taken.

    :raises DatasetError: when it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        with writing(path):
            self._file = path.open('w', newline='', encoding='utf-8')
        self._writer = csv.DictWriter(self._file, COLUMNS)
        self._writer.writeheader()
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, sample: Sample) -> None:
        self._writer.writerow({name: '' if value is None else f'{value:.6g}'
                               for name, value in sample.items()})
        self._file.flush()
