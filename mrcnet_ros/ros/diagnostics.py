"""What statuses are made of, and /diagnostics made of statuses; no topics here."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from .message_types import TimeMessage
from .timings import WINDOW_S

# hardware_id while no model is loaded; diagnostic tools complain of an empty one
NO_HARDWARE = 'none'


class Level(IntEnum):
    """Severity of a status."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Problem:
    """Something that an operator should know."""

    level: Level
    text: str


@dataclass(frozen=True)
class Status:
    """One part of the node's state.

    :param summary: said when nothing is.
    """

    name: str
    problems: Sequence[Problem]
    summary: str
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def level(self) -> Level:
        """That of the worst problem."""
        return max((p.level for p in self.problems), default=Level.OK)

    @property
    def message(self) -> str:
        """All problems, the worst first."""
        worst_first = sorted(self.problems, key=lambda p: -p.level)
        return '; '.join(p.text for p in worst_first) or self.summary


class RecentCounts:
    """How much counters have grown in the last ``WINDOW_S`` seconds.

    :param now_s: seconds that only grow; all counters are zero then.
    """

    def __init__(self, now_s: float) -> None:
        self._past: deque[tuple[float, dict[str, int]]] = deque([(now_s, {})])

    def update(self, now_s: float, counts: Mapping[str, int]) -> tuple[float, dict[str, int]]:
        """Note the counters as they are.

        :param now_s: seconds that only grow.
        :return: over how many seconds, and by how much each has grown.
        """
        self._past.append((now_s, dict(counts)))
        while len(self._past) > 2 and self._past[1][0] <= now_s - WINDOW_S:
            self._past.popleft()
        start_s, start = self._past[0]
        return now_s - start_s, {
            name: count - start.get(name, 0) for name, count in counts.items()}


def diagnostic_array(stamp: TimeMessage, node_name: str, hardware_id: str,
                     statuses: Sequence[Status]) -> DiagnosticArray:
    """Return the message for /diagnostics.

    :param stamp: builtin_interfaces/Time.
    :param node_name: what the names of the statuses begin with.
    :param hardware_id: name of the model, '' when none is loaded.
    """
    message = DiagnosticArray()
    message.header.stamp = stamp
    message.status = [
        DiagnosticStatus(
            level=bytes([status.level]), name=f'{node_name}: {status.name}',
            message=status.message, hardware_id=hardware_id or NO_HARDWARE,
            values=[KeyValue(key=k, value=v) for k, v in status.values.items()])
        for status in statuses]
    return message


def type_name(message_type: type) -> str:
    """Return the name of a message type as the graph gives it, ``package/msg/Name``."""
    return f'{message_type.__module__.split(".")[0]}/msg/{message_type.__name__}'
