"""The parts of rclpy that the node touches, as types; rclpy brings none that mypy can use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from .message_types import LookupRequest


class Logger(Protocol):
    """The logger of a node."""

    def debug(self, message: str) -> object:
        """Log what helps to find a fault."""

    def info(self, message: str) -> object:
        """Log what goes as it should."""

    def warning(self, message: str, *, once: bool = False) -> object:
        """Log what a user should look at."""

    def error(self, message: str, *, throttle_duration_sec: float = 0.0) -> object:
        """Log what went wrong."""


class PublisherHandle(Protocol):
    """A publisher."""

    topic_name: str
    msg_type: type
    qos_profile: QoSProfile

    def publish(self, msg: object) -> None:
        """Send a message."""

    def get_subscription_count(self) -> int:
        """Return how many subscriptions the middleware has connected."""


class TimerHandle(Protocol):
    """A timer."""

    def cancel(self) -> None:
        """Let it rest."""

    def reset(self) -> None:
        """Let it start anew."""


class GuardHandle(Protocol):
    """A guard condition."""

    def trigger(self) -> None:
        """Wake the executor."""


class ServiceHandle(Protocol):
    """A service that a node offers."""

    srv_name: str
    callback: Callable[..., object]


class SubscriptionHandle(Protocol):
    """A subscription; rclpy sets it aside while this is true."""

    _executor_event: bool


class Endpoint(Protocol):
    """What the graph knows of a publisher or a subscription, rclpy's TopicEndpointInfo."""

    node_name: str
    node_namespace: str
    topic_type: str
    qos_profile: QoSProfile


class MatchedEvent(Protocol):
    """What a change of connections comes with."""

    current_count: int


class QosEvent(Protocol):
    """What a publisher or subscription that does not fit comes with."""

    last_policy_kind: int


class GoalId(Protocol):
    """unique_identifier_msgs/UUID."""

    uuid: Sequence[int]


class GoalHandle(Protocol):
    """A goal of ``~/confirm_pose``."""

    request: LookupRequest
    goal_id: GoalId
    is_cancel_requested: bool

    def execute(self) -> None:
        """Have the result made and sent."""

    def succeed(self) -> None:
        """Say that it was reached."""

    def abort(self) -> None:
        """Say that it was not reached."""

    def canceled(self) -> None:
        """Say that it was cancelled."""


class NodeHandle(Protocol):
    """What the parts of the node use of its rclpy.node.Node."""

    context: Context
    services: Iterable[ServiceHandle]
    subscriptions: Iterable[SubscriptionHandle]

    def get_logger(self) -> Logger:
        """Return its logger."""

    def get_clock(self) -> Clock:
        """Return its clock."""

    def get_fully_qualified_name(self) -> str:
        """Return its name with the namespace and a slash in front."""

    def create_publisher(self, msg_type: type, topic: str, qos_profile: QoSProfile | int, *,
                         event_callbacks: object = None) -> PublisherHandle:
        """Publish on a topic."""

    def create_subscription(self, msg_type: type, topic: str, callback: Callable[[Any], object],
                            qos_profile: QoSProfile | int, *, event_callbacks: object = None,
                            callback_group: CallbackGroup | None = None) -> SubscriptionHandle:
        """Subscribe to a topic."""

    def resolve_topic_name(self, topic: str) -> str:
        """Return the full name of a topic."""

    def destroy_node(self) -> None:
        """Leave the graph."""

    def create_timer(self, timer_period_sec: float, callback: Callable[[], object], *,
                     clock: Clock) -> TimerHandle:
        """Call something again and again."""

    def create_guard_condition(self, callback: Callable[[], object]) -> GuardHandle:
        """Call something when it is triggered from another thread."""

    def create_service(self, srv_type: type, srv_name: str, callback: Callable[..., object], *,
                       callback_group: CallbackGroup) -> ServiceHandle:
        """Offer a service."""

    def destroy_subscription(self, subscription: object) -> object:
        """Unsubscribe."""

    def get_publishers_info_by_topic(self, topic_name: str) -> Sequence[Endpoint]:
        """Return who publishes on a topic."""

    def get_subscriptions_info_by_topic(self, topic_name: str) -> Sequence[Endpoint]:
        """Return who subscribes to a topic."""

    def declare_parameter(self, name: str, value: object, descriptor: object) -> Parameter:
        """Declare a parameter."""

    def has_parameter(self, name: str) -> bool:
        """Tell whether a parameter is declared."""

    def get_parameter(self, name: str) -> Parameter:
        """Return a parameter."""

    def set_parameters(self, parameter_list: list[Parameter]) -> object:
        """Set parameters one by one."""


class LifecycleHandle(Protocol):
    """What starts a rclpy.lifecycle.LifecycleNode."""

    def trigger_configure(self) -> object:
        """Configure it."""

    def trigger_activate(self) -> object:
        """Activate it."""


class ExecutorHandle(Protocol):
    """What a node that ends uses of its executor."""

    def spin_once(self, timeout_sec: float) -> None:
        """Handle one thing, or wait for one."""
