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


class PairedInputs:
    """The three subscriptions of the node.

    :param on_frame: receives each complete frame.
    :param on_unpaired: told of each image that gave up waiting.
    :param watch: notes every message that comes.
    """

    def __init__(
        self, node: Any, parameters: NodeParameters, qos: QoSProfile,
        on_frame: Callable[[Frame], None], on_unpaired: Callable[[], None],
        watch: InputWatch,
    ) -> None:
        """Subscribe."""
        self._node, self._queue = node, parameters.queue
        self._on_frame, self._on_unpaired = on_frame, on_unpaired
        self._waiting: dict[int, None] = {}
        image_type = Image if parameters.image_transport == 'raw' else CompressedImage
        self._subscribers = [
            self._subscribe(kind, topic, qos, watch)
            for kind, topic in ((image_type, 'image'), (CameraInfo, 'camera_info'),
                                (Detection2DArray, 'detections'))]
        self._subscribers[0].registerCallback(self._image_came)
        if parameters.sync_slop_s == 0.0:
            self._synchronizer = message_filters.TimeSynchronizer(
                self._subscribers, parameters.queue)
        else:
            self._synchronizer = message_filters.ApproximateTimeSynchronizer(
                self._subscribers, parameters.queue, parameters.sync_slop_s)
        self._synchronizer.registerCallback(self._paired)

    def close(self) -> None:
        """Unsubscribe."""
        for subscriber in self._subscribers:
            self._node.destroy_subscription(subscriber.sub)

    def _subscribe(self, kind: type, topic: str, qos: QoSProfile, watch: InputWatch) -> Any:
        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self._refused(topic, event, watch))
        subscriber = message_filters.Subscriber(
            self._node, kind, topic, qos_profile=qos, event_callbacks=events)
        watch.expect(topic, Expected(subscriber.sub.topic_name, kind, qos))
        subscriber.registerCallback(watch.saw, topic)
        return subscriber

    def _refused(self, topic: str, event: Any, watch: InputWatch) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        watch.refused(topic, policy)
        self._node.get_logger().warning(
            f'a publisher of {topic} cannot be connected: its QoS differs in {policy}')

    def _image_came(self, image: Any) -> None:
        self._waiting[stamp_ns(image.header)] = None
        while len(self._waiting) > self._queue:
            del self._waiting[next(iter(self._waiting))]
            self._on_unpaired()

    def _paired(self, image: Any, camera_info: Any, detections: Any) -> None:
        self._waiting.pop(stamp_ns(image.header), None)
        self._on_frame(Frame(image, camera_info, detections))
