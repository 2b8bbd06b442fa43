"""The node as a child process with its own ROS domain, and its use of CPU and memory."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MrcnetError
from ..ros.shared_memory import PROFILE_VARIABLES
from ..store.shared_files import shared_file

STOP_TIMEOUT_S = 60.0  # enough on a busy machine
LOG_TAIL_LINES = 25  # in an error: a traceback fits


class ProcessError(MrcnetError):
    """A child process ended too early or in the wrong way."""


def prepare_environment() -> None:
    """Give this process and its children a ROS domain of their own on this machine.

    Variables that are set already stay as they are.
    """
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 100)))
    if not any(map(os.environ.get, PROFILE_VARIABLES)):
        name = PROFILE_VARIABLES[os.environ.get('ROS_DISTRO') != 'jazzy']
        os.environ[name] = str(shared_file('config/fastdds.xml'))


class LoggedProcess(AbstractContextManager['LoggedProcess']):
    """A child process whose output goes into a file.

    As a context it also ends when this process is asked to by SIGTERM.

    :param command: arguments; a Python module is run as ``['-m', name, ...]``.
    :param log: file for stdout and stderr.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name, self.log = name, log
        self._before: Any = None  # what SIGTERM did
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open('wb') as output:
            self._process = subprocess.Popen(
                [sys.executable, *command], stdout=output, stderr=subprocess.STDOUT)

    def __enter__(self) -> LoggedProcess:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, _leave)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    @property
    def pid(self) -> int:
        return self._process.pid

    def check_runs(self) -> None:
        """Make sure that it has not ended.

        :raises ProcessError: with the end of its output, when it has.
        """
        if self._process.poll() is not None:
            raise ProcessError(self._ending())

    def stop(self) -> int:
        """Ask it to end, kill it if it does not.

        :return: its exit status, negative for a signal.
        """
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def bad_end(self) -> str:
        """Stop it and return what was wrong with its end or in its output, '' for nothing."""
        code = self.stop()
        if code not in (0, -signal.SIGTERM):
            return f'the {self.name} ended with status {code}'
        if 'Traceback' in self.log.read_text(encoding='utf-8', errors='replace'):
            return f'a traceback is in {self.log}'
        return ''

    def _ending(self) -> str:
        tail = self.log.read_text(encoding='utf-8', errors='replace').splitlines()
        shown = '\n  '.join(tail[-LOG_TAIL_LINES:])
        return (f'the {self.name} process ended with status {self._process.returncode}; '
                f'its output, {self.log}, ends with\n  {shown}')


def _leave(number: int, _: object) -> None:
    """Leave all contexts; by default SIGTERM ends this process at once and no child of it."""
    raise SystemExit(128 + number)


@dataclass(frozen=True)
class Usage:
    """The resources of a process at one moment.

    :param rss_mb: resident memory, shared pages included [MiB].
    :param handles: open files, sockets and the like.
    :param cpu_s: processor time so far [s].
    """

    rss_mb: float
    handles: int
    threads: int
    cpu_s: float


def process_usage(pid: int) -> Usage:
    """Return the memory, handles, threads and processor time of a process; Linux only.

    :raises MrcnetError: when there is no such process or no /proc.
    """
    folder = Path('/proc') / str(pid)
    try:
        status = dict(line.split(':', 1) for line in (folder / 'status').read_text().splitlines())
        # the name in parentheses may hold anything; utime and stime are fields 14 and 15
        fields = (folder / 'stat').read_text().rpartition(')')[2].split()
        ticks = int(fields[11]) + int(fields[12])
        handles = len(os.listdir(folder / 'fd'))
        return Usage(int(status['VmRSS'].split()[0]) / 1024, handles, int(status['Threads']),
                     ticks / os.sysconf('SC_CLK_TCK'))
    except (OSError, KeyError) as error:
        raise MrcnetError(f'process {pid}: its memory and handles cannot be read from {folder} '
                          f'({error}); has it ended?') from error
