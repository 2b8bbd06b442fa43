"""Publish the frames of a bag to a node and collect its answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ..geometry.se3 import Array
from ..ros import messages
from ..ros.message_types import DetectionsMessage
from .bag import BagFrame
from .peer import Peer


@dataclass(frozen=True, eq=False)
class PublishedPose:
    """A pose that the node published.

    :param T_camera_object: (4, 4) float64 [m].
    :param covariance: (6, 6) float64, as of an estimate; None where the node gives none.
    """

    label: str
    score: float
    T_camera_object: Array
    covariance: Array | None = None


@dataclass(frozen=True, eq=False)
class ReceivedPoses:
    """What the node published for one frame.

    :param age_s: from publishing the frame to receiving its poses.
    :param received_s: when they were received, by ``time.perf_counter()``.
    """

    poses: list[PublishedPose]
    age_s: float
    received_s: float


class Replayer(Peer):
    """Sends frames of a bag.

    :param alive: called while waiting; raises when the node has ended.
    :param depth: whether the node listens to depth images.
    """

    def __init__(self, alive: Callable[[], None], *, depth: bool = False,
                 namespace: str = '') -> None:
        super().__init__('replay', alive, depth=depth, namespace=namespace)
        self._sent: dict[int, float] = {}
        self._answers: dict[int, ReceivedPoses] = {}

    def lossless(self, frames: Sequence[BagFrame], timeout_s: float,
                 after_frame: Callable[[], object] = lambda: None, *, live: bool = False
                 ) -> list[ReceivedPoses | None]:
        """Send frame after frame, each once the one before is answered or dropped.

        :param timeout_s: for each frame; once one is neither answered nor dropped in that time,
            no other is sent.
        :param live: stamp each with the time it is sent, as a camera does.
        :return: for each frame its answer, None when it was dropped or there was none in time.
        """
        answers: list[ReceivedPoses | None] = []
        for frame in frames:
            dropped, stamp = self.dropped_frames(), self.now_ns() if live else frame.stamp_ns
            self._send(frame, stamp)
            settled = self.spin(partial(self._is_settled, stamp, dropped), timeout_s)
            answers.append(self._answers.pop(stamp, None))
            after_frame()
            if not settled:
                break
        return answers + [None] * (len(frames) - len(answers))

    def _is_settled(self, stamp: int, dropped: int) -> bool:
        """Tell whether a frame is answered, or the node has dropped another frame.

        :param dropped: how many it had dropped when the frame was sent.
        """
        return stamp in self._answers or self.dropped_frames() > dropped

    def realtime(self, frames: Sequence[BagFrame], rate_hz: float, rest_s: float = 3.0
                 ) -> list[ReceivedPoses | None]:
        """Send frames at a rate, stamped with the time they are sent, as a camera does.

        :param rest_s: how long to wait for answers after the last frame.
        :return: for each frame its answer, None for a dropped one.
        """
        stamps: list[int] = []
        start = time.perf_counter()
        for index, frame in enumerate(frames):
            self.spin(lambda: False, start + index / rate_hz - time.perf_counter())
            stamps.append(self.now_ns())
            self._send(frame, stamps[-1])
        self.spin(lambda: stamps[-1] in self._answers, rest_s)
        return [self._answers.get(stamp) for stamp in stamps]

    def _send(self, frame: BagFrame, stamp: int) -> None:
        self._sent[stamp] = time.perf_counter()
        self.send(frame, stamp)

    def on_detections(self, message: DetectionsMessage) -> None:
        now, stamp = time.perf_counter(), messages.stamp_ns(message.header)
        poses = [PublishedPose(str(d.results[0].hypothesis.class_id),
                               float(d.results[0].hypothesis.score),
                               messages.transform_from_pose(d.results[0].pose.pose),
                               messages.covariance_from_pose(d.results[0].pose))
                 for d in message.detections]
        if stamp in self._sent:
            self._answers[stamp] = ReceivedPoses(poses, now - self._sent.pop(stamp), now)
