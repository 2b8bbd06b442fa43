"""Finds out when the node and its counterpart are connected in both directions.

A publisher knows which subscriptions it has found, but not which have found it, and the same holds
for a subscription. A message that is sent too early is lost. The node publishes on /diagnostics
what it has found, so the counterpart knows both directions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile

from ..errors import MrcnetError
from ..ros.connections import connected_names
from ..ros.message_types import DiagnosticsMessage
from ..ros.rclpy_types import MatchedEvent, NodeHandle, PublisherHandle, SubscriptionHandle

Spin = Callable[[Callable[[], bool], float], bool]


class PeerError(MrcnetError):
    """The node is not connected."""


class Readiness:
    """The topics of a peer, and whether node and peer are connected on each.

    :param node: of the peer, of rclpy.
    :param pose_node: the other side's name with its namespace, without a slash in front.
    """

    def __init__(self, node: NodeHandle, pose_node: str) -> None:
        self._node, self._pose_node = node, pose_node
        self._publishers: dict[str, PublisherHandle] = {}
        self._found: dict[str, int] = {}
        self._ends: Counter[str] = Counter()
        self._told: dict[str, dict[str, str]] = {}

    def publisher(self, kind: type, topic: str, qos: QoSProfile) -> PublisherHandle:
        """Create a publisher of an input of the node."""
        made = self._node.create_publisher(kind, topic, qos)
        self._publishers[made.topic_name] = made
        self._ends[made.topic_name] += 1
        return made

    def subscription(self, kind: type, topic: str, receive: Callable[[Any], object],
                     qos: QoSProfile) -> SubscriptionHandle:
        """Subscribe to an output of the node."""
        name = self._node.resolve_topic_name(topic)
        self._found[name] = 0
        self._ends[name] += 1

        def matched(info: MatchedEvent) -> None:
            self._found[name] = info.current_count

        return self._node.create_subscription(
            kind, topic, receive, qos, event_callbacks=SubscriptionEventCallbacks(matched=matched))

    def see(self, diagnostics: DiagnosticsMessage) -> None:
        """Read the connections in diagnostics of the node; the last ones of each part count."""
        for status in diagnostics.status:
            node, _, part = status.name.rpartition(': ')
            if part not in ('inputs', 'poses') or node != self._pose_node:
                continue
            told = self._told[part] = {}  # a node that stopped listening has no connections
            values = {v.key: v.value for v in status.values}
            for key, text in values.items():
                name, _, role = key.rpartition(' ')
                if role == 'publishers' and f'{name} topic' in values:
                    told[values[f'{name} topic']] = text
                elif role == 'subscribers':
                    told[name] = text

    def missing(self) -> list[str]:
        """Return the missing connections in words, empty when all is connected."""
        other, me = self._pose_node, self._node.get_fully_qualified_name()
        told = {topic: text for part in self._told.values() for topic, text in part.items()}
        unknown = {topic for topic, count in self._ends.items()
                   if connected_names(told.get(topic, ''))[me] < count}
        found = []
        for topic, publisher in self._publishers.items():
            if not publisher.get_subscription_count():
                found.append(f'{topic} has no subscriber, {other} is expected')
            elif topic in unknown:
                found.append(f'{other} has not found {topic} of {me}')
        for topic, count in self._found.items():
            if not count:
                found.append(f'{topic} has no publisher, {other} is expected')
            elif topic in unknown:
                found.append(f'{other} has not found that {me} receives {topic}')
        return found

    def wait(self, spin: Spin, timeout_s: float) -> None:
        """Wait until all are connected.

        :param spin: handles messages until a condition holds or a time [s] has passed, and returns
            whether it holds.
        :raises PeerError: naming what is missing, when that takes too long.
        """
        if not spin(lambda: not self.missing(), timeout_s):
            raise PeerError(f'not connected after {timeout_s:.0f} s: ' + '; '.join(self.missing()))
