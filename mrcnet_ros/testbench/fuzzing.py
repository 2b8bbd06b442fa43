"""Sends a node damaged and absurd messages, and checks that it still answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CompressedImage, Image
from tf2_msgs.msg import TFMessage

from ..ros.message_types import DetectionsMessage, PoseMessage, TransformsMessage
from ..ros.messages import stamp_ns
from .fuzz_messages import Fuzzer, good_frame
from .peer import Peer

# Bad messages between two good frames: fewer take longer, more hide which one did harm.
BURST = 40
RESEND_S = 3.0  # an input may be best effort and lose a frame: then another good one is sent
STEP_NS = 10**7  # between stamps, 10 ms: a camera at 100 Hz


@dataclass
class Findings:
    """What a run has shown.

    :param sent: messages, good ones not counted.
    :param good_frames: sent between the bursts; each was answered unless ``failures`` says so.
    :param answer_s: how long each good frame took, with ``RESEND_S`` for each loss on the way.
    :param failures: in words; empty when all is well.
    :param dropped: by the node, counts by reason.
    """

    sent: int = 0
    good_frames: int = 0
    answer_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)


class FuzzRun(Peer):
    """Sends damaged messages and checks what comes back.

    :param labels: known to the node.
    :param alive: raises when the node has ended.
    :param compressed: send sensor_msgs/CompressedImage.
    """

    def __init__(self, labels: Sequence[str], alive: Callable[[], None], *,
                 compressed: bool = False) -> None:
        super().__init__('fuzz', alive, CompressedImage if compressed else Image)
        self._labels, self._compressed = labels, compressed
        self._findings = Findings()
        self._answered: set[int] = set()
        self.subscribe(PoseStamped, 'object_poses', lambda m: self._check([m.pose]))
        self.subscribe(TFMessage, '/tf', self._on_transforms)

    def run(self, messages: int, seed: int, timeout_s: float,
            after_burst: Callable[[int], object] = lambda sent: None) -> Findings:
        """Send bursts, each followed by a good frame that has to be answered.

        :param timeout_s: for the start of the node, and for the answer to a good frame.
        :param after_burst: called with the number of messages sent.
        :raises PeerError: when the node does not listen.
        :raises MrcnetError: when the node ends.
        """
        self.wait_for_node(timeout_s)
        fuzzer, stamp = Fuzzer(seed, self._labels, compressed=self._compressed), 10**9
        while self._findings.sent < messages:
            for _ in range(BURST):
                stamp += STEP_NS
                for topic, message in fuzzer.messages(stamp):
                    if self._findings.sent < messages:
                        self.publish(f'/{topic}', message)
                        self._findings.sent += 1
                self.spin(lambda: False, 0.0)
            stamp = self._good_frame(stamp, timeout_s)
            after_burst(self._findings.sent)
        self.pose_status.clear()
        if not self.spin(lambda: bool(self.pose_status), timeout_s):
            self._findings.failures.append('no /diagnostics any more')
        self._findings.dropped = self.dropped()
        return self._findings

    def _good_frame(self, stamp: int, timeout_s: float) -> int:
        """Send a good frame until it is answered, for inputs may be best effort.

        :return: stamp of the last frame sent [ns].
        """
        self._findings.good_frames += 1
        start = time.perf_counter()
        while time.perf_counter() < start + timeout_s:
            stamp += STEP_NS
            frame = good_frame(stamp, self._labels[0], compressed=self._compressed)
            for topic, message in frame.items():
                self.publish(f'/{topic}', message)
            if self.spin(partial(self._answered.__contains__, stamp), RESEND_S):
                self._findings.answer_s.append(time.perf_counter() - start)
                return stamp
        self._findings.failures.append(
            f'a good frame stayed without an answer after {self._findings.sent} messages')
        return stamp

    def on_detections(self, message: DetectionsMessage) -> None:
        self._check(d.results[0].pose.pose for d in message.detections)
        self._check(d.bbox.center for d in message.detections)
        if message.detections:
            self._answered.add(stamp_ns(message.header))

    def _on_transforms(self, message: TransformsMessage) -> None:
        for transform in message.transforms:
            t, q = transform.transform.translation, transform.transform.rotation
            self._check_numbers([t.x, t.y, t.z, q.x, q.y, q.z, q.w])

    def _check(self, poses: Iterable[PoseMessage]) -> None:
        for pose in poses:
            p, q = pose.position, pose.orientation
            self._check_numbers([p.x, p.y, p.z, q.x, q.y, q.z, q.w])

    def _check_numbers(self, numbers: list[float]) -> None:
        if not all(map(math.isfinite, numbers)):
            self._findings.failures.append(f'published {numbers}')
