"""The real node in its own process and domain, over real DDS."""

from __future__ import annotations

import fcntl
import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# what processes that a test starts import beside the package
SUPPORT = str(Path(__file__).resolve().parent)
STAND_IN = str(Path(__file__).with_name('stand_in_node.py'))
LARGE_CAMERA = str(Path(__file__).with_name('large_camera.py'))
# domains of a block, and blocks; ports of domains above 101 may be in use by anybody
_DOMAINS, _BLOCKS = 20, 5
_LOCKS: list[int] = []  # files whose locks the nodes hold as well
# For machines that have other things to do: all time limits of the tests are so much longer.
PATIENCE = float(os.environ.get('MRCNET_TEST_PATIENCE', '1'))
# How long to wait for what must come [s]. No test that passes waits so long, however busy the
# machine is: a process of Python with ROS may take half a minute to start there.
WAIT_S = 120.0 * PATIENCE


def own_domain(number: int = 0) -> int:
    """Return a ROS domain, 1..100, that no other test run on this machine uses at the time."""
    return 1 + _DOMAINS * _block() + number % _DOMAINS


@functools.cache
def _block() -> int:
    """Return the first block of domains that no process holds.

    This one holds it until it ends, and so do its nodes: those of a test run that was killed go
    on, and another run must not meet them.

    Of more test runs than there are blocks, the last ones share one.
    """
    for block in range(_BLOCKS):
        path = Path(tempfile.gettempdir(), f'mrcnet_test_domains_{block}')
        try:
            file = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError:  # it belongs to another user
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
        else:
            _LOCKS.append(file)
            return block
    return os.getpid() % _BLOCKS


def environment(domain: int) -> dict[str, str]:
    """Return the environment of a process that only talks to this machine's ``domain``."""
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    return {**os.environ, 'PYTHONPATH': path, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_DOMAIN_ID': str(domain), 'ROS_PYTHON_CHECK_FIELDS': '1',
            'RCUTILS_COLORIZED_OUTPUT': '0', 'OMP_NUM_THREADS': '1'}


class NodeProcess:
    """A node in its own process whose log can be read while it runs."""

    def __init__(
        self, command: list[str], domain: int, variables: Mapping[str, str] | None = None,
    ):
        self.domain = domain
        self.process = subprocess.Popen(
            [sys.executable, *command], env={**environment(domain), **(variables or {})},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            pass_fds=_LOCKS)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        self.lines.extend(iter(self.process.stdout.readline, ''))

    def wait_for_log(self, text: str, timeout_s: float = WAIT_S) -> str:
        """Return the first log line with ``text``."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            ended = self.process.poll() is not None and not self._reader.is_alive()
            for line in list(self.lines):
                if text in line:
                    return line
            if ended:
                break
            time.sleep(0.02)
        raise AssertionError(f'no {text!r} in the log:\n{"".join(self.lines)}')

    def stop(self, number: int = signal.SIGINT, times: int = 1) -> int:
        """Send a signal and return the exit code."""
        for _ in range(times):
            if self.process.poll() is None:
                self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code, when the process has ended and all it said is in the log."""
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        return code

    def log(self) -> str:
        """Return all that was logged so far."""
        return ''.join(self.lines)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def double_node(
    domain: int, *parameters: str, slow: bool = False, remaps: Sequence[str] = (),
) -> NodeProcess:
    """Start the node with ``BoxEstimator``; parameters and remaps as ``name:=value``."""
    arguments = [word for parameter in parameters for word in ('-p', parameter)]
    arguments += [word for remap in remaps for word in ('-r', remap)]
    own = ['slow'] if slow else []
    return NodeProcess([STAND_IN, *own, '--ros-args', *arguments], domain)
