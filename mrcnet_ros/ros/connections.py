"""Who is connected to a topic of the node, as /diagnostics tells it and others read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible

from .diagnostics import type_name
from .rclpy_types import Endpoint, PublisherHandle

NOBODY = 'nobody'
# ends of this topic are known, but the middleware has not connected all of them yet
WAITING = 'connecting: '


class Subscribed(Protocol):
    """What is known of a subscription."""

    @property
    def qos(self) -> QoSProfile:
        """Return its quality of service."""

    @property
    def message_type(self) -> type:
        """Return the type of its messages."""


def publishers_text(subscription: Subscribed, endpoints: Sequence[Endpoint], connected: int
                    ) -> str:
    """Return who publishes what a subscription receives, see :func:`connected_names`.

    :param endpoints: rclpy's TopicEndpointInfo of the topic's publishers.
    :param connected: how many of them the middleware has connected.
    """
    fitting = [e for e in endpoints if e.topic_type == type_name(subscription.message_type)
               and _fit(e.qos_profile, subscription.qos)]
    return _text(fitting, connected)


def subscribers_text(publisher: PublisherHandle, endpoints: Sequence[Endpoint]) -> str:
    """Return who receives what a publisher sends, see :func:`connected_names`.

    :param endpoints: rclpy's TopicEndpointInfo of the topic's subscriptions.
    """
    fitting = [e for e in endpoints if e.topic_type == type_name(publisher.msg_type)
               and _fit(publisher.qos_profile, e.qos_profile)]
    return _text(fitting, publisher.get_subscription_count())


def connected_names(text: str) -> Counter[str]:
    """Return how many ends the nodes, with their namespaces, have certainly connected.

    :param text: from :func:`publishers_text` or :func:`subscribers_text`.
    """
    if not text or text == NOBODY or text.startswith(WAITING):
        return Counter()
    return Counter(text.split(', '))


def full_name(namespace: str, name: str) -> str:
    return f'{namespace.rstrip("/")}/{name}'


def _fit(publisher_qos: QoSProfile, subscription_qos: QoSProfile) -> bool:
    """Tell whether reliability and durability fit.

    Times are left out: the graph gives them filled in, an end of our own has them unset.
    """
    ends = [QoSProfile(depth=1, reliability=qos.reliability, durability=qos.durability)
            for qos in (publisher_qos, subscription_qos)]
    return bool(qos_check_compatible(*ends)[0] != QoSCompatibility.ERROR)


def _text(endpoints: Sequence[Endpoint], connected: int) -> str:
    names = sorted(full_name(e.node_namespace, e.node_name) for e in endpoints)
    if not names:
        return NOBODY
    # The graph knows an end a moment before it is connected.
    return (WAITING if connected < len(endpoints) else '') + ', '.join(names)
