"""What a process takes of the machine, as the kernel says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import MrcnetError


@dataclass(frozen=True)
class Usage:
    """At one moment.

    :param rss_mb: resident memory, shared pages included [MiB].
    :param handles: open files, sockets and the like.
    :param threads: of the process.
    :param cpu_s: processor time so far [s].
    """

    rss_mb: float
    handles: int
    threads: int
    cpu_s: float


def process_usage(pid: int) -> Usage:
    """Return what a process of this user takes now; Linux only.

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
