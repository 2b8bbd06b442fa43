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

    def debug(self, message: str) -> object: ...
    def info(self, message: str) -> object: ...
    def warning(self, message: str, *, once: bool = False,
                throttle_duration_sec: float = 0.0) -> object: ...
    def error(self, message: str, *, throttle_duration_sec: float = 0.0) -> object: ...


class PublisherHandle(Protocol):
    """A publisher."""

    topic_name: str
    msg_type: type
    qos_profile: QoSProfile

    def publish(self, msg: object) -> None: ...
    def get_subscription_count(self) -> int:
        """Return how many subscriptions the middleware has connected."""


class TimerHandle(Protocol):
    """A timer."""

    def cancel(self) -> None: ...
    def reset(self) -> None: ...


class GuardHandle(Protocol):
    """A guard condition."""

    def trigger(self) -> None: ...


class TakenHandle(Protocol):
    """What an executor takes from; it leaves this aside while ``_executor_event`` is true."""

    _executor_event: bool
    callback_group: CallbackGroup


class SubscriptionHandle(TakenHandle, Protocol):
    """A subscription."""


class ServiceHandle(TakenHandle, Protocol):
    """A service that a node offers."""

    srv_name: str
    callback: Callable[..., object]


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

    def execute(self) -> None: ...
    def succeed(self) -> None: ...
    def abort(self) -> None: ...
    def canceled(self) -> None: ...


class NodeHandle(Protocol):
    """What the parts of the node use of its rclpy.node.Node."""

    context: Context
    services: Iterable[ServiceHandle]
    subscriptions: Iterable[SubscriptionHandle]

    def get_logger(self) -> Logger: ...
    def get_clock(self) -> Clock: ...
    def get_fully_qualified_name(self) -> str:
        """Return its name with the namespace and a slash in front."""

    def create_publisher(self, msg_type: type, topic: str, qos_profile: QoSProfile | int, *,
                         event_callbacks: object = None) -> PublisherHandle: ...
    def create_subscription(self, msg_type: type, topic: str, callback: Callable[[Any], object],
                            qos_profile: QoSProfile | int, *, event_callbacks: object = None,
                            callback_group: CallbackGroup | None = None) -> SubscriptionHandle: ...
    def resolve_topic_name(self, topic: str) -> str: ...
    def destroy_node(self) -> None: ...
    def create_timer(self, timer_period_sec: float, callback: Callable[[], object], *,
                     clock: Clock) -> TimerHandle: ...
    def create_guard_condition(self, callback: Callable[[], object]) -> GuardHandle:
        """Call something when it is triggered from another thread."""

    def create_service(self, srv_type: type, srv_name: str, callback: Callable[..., object], *,
                       callback_group: CallbackGroup) -> ServiceHandle: ...
    def destroy_publisher(self, publisher: PublisherHandle) -> object: ...
    def destroy_subscription(self, subscription: object) -> object: ...
    def get_publishers_info_by_topic(self, topic_name: str) -> Sequence[Endpoint]: ...
    def get_subscriptions_info_by_topic(self, topic_name: str) -> Sequence[Endpoint]: ...
    def declare_parameter(self, name: str, value: object, descriptor: object) -> Parameter: ...
    def has_parameter(self, name: str) -> bool: ...
    def get_parameter(self, name: str) -> Parameter: ...
    def set_parameters(self, parameter_list: list[Parameter]) -> object: ...


class LifecycleHandle(Protocol):
    """What starts a rclpy.lifecycle.LifecycleNode."""

    def trigger_configure(self) -> object: ...
    def trigger_activate(self) -> object: ...


class ExecutorHandle(Protocol):
    """What a node that ends uses of its executor."""

    def spin_once(self, timeout_sec: float) -> None: ...
