"""Pair image, camera_info and detections, and notice images that stay without partners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import message_filters
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, qos_policy_name_from_kind
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from .frame_handler import Frame
from .input_watch import Expected, InputWatch
from .messages import stamp_ns
from .params import NodeParameters

# So many messages of one topic in a row that are so much older than one before: a bag that starts
# again, a clock that was set.
JUMP_MESSAGES, JUMP_NS = 2, 10**9


class PairedInputs:
    """The three subscriptions of the node.

    When stamps of a topic jump back and stay there, messages with later ones are forgotten: they
    would wait for ever, and new ones would be given up as the oldest. A single stray stamp does
    no harm.

    Messages whose stamp is no time are dropped: the filters of some releases of ROS never let go
    of a lock when they meet one.

    :param on_frame: receives each complete frame.
    :param drop: told reason and text of each bad message and each image that gave up waiting.
    :param watch: notes every message that comes.
    :param on_peers: told that a publisher has come or gone.
    """

    def __init__(
        self, node: Any, parameters: NodeParameters, qos: QoSProfile,
        on_frame: Callable[[Frame], None], drop: Callable[[str, str], None], watch: InputWatch,
        on_peers: Callable[[], None] = lambda: None,
    ) -> None:
        """Subscribe."""
        self._on_peers = on_peers
        self._node, self._queue, self._slop_s = node, parameters.queue, parameters.sync_slop_s
        self._on_frame, self._drop, self._watch = on_frame, drop, watch
        image_type = Image if parameters.image_transport == 'raw' else CompressedImage
        self._types = {'image': image_type, 'camera_info': CameraInfo,
                       'detections': Detection2DArray}
        self._held: dict[str, dict[int, Any]] = {name: {} for name in self._types}
        self._latest_ns: dict[str, int] = {}
        self._back = dict.fromkeys(self._types, 0)
        self._synchronize()
        self._subscribers: list[Any] = []
        try:
            for name in self._types:
                self._subscribers.append(self._subscribe(name, qos))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unsubscribe."""
        for subscriber in self._subscribers:
            self._node.destroy_subscription(subscriber.sub)

    def _subscribe(self, name: str, qos: QoSProfile) -> Any:
        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self._refused(name, event),
            matched=lambda event: self._matched(name, event))
        subscriber = message_filters.Subscriber(
            self._node, self._types[name], name, qos_profile=qos, event_callbacks=events)
        self._watch.expect(name, Expected(subscriber.sub.topic_name, self._types[name], qos))
        subscriber.registerCallback(self._received, name)
        return subscriber

    def _matched(self, name: str, event: Any) -> None:
        self._watch.connected(name, int(event.current_count))
        self._on_peers()

    def _refused(self, name: str, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        self._watch.refused(name, policy)
        self._node.get_logger().warning(
            f'a publisher of {name} cannot be connected: its QoS differs in {policy}')

    def _synchronize(self) -> None:
        """Begin to pair with nothing waiting."""
        self._sources = {name: message_filters.SimpleFilter() for name in self._types}
        sources = list(self._sources.values())
        if self._slop_s == 0.0:
            synchronizer = message_filters.TimeSynchronizer(sources, self._queue)
        else:
            synchronizer = message_filters.ApproximateTimeSynchronizer(
                sources, self._queue, self._slop_s)
        synchronizer.registerCallback(self._paired)

    def _received(self, message: Any, name: str) -> None:
        self._watch.saw(message, name)
        time = message.header.stamp
        if time.sec < 0 or time.nanosec >= 10**9:
            self._drop('bad_message', f'{name} has the stamp {time.sec} s + {time.nanosec} ns; '
                                      'expected 0 s or more and less than 1e9 ns')
            return
        stamp = stamp_ns(message.header)
        latest = self._latest_ns.get(name, stamp)
        self._back[name] = self._back[name] + 1 if stamp < latest - JUMP_NS else 0
        if self._back[name] >= JUMP_MESSAGES:
            self._forget_after(stamp + JUMP_NS)
        self._latest_ns[name] = max(self._latest_ns.get(name, stamp), stamp)
        held = self._held[name]
        if stamp in held and name == 'image':
            self._drop('unpaired', 'another image came with its stamp')
        held[stamp] = message
        while len(held) > self._queue:
            self._give_up(name, min(held))  # as the synchronizers do
        self._sources[name].signalMessage(message)

    def _forget_after(self, latest: int) -> None:
        """Pair anew what waits, without messages whose stamp is later [ns]."""
        for name, held in self._held.items():
            for stamp in [s for s in held if s > latest]:
                self._give_up(name, stamp)
        self._latest_ns = {name: max(held) for name, held in self._held.items() if held}
        self._back = dict.fromkeys(self._types, 0)
        self._synchronize()
        for name, held in self._held.items():
            for message in list(held.values()):
                self._sources[name].signalMessage(message)

    def _give_up(self, name: str, stamp: int) -> None:
        del self._held[name][stamp]
        if name == 'image':
            self._drop('unpaired', 'no camera_info or detections with its stamp')

    def _paired(self, image: Any, camera_info: Any, detections: Any) -> None:
        for name, message in (('image', image), ('camera_info', camera_info),
                              ('detections', detections)):
            self._held[name].pop(stamp_ns(message.header), None)
        self._on_frame(Frame(image, camera_info, detections))
