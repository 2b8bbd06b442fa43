"""One bar through all steps, with the time that is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tqdm import tqdm

TICK_S = 0.5  # often enough to look alive
# a step that takes longer than planned stays just below its end
ALMOST = 0.98


class Bar:
    """Shows how much of a plan is done; a line for each step, and a bar on a terminal.

    :param plan: seconds that each step takes, by name, in order; corrected as steps end.
    """

    def __init__(self, plan: Mapping[str, float]) -> None:
        """Begin."""
        self._plan, self._done = dict(plan), 0.0
        self._bar = tqdm(total=100, bar_format='{l_bar}{bar}| {postfix}', disable=None)

    def replan(self, step: str, seconds: float) -> None:
        """Change how long a step will take."""
        self._plan[step] = seconds

    def skip(self, step: str) -> None:
        """Leave out a step that is done already."""
        self._plan.pop(step, None)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show a step while it runs."""
        started, over = time.monotonic(), threading.Event()
        tqdm.write(f'{name} ({_clock(sum(self._plan.values()))} left)')
        ticker = threading.Thread(target=self._tick, args=(name, started, over), daemon=True)
        ticker.start()
        try:
            yield
        finally:
            over.set()
            ticker.join()
        self._done += time.monotonic() - started
        self._plan.pop(name, None)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()

    def _tick(self, name: str, started: float, over: threading.Event) -> None:
        while not over.wait(TICK_S):
            spent = time.monotonic() - started
            planned = self._plan.get(name, 0.0)
            here = min(spent, ALMOST * planned)
            rest = sum(self._plan.values()) - here
            self._bar.n = 100 * (self._done + spent) / max(self._done + spent + rest, 1e-9)
            self._bar.set_description_str(name)
            self._bar.set_postfix_str(f'{_clock(rest)} left')


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'
