"""What the processor is, and how many of them this process may use."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CGROUPS = Path('/sys/fs/cgroup')
MEMBERSHIP = Path('/proc/self/cgroup')
BF16_FLAGS = {'amx_bf16', 'avx512_bf16', 'bf16'}  # Intel, AMD; Arm


def usable_cpus() -> int:
    """Return the number of processors that affinity and control groups leave to this process.

    Affinity is what taskset, systemd's CPUAffinity and the cpuset of a container set; the quota of
    a control group is what ``docker run --cpus`` and Kubernetes set. A quota of one and a half
    processors counts as two.

    :return: 1 or more.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        count = os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, min(count, math.ceil(quota)) if quota else count)


def cpu_quota(membership: Path = MEMBERSHIP, root: Path = CGROUPS) -> float | None:
    """Return the processors' worth of time that control groups allow, None without a limit.

    :param membership: lists the groups of this process, as proc(5) describes.
    :param root: where the groups are mounted, of version 1, 2 or both.
    """
    try:
        lines = membership.read_text(encoding='utf-8').splitlines()
    except OSError:
        return None
    quotas = [quota for line in lines for quota in _quotas(line, root)]
    return min(quotas, default=None)


def _quotas(line: str, root: Path) -> Iterator[float]:
    """Return the limits of one group and of all groups around it."""
    number, _, rest = line.partition(':')
    controllers, _, path = rest.partition(':')
    if number == '0' and not controllers:
        for folder in _around(path, root, root / 'unified'):
            yield from _ratio(folder / 'cpu.max')
    elif 'cpu' in controllers.split(','):
        for folder in _around(path, root / 'cpu', root / controllers):
            yield from _ratio(folder / 'cpu.cfs_quota_us', folder / 'cpu.cfs_period_us')


def _around(path: str, *mounts: Path) -> Iterator[Path]:
    """Return a group and those around it; in a container only the outermost may be visible."""
    parts = [part for part in path.split('/') if part not in ('', '..')]
    for mount in mounts:
        for count in range(len(parts), -1, -1):
            yield mount.joinpath(*parts[:count])


def _ratio(*files: Path) -> Iterator[float]:
    """Return quota through period; nothing where there is no limit or no such file."""
    try:
        numbers = ' '.join(file.read_text(encoding='utf-8') for file in files).split()
        quota, period = (float(number) for number in numbers)
    except (OSError, ValueError):  # no such controller; 'max' is no number
        return
    if quota > 0 and period > 0:
        yield quota / period


@cache
def _fields() -> dict[str, str]:
    """Return what Linux says of the first processor, nothing elsewhere."""
    try:
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
    except OSError:
        return {}
    lines = (line.split(':', 1) for line in text.splitlines() if ':' in line)
    found: dict[str, str] = {}
    for key, value in lines:
        found.setdefault(key.strip(), value.strip())
    return found


def cpu_name() -> str:
    """Return the processor's name."""
    return _fields().get('model name') or platform.processor() or platform.machine()


def has_bf16() -> bool:
    """Tell whether the processor multiplies in bfloat16."""
    fields = _fields()
    return bool(BF16_FLAGS & set((fields.get('flags') or fields.get('Features') or '').split()))
