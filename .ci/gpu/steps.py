"""Runs commands one after the other, each within its time, whatever happens to the others.

Needs nothing but Python's own library.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MINUTES = '{minutes}'  # in a command: what is left for it
TAIL_LINES = 15
# A step that could not even start in this time is not begun [s].
LEAST_S = 5.0
# The log comes back as one file, of which 16 MiB may be too much.
LOG_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Step:
    """A command and what it may take.

    :param name: of the step.
    :param command: words; ``{minutes}`` is replaced by the minutes left for the step.
    :param limit_s: most seconds; less when less is left for all.
    :param figures: JSON file that the command writes, None for none.
    :param env: variables on top of those of this process.
    :param spare_s: of the limit, what ``{minutes}`` leaves for the command's end [s].
    :param leave_s: of the time for all, what is left for the steps behind it [s].
    """

    name: str
    command: Sequence[str]
    limit_s: float
    figures: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    spare_s: float = 0.0
    leave_s: float = 0.0


@dataclass
class Outcome:
    """What became of a step.

    :param status: ``passed``, ``failed``, ``out of time`` or ``not begun``.
    :param said: its last lines.
    :param figures: that it wrote.
    """

    name: str
    command: str
    status: str
    seconds: float = 0.0
    exit_code: int | None = None
    said: list[str] = field(default_factory=list)
    figures: Any = None


def run_steps(steps: Iterable[Step], output: Path, deadline: float,
              facts: Mapping[str, Any]) -> list[Outcome]:
    """Run all steps and keep ``results.json`` and ``log.txt`` up to date.

    :param steps: each is asked for when those before it have ended.
    :param output: folder of both files.
    :param deadline: of all on the monotonic clock [s].
    :param facts: for the results, beside the steps.
    """
    output.mkdir(parents=True, exist_ok=True)
    log = output / 'log.txt'
    log.write_text('')
    outcomes: list[Outcome] = []
    for step in steps:
        outcome = _run(step, log, deadline)
        outcomes.append(outcome)
        print(f'{outcome.status:12}{outcome.seconds:7.1f} s  {step.name}', flush=True)
        _write(output / 'results.json', {
            **facts, 'failed': [o.name for o in outcomes if o.status != 'passed'],
            'steps': [asdict(o) for o in outcomes]})
    return outcomes


def _run(step: Step, log: Path, deadline: float) -> Outcome:
    limit = min(step.limit_s, deadline - step.leave_s - time.monotonic())
    minutes = f'{max(limit - step.spare_s, 0.0) / 60:.3f}'
    command = [word.replace(MINUTES, minutes) for word in step.command]
    outcome = Outcome(step.name, ' '.join(command), 'not begun')
    if limit < LEAST_S + step.spare_s:
        return outcome
    if step.figures is not None:
        step.figures.unlink(missing_ok=True)
    started = time.monotonic()
    with log.open('ab') as file:
        file.write(f'\n===== {step.name}: {outcome.command}\n'.encode())
        file.flush()
        begin = file.tell()
        outcome.exit_code = _bounded(command, {**os.environ, **step.env}, file.fileno(), limit)
    outcome.seconds = round(time.monotonic() - started, 1)
    outcome.status = {0: 'passed', None: 'out of time'}.get(outcome.exit_code, 'failed')
    outcome.said = _tail(log, begin)
    outcome.figures = _read(step.figures)
    return outcome


def _bounded(command: Sequence[str], env: Mapping[str, str], output: int,
             limit_s: float) -> int | None:
    """Run a command with all that it starts; return its exit code, None when time was over."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=output, env=dict(env), start_new_session=True)
    except OSError as error:
        os.write(output, f'{error}\n'.encode())
        return 127
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it left running
        process.wait()


def _tail(log: Path, begin: int) -> list[str]:
    """Return the last lines since a place, and cut what is too much for one log."""
    with log.open('r+b') as file:
        file.seek(begin)
        data = file.read()
        if file.tell() > LOG_BYTES:
            file.truncate(begin)
            file.seek(begin)
            file.write(data[-20_000:])
    text = data[-20_000:].decode(errors='replace').replace('\r', '\n')
    return [line for line in text.splitlines() if line.strip()][-TAIL_LINES:]


def _read(path: Path | None) -> Any:
    try:
        return None if path is None else json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _write(path: Path, content: Any) -> None:
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(content, indent=1) + '\n')
    os.replace(partial, path)
