"""Watches the inputs and finds out why one is missing; used by the executor's thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sensor_msgs.msg import CameraInfo

from .connections import connected_names, publishers_text
from .diagnostics import Level, Problem
from .input_doubts import InputDoubts, camera_doubts, camera_remark
from .message_types import StampedMessage
from .messages import stamp_ns
from .rclpy_types import Endpoint
from .shared_memory import lost_images_hint
from .silent_input import Expected, why_silent
from .stamp_gaps import distances_ns, misfit_ns

# Of each input, to compare with those of the others; images of ten seconds at 100 Hz, because a
# slow detector answers old ones.
_STAMPS, _IMAGE_STAMPS = 100, 1000
# Who has to copy the stamp of the image into an input.
_STAMPERS = {'camera_info': 'what publishes camera_info', 'detections': 'the detector',
             'depth': 'the depth driver'}
# Images get lost if nearly all have a camera_info, and not nearly all of these an image.
_MOST, _ENOUGH_INFOS = 0.8, 20
# Of the images that all inputs come for, the part that is answered where nothing comes too late.
_ANSWERED = 0.5
# For so long after messages had to wait [s], later ones may still be old.
_HELD_S = 10.0
# Messages in a row with one stamp that show that it never changes: cameras may repeat one.
_SAME_STAMPS = 5


@dataclass
class _Input:
    """What is known of one topic.

    :param lag_s: by how much the last stamp was behind the node's clock on arrival.
    :param refused: QoS policy because of which a publisher was not connected.
    :param frame_id: of the last header.
    :param connected: publishers that the middleware has connected.
    :param info: of a camera_info, the message itself.
    """

    info: CameraInfo | None = None
    count: int = 0
    connected: int = 0
    last_s: float | None = None
    lag_s: float = 0.0
    refused: str = ''
    frame_id: str = ''
    stamps: deque[int] = field(default_factory=deque)


class InputWatch:
    """Counts messages and remembers when they came.

    :param now_ns: the node's clock, which stamps are compared with.
    :param clock: seconds that only grow.
    """

    def __init__(self, now_ns: Callable[[], int], clock: Callable[[], float] = time.monotonic
                 ) -> None:
        self._now_ns, self._clock = now_ns, clock
        self._since_s = clock()
        self._inputs: dict[str, _Input] = {}
        self._expected: dict[str, Expected] = {}
        self._doubts = InputDoubts(clock)
        self._held_s: float | None = None

    def expect(self, name: str, expected: Expected, *, remembered: int = 0) -> None:
        """Start to watch an input, called ``name`` by the node.

        :param remembered: number of stamps that :meth:`came_near` knows at least.
        """
        most = max(_IMAGE_STAMPS if name == 'image' else _STAMPS, remembered)
        self._inputs[name] = _Input(stamps=deque(maxlen=most))
        self._expected[name] = expected

    def saw(self, message: StampedMessage, name: str) -> None:
        """Note a message that arrived."""
        seen, stamp = self._inputs[name], stamp_ns(message.header)
        self._doubts.saw(message, name)
        seen.count += 1
        seen.last_s = self._clock()
        seen.lag_s = (self._now_ns() - stamp) * 1e-9
        seen.stamps.append(stamp)
        seen.frame_id = str(message.header.frame_id)
        if isinstance(message, CameraInfo):
            seen.info = message

    def holds(self) -> None:
        """Note that messages wait with the middleware until the node has answered others."""
        self._held_s = self._clock()

    @property
    def held(self) -> bool:
        """Whether messages have had to wait for the node recently, so that their age is its."""
        return self._held_s is not None and self._clock() - self._held_s < _HELD_S

    def refused(self, name: str, policy: str) -> None:
        """Note that a publisher was not connected because of a QoS policy."""
        self._inputs[name].refused = policy

    def connected(self, name: str, count: int) -> None:
        """Note how many publishers of an input the middleware has connected."""
        self._inputs[name].connected = count

    @property
    def camera_frame(self) -> str:
        """Return the frame that poses are in, '' where no message has named one."""
        image, info = (self._inputs.get(name, _Input()) for name in ('image', 'camera_info'))
        return image.frame_id or info.frame_id

    def publishers(self, endpoints: Callable[[str], Sequence[Endpoint]]) -> dict[str, str]:
        """Return who publishes each input.

        :param endpoints: returns rclpy's TopicEndpointInfo of a topic's publishers.
        """
        return {f'{name} publishers': publishers_text(
                    expected, endpoints(expected.topic), self._inputs[name].connected)
                for name, expected in self._expected.items()}

    def values(self) -> dict[str, str]:
        """Return what was seen of each input."""
        values = {}
        for name, seen in self._inputs.items():
            values[f'{name} topic'] = self._expected[name].topic
            values[f'{name} messages'] = str(seen.count)
            if seen.last_s is not None:
                values[f'{name} last [s ago]'] = f'{self._clock() - seen.last_s:.1f}'
                values[f'{name} stamp behind clock [s]'] = f'{seen.lag_s:.3f}'
            if seen.refused:
                values[f'{name} QoS refused'] = seen.refused
        return values

    def problems(self, timeout_s: float, stale_s: float,
                 publishers: Callable[[str], Sequence[Endpoint]]) -> list[Problem]:
        """Return what keeps frames from being complete, or makes their poses doubtful.

        :param timeout_s: an input without a message for so long is silent.
        :param stale_s: most that stamps may differ from the node's clock.
        :param publishers: returns rclpy's TopicEndpointInfo of a topic's publishers.
        """
        ends = {name: publishers(e.topic) for name, e in self._expected.items()}
        doubles = self._doubles(ends)
        found = doubles + self._mixed_cameras()
        now, has_time = self._clock(), self._now_ns() != 0
        if not has_time:
            found.append(Problem(Level.WARN, 'use_sim_time is set but no /clock has come; play '
                                             'the bag with --clock, or unset it'))
        for name, seen in self._inputs.items():
            silent_s = now - (self._since_s if seen.last_s is None else seen.last_s)
            expected = self._expected[name]
            if silent_s > timeout_s:
                cause = why_silent(
                    name, expected, ends[name], seen.refused, came=seen.last_s is not None,
                    others_came=any(i.last_s is not None for i in self._inputs.values()))
                when = 'never came' if seen.last_s is None else f'stopped {silent_s:.0f} s ago'
                level = Level.WARN if expected.optional else Level.ERROR
                found.append(Problem(level, f'{name} {when}: {cause}'))
            elif seen.last_s is None:
                found.append(Problem(Level.WARN, f'{name} has not come yet'))
            elif has_time and seen.stamps[-1] == 0:
                remedy = ('the driver must write the time of each image into its header'
                          if name == 'image' else 'copy the stamp of the image')
                found.append(Problem(Level.WARN, f'{name} has no stamp (it is 0 s); {remedy}'))
            elif has_time and not doubles and (text := self._stale(name, stale_s)):
                found.append(Problem(Level.WARN, text))
        return found

    def _doubles(self, ends: Mapping[str, Sequence[Endpoint]]) -> list[Problem]:
        """Return which inputs several publishers send, as a camera and a bag.

        Detections are left out: two of them for one image are counted as ``repeated``.

        :param ends: publishers of the topic of each input.
        """
        found = []
        for name in [n for n in self._inputs if n != 'detections']:
            expected = self._expected[name]
            names = sorted(connected_names(publishers_text(
                expected, ends[name], self._inputs[name].connected)).elements())
            if len(names) > 1:
                found.append(Problem(
                    Level.WARN, f'{" and ".join(names)} publish {expected.topic}, and the node '
                    'takes the messages of each; stop all but one, or give each another topic'))
        return found

    def _stale(self, name: str, stale_s: float) -> str:
        """Return why stamps of an input are far from the node's clock, '' when they are near.

        One that has the stamp of an image is as far from the clock as the image, and the rest is
        the time that it took to come.
        """
        seen, image = self._inputs[name], self._inputs.get('image', _Input())
        if name != 'image' and len(seen.stamps) >= _SAME_STAMPS and len(set(seen.stamps)) == 1:
            return (f'{name} has the same stamp in every message; let {_STAMPERS[name]} copy the '
                    'stamp of the image')
        if name != 'image' and seen.stamps[-1] in image.stamps:
            late_s = seen.lag_s - image.lag_s
            maker = 'detector' if name == 'detections' else 'driver'
            return '' if late_s <= stale_s else (
                f'messages of {name} come {late_s:.3g} s after their image; make the {maker} '
                'faster')
        if abs(seen.lag_s) <= stale_s:
            return ''
        if self.held and seen.lag_s > 0:
            return (f'{name} waits {seen.lag_s:.3g} s for the node, which is slower than the '
                    'images; slow their source down, or set policy to latest, which leaves '
                    'images out')
        side = 'behind' if seen.lag_s > 0 else 'ahead of'
        return (f"stamps of {name} are {abs(seen.lag_s):.3g} s {side} the node's clock; set "
                'use_sim_time if you play a bag or a simulation, otherwise synchronise the clocks')

    def _mixed_cameras(self) -> list[Problem]:
        frames = {name: seen.frame_id for name, seen in self._inputs.items() if seen.frame_id}
        if len({frame_id.lstrip('/') for frame_id in frames.values()}) < 2:
            return []
        told = ', '.join(f'{name} {frame_id!r}' for name, frame_id in frames.items())
        return [Problem(Level.WARN, f'frame_ids differ: {told}; are all of the same camera?')]

    def doubtful_inputs(self, slop_s: float) -> list[Problem]:
        """Return what makes inputs doubtful that can be paired.

        :param slop_s: by how much stamps may differ.
        """
        topics = {name: expected.topic for name, expected in self._expected.items()}
        return [Problem(Level.WARN, text) for text in self._doubts.texts(slop_s, topics)]

    def doubtful_camera(self, *, rectified: bool) -> list[Problem]:
        """Return what makes camera_info doubtful.

        :param rectified: the parameter ``image_rectified``.
        """
        info = self._inputs['camera_info'].info
        if info is None:
            return []
        topic = self._expected['image'].topic
        return [Problem(Level.WARN, doubt)
                for doubt in camera_doubts(info, topic, rectified=rectified)]

    def camera_remark(self, *, rectified: bool) -> str:
        """Return what to know of the frame that poses are in, '' for nothing.

        :param rectified: the parameter ``image_rectified``.
        """
        info = self._inputs['camera_info'].info
        return '' if info is None else camera_remark(info, rectified=rectified)

    def came_near(self, name: str, stamp: int, slop_s: float) -> bool:
        """Tell whether a recent message of an input has nearly the stamp [ns]."""
        stamps = self._inputs[name].stamps
        return bool(stamps) and bool(distances_ns([stamp], stamps)[0] <= slop_s * 1e9)

    def _met(self, name: str, slop_s: float) -> tuple[int, int]:
        """Return for how many recent images an input came, and how many these images are.

        Images from before its first message or after its last are not judged.
        """
        stamps = self._inputs[name].stamps
        low, high = min(stamps), max(stamps)
        due = [i for i in self._inputs['image'].stamps if low <= i <= high]
        return int((distances_ns(due, stamps) <= slop_s * 1e9).sum()), len(due)

    def _complete(self, names: Sequence[str], slop_s: float) -> float | None:
        """Return for which part of the recent images all of some inputs came.

        :return: None where one of them is so late that no image can be judged.
        """
        stamps = [self._inputs[name].stamps for name in names]
        low, high = max(map(min, stamps)), min(map(max, stamps))
        due = [i for i in self._inputs['image'].stamps if low <= i <= high]
        if not due:
            return None
        near = [distances_ns(due, own) <= slop_s * 1e9 for own in stamps]
        return float(np.all(near, axis=0).mean())

    def depth_came(self, slop_s: float) -> tuple[int, int]:
        """Return for how many recent images depth came, and how many these images are.

        Zeros when there is none, or when it has other stamps than images.

        :param slop_s: by how much stamps may differ.
        """
        image = self._inputs['image'].stamps
        depth = self._inputs['depth'].stamps if 'depth' in self._inputs else ()
        if not image or not depth or misfit_ns(image, depth, slop_s * 1e9):
            return 0, 0
        return self._met('depth', slop_s)

    def _lost_images(self, slop_s: float) -> str:
        """Return that images get lost on the way, '' where that cannot be told.

        Then nearly all images have a camera_info, but many of these have no image.
        """
        image, info = self._inputs['image'].stamps, self._inputs['camera_info'].stamps
        low, high = min(image), max(image)
        due = [stamp for stamp in info if low <= stamp <= high]
        if len(due) < _ENOUGH_INFOS:
            return ''
        met = int((distances_ns(due, image) <= slop_s * 1e9).sum())
        own, of_all = self._met('camera_info', slop_s)
        if own < _MOST * of_all or met >= _MOST * len(due):
            return ''
        hint = f': {lost_images_hint()}' if self._expected['image'].may_be_too_large else ''
        return (f'image came for {met} of {len(due)} camera_info only, so images are lost on the '
                f'way{hint}')

    def why_unpaired(self, slop_s: float, *, answered: float) -> Problem | None:
        """Return why recent images have no partners, None when that cannot be told.

        Nothing is wrong when an input comes for fewer images only, and these are answered.

        :param slop_s: by how much stamps may differ.
        :param answered: part of the recent images that became a frame.
        """
        image = self._inputs['image'].stamps
        if not image:
            return None
        gaps, fewer, stampers = [], [], []
        partners = [n for n, e in self._expected.items() if n != 'image' and not e.optional]
        for name in partners:
            stamps = self._inputs[name].stamps
            if not stamps:
                return None
            if gap_ns := misfit_ns(image, stamps, slop_s * 1e9):
                gaps.append(f'{name} {gap_ns * 1e-9:.6g} s away at best')
                stampers.append(_STAMPERS[name])
                continue
            met, due = self._met(name, slop_s)
            if met < due:
                fewer.append(f'{name} come for {met} of {due} images')
        if lost := self._lost_images(slop_s):
            return Problem(Level.WARN, lost)
        if gaps:
            return Problem(Level.WARN, f'stamps differ from those of image: {", ".join(gaps)}; '
                                       f'let {" and ".join(stampers)} copy the stamp of the '
                                       'image, or set sync_slop_s')
        complete = self._complete(partners, slop_s)
        if len(fewer) > 1 and complete == 0:
            return Problem(Level.WARN, f'{", ".join(fewer)}, and not for the same images')
        if fewer and complete is not None and answered > _ANSWERED * complete:
            return Problem(Level.OK, ', '.join(fewer))
        return Problem(Level.WARN, f'{" or ".join(partners)} arrive too late for the images; '
                                   'raise queue, so that images wait longer for them')
