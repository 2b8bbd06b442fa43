"""Finds out why no message of an input comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from sensor_msgs.msg import Image

from .diagnostics import type_name
from .rclpy_types import Endpoint
from .shared_memory import lost_images_hint

# What else to do when an input comes as messages of another type.
_TYPE_HINTS = {'image': ', or set image_transport', 'detections': ', or set detections_type',
               'depth': ', or set depth_transport'}


@dataclass(frozen=True, eq=False)
class Expected:
    """What the node subscribed to.

    :param topic: full name, remapped.
    :param optional: frames are answered without it.
    """

    topic: str
    message_type: type
    qos: QoSProfile
    optional: bool = False

    @property
    def may_be_too_large(self) -> bool:
        """Whether the middleware may lose messages for their size: raw best-effort images."""
        return self.message_type is Image and (
            self.qos.reliability == ReliabilityPolicy.BEST_EFFORT)


def why_silent(
    name: str, expected: Expected, publishers: Sequence[Endpoint], refused: str = '', *,
    came: bool = False, others_came: bool = False,
) -> str:
    """Return why no message of an input comes, and what to do.

    :param publishers: rclpy's TopicEndpointInfo of the topic's publishers.
    :param refused: QoS policy because of which a publisher was refused.
    :param came: whether there were messages before.
    :param others_came: whether other inputs have come, so that only large images are lost.
    """
    topic, wanted = expected.topic, type_name(expected.message_type)
    if not publishers and came:
        return f'nobody publishes {topic} any more; start its publisher again'
    if not publishers:
        return f'nobody publishes {topic}; check its name and the remapping'
    fitting = [p for p in publishers if p.topic_type == wanted]
    if not fitting:
        hint = _TYPE_HINTS.get(name, '')
        kinds = ', '.join(sorted({p.topic_type for p in publishers}))
        return f'{topic} is {kinds}, expected {wanted}; remap another topic{hint}'
    checks = [qos_check_compatible(p.qos_profile, expected.qos) for p in fitting]
    if all(compatible == QoSCompatibility.ERROR for compatible, _ in checks):
        policy = refused or checks[0][1].strip()
        return (f'the publisher of {topic}, {fitting[0].node_name}, offers another QoS '
                f'({policy}); set input_reliability to best_effort, or make the publisher '
                'reliable')
    silence = (f'{fitting[0].node_name} has a publisher on {topic} but nothing arrives; see with '
               'ros2 topic hz whether it publishes')
    if not expected.may_be_too_large or came or not others_came:
        return silence
    return f'{silence}. If it does: {lost_images_hint()}'
