"""Pair image, camera_info, detections and depth, and notice images that stay without partners."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import message_filters
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, qos_policy_name_from_kind
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from .depth_image import DepthBuffer
from .detection_reading import message_type
from .frames import Frame
from .gate import Gate
from .input_watch import InputWatch
from .message_types import DetectionsMessage, StampedMessage
from .messages import stamp_ns
from .params import NodeParameters
from .rclpy_types import MatchedEvent, NodeHandle, QosEvent
from .silent_input import Expected

# Time has jumped back (a bag starts again, a clock was set) if this many messages of a topic in a
# row are older than an earlier one by this much.
JUMP_MESSAGES, JUMP_NS = 2, 10**9
# Images that wait for detections with ``track``, at least: a second at 30 Hz.
TRACK_QUEUE = 30
# So much faster than the camera an input may be; its stamps are remembered as long as images wait.
FASTEST = 5
# Stamps of images and detections that are remembered, to recognise a bag that starts again.
# Those of detections are forgotten first, so that whatever is left of them has its image.
REMEMBERED_STAMPS, REMEMBERED_DETECTIONS = 1000, 900
_TWO_DETECTORS = 'and a frame takes only one; do two detectors publish on the topic?'


class InputSynchronizer:
    """The subscriptions of the node.

    Required depth is paired like the other inputs. Otherwise no frame waits for depth: each frame
    uses what has come when it is answered.

    Time comes from the stamps of the images, because a camera sends them in order. A new era
    begins (a bag starts again, a clock was set) if two images in a row are more than a second
    older than the newest or have stamps that came before, or if the clock of a simulation jumps
    back. In a new era, frames older than the last answered one are not late. One stray image does
    not begin an era. Detections never do, however late or out of order they are.

    With ``track`` each image becomes a frame without detections as soon as its camera_info is
    there. If detections come for one of the last images, it becomes a frame again.

    If the stamps of a topic jump back and stay there, waiting messages with later stamps are
    dropped: they would wait for ever, and new messages would be dropped as the oldest.

    Messages with an invalid stamp are dropped: the filters of some releases of ROS never release a
    lock after one.

    :param on_frame: receives each complete frame.
    :param drop: told reason and text of each bad message and each image that gave up waiting, and
        how many there are when it is not one.
    :param watch: notes every message that comes.
    :param on_peers: told that a publisher has come or gone.
    :param is_open: messages stay with the middleware while it is False.
    :param next_era: returns a number for the first era and for each that begins, higher than all
        before.
    """

    def __init__(self, node: NodeHandle, parameters: NodeParameters, qos: QoSProfile,
                 on_frame: Callable[[Frame], None], drop: Callable[..., None], watch: InputWatch,
                 on_peers: Callable[[], None] = lambda: None,
                 is_open: Callable[[], bool] = lambda: True,
                 next_era: Callable[[], int] | None = None) -> None:
        self._on_peers = on_peers
        self._next_era = next_era or itertools.count().__next__
        self._node, self._queue, self._slop_s = node, parameters.queue, parameters.sync_slop_s
        self._on_frame, self._drop, self._watch = on_frame, drop, watch
        self._follows = parameters.track and not parameters.detector
        if self._follows:
            self._queue = max(self._queue, TRACK_QUEUE)
        self._framed: deque[int] = deque(maxlen=REMEMBERED_STAMPS)
        image_type = Image if parameters.image_transport == 'raw' else CompressedImage
        self._types = {'image': image_type, 'camera_info': CameraInfo}
        if not parameters.detector:  # else the node finds the objects itself
            self._types['detections'] = message_type(parameters.detections_type)
        self._topics = dict(self._types)
        if parameters.depth != 'off':
            self._topics['depth'] = (
                Image if parameters.depth_transport == 'raw' else CompressedImage)
        if parameters.depth == 'required':
            self._types['depth'] = self._topics['depth']
        self._depths = DepthBuffer(self._queue, self._slop_s)
        self._held: dict[str, dict[int, StampedMessage]] = {name: {} for name in self._types}
        self._latest_ns: dict[str, int] = {}
        self._back = dict.fromkeys(self._types, 0)
        self._stamps: deque[tuple[str, int]] = deque(maxlen=REMEMBERED_STAMPS)
        self._era = self._next_era()
        self._gate = Gate(is_open)
        self._jumps = node.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-JUMP_NS)),
            post_callback=lambda _: self._begin_era())
        self._synchronize()
        self._subscribers: list[message_filters.Subscriber] = []
        try:
            # what completes a frame, and so may shut the gate, is taken last: rclpy takes messages
            # in the order of subscription, and those after it would never be taken
            for name in reversed(self._topics):
                self._subscribers.append(self._subscribe(name, qos))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._jumps.unregister()
        for subscriber in self._subscribers:
            self._node.destroy_subscription(subscriber.sub)

    def _subscribe(self, name: str, qos: QoSProfile) -> message_filters.Subscriber:
        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self._refused(name, event),
            matched=lambda event: self._matched(name, event))
        subscriber = message_filters.Subscriber(
            self._node, self._topics[name], name, qos_profile=qos, event_callbacks=events,
            callback_group=self._gate)
        self._watch.expect(name, Expected(subscriber.sub.topic_name, self._topics[name], qos,
                                          optional=name not in self._types),
                           remembered=FASTEST * self._queue)
        subscriber.registerCallback(self._received, name)
        return subscriber

    def _matched(self, name: str, event: MatchedEvent) -> None:
        self._watch.connected(name, int(event.current_count))
        self._on_peers()

    def _refused(self, name: str, event: QosEvent) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        self._watch.refused(name, policy)
        self._node.get_logger().warning(
            f'a publisher of {name} cannot be connected: its QoS differs in {policy}')

    def _synchronize(self) -> None:
        """Begin to pair with nothing waiting."""
        self._sources = {name: message_filters.SimpleFilter() for name in self._types}
        self._pair(self._types, self._paired)
        if self._follows:  # images without detections too; the callback with them comes first
            names = [name for name in self._types if name != 'detections']
            self._pair(names, partial(self._image_paired, names))

    def _pair(self, names: Iterable[str], paired: Callable[..., None]) -> None:
        sources = [self._sources[name] for name in names]
        synchronizer = (
            message_filters.TimeSynchronizer(sources, self._queue) if self._slop_s == 0.0 else
            message_filters.ApproximateTimeSynchronizer(sources, self._queue, self._slop_s))
        synchronizer.registerCallback(paired)

    def _image_paired(self, names: Sequence[str], *partners: StampedMessage) -> None:
        named = dict(zip(names, partners, strict=True))
        stamp = stamp_ns(named['image'].header)
        if stamp not in self._framed:
            self._framed.append(stamp)
            self._on_frame(self._frame(named))

    def _received(self, message: StampedMessage, name: str) -> None:
        self._watch.saw(message, name)
        time = message.header.stamp
        if time.sec < 0 or time.nanosec >= 10**9:
            self._drop('bad_message', f'{name} has the stamp {time.sec} s + {time.nanosec} ns; '
                                      'expected 0 s or more and less than 1e9 ns')
            return
        if name not in self._types:
            self._depths.add(message, min(self._held['image'], default=None))
            return
        stamp = stamp_ns(message.header)
        if name == 'image' and stamp == 0 == self._latest_ns.get(name):
            self._drop('bad_message', 'images have no stamp (it is 0 s in all of them), so that '
                                      'detections cannot be paired with them; the driver must '
                                      'write the time of each image into its header')
            return
        if name != 'image' and stamp == 0 < self._latest_ns.get('image', 0):
            self._drop('bad_message', f'{name} has no stamp (it is 0 s), so that no image can be '
                                      'paired with it; copy the stamp of the image')
            return
        if self._jumped_back(name, stamp):
            is_image = name == 'image'
            self._forget_after(stamp + JUMP_NS, list(self._types) if is_image else [name])
            if is_image:
                self._begin_era()
        if name == 'detections':
            self._note_repeated(stamp, len(cast(DetectionsMessage, message).detections))
        self._latest_ns[name] = max(self._latest_ns.get(name, stamp), stamp)
        held = self._held[name]
        if stamp in held and name == 'image':
            self._drop('unpaired', 'another image came with its stamp')
        held[stamp] = message
        while len(held) > self._queue:
            self._give_up(name, min(held))  # as the synchronizers do
        self._sources[name].signalMessage(message)

    def _note_repeated(self, stamp: int, count: int) -> None:
        """Count detections that came once more for a moment, unless an image did so, too.

        With ``sync_slop_s`` it is one within the slop that came most often.

        :param stamp: of their message [ns].
        """
        before = list(self._stamps)[-REMEMBERED_DETECTIONS:].count(('detections', stamp))
        self._stamps.append(('detections', stamp))
        near = Counter(image for name, image in self._stamps
                       if name == 'image' and abs(image - stamp) <= self._slop_s * 1e9)
        if before and before >= max(near.values(), default=0):
            self._drop('repeated', 'two messages of detections have the same stamp, '
                       f'{_TWO_DETECTORS}', count)

    def _jumped_back(self, name: str, stamp: int) -> bool:
        """Tell whether stamps of a topic have jumped back and stay there.

        :param stamp: of the message that has just come [ns].
        """
        latest, back = self._latest_ns.get(name, stamp), self._back[name]
        if stamp < latest:
            again = name == 'image' and (name, stamp) in self._stamps
            back = back + 1 if again or stamp < latest - JUMP_NS else 0
        elif stamp > latest:
            back = 0
        if name == 'image':
            self._stamps.append((name, stamp))
        self._back[name] = back
        return back >= JUMP_MESSAGES

    def _begin_era(self) -> None:
        self._era = self._next_era()
        self._framed.clear()

    def _forget_after(self, latest: int, names: Sequence[str]) -> None:
        """Pair anew what waits, without messages of some topics whose stamp is later [ns]."""
        for name in names:
            for stamp in [s for s in self._held[name] if s > latest]:
                self._give_up(name, stamp)
            self._latest_ns.pop(name, None)
            self._back[name] = 0
            if self._held[name]:
                self._latest_ns[name] = max(self._held[name])
        self._synchronize()
        for name, held in self._held.items():
            for message in list(held.values()):
                self._sources[name].signalMessage(message)

    def _give_up(self, name: str, stamp: int) -> None:
        message = self._held[name].pop(stamp)
        if name == 'detections' and self._slop_s > 0.0 and not self._follows and any(
                abs(stamp - framed) <= self._slop_s * 1e9 for framed in self._framed):
            # their image was answered with others that are near enough
            self._drop('repeated', 'two messages of detections are near one image (sync_slop_s), '
                       f'{_TWO_DETECTORS}', len(cast(DetectionsMessage, message).detections))
        if self._follows and name == 'detections':
            self._drop('unpaired', 'detections have a stamp that no image or camera_info has, or '
                       'they came too late; raise queue')
        if name != 'image' or stamp in self._framed:
            return
        needless = ('image', 'detections') if self._follows else ('image',)
        partners = [n for n in self._types if n not in needless]
        missing = [n for n in partners if not self._watch.came_near(n, stamp, self._slop_s)]
        if missing == ['depth']:
            told = ' and '.join([', '.join(['image', *partners[:-2]]), partners[-2]])
            self._drop('no_depth', f'no depth with the stamp of {told}; set sync_slop_s, or '
                                   'depth to auto')
        elif missing:
            self._drop('unpaired', f'no {" or ".join(missing)} with its stamp')
        else:
            self._drop('unpaired', f'{" and ".join(partners)} came too long before or after it, '
                                   'or went to another image; raise queue')

    def _paired(self, *partners: StampedMessage) -> None:
        named = dict(zip(self._types, partners, strict=True))
        for name, message in named.items():
            self._held[name].pop(stamp_ns(message.header), None)
        self._framed.append(stamp_ns(named['image'].header))
        self._on_frame(self._frame(named))

    def _frame(self, named: Mapping[str, Any]) -> Frame:
        image = named['image']
        lookup = (partial(named.get, 'depth') if 'depth' in named
                  else self._depths.lookup(stamp_ns(image.header)))
        return Frame(image, named['camera_info'], named.get('detections'), self._era, lookup)
