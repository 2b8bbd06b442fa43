"""A process that plays camera and detector: image, camera_info and detections of known scenes.

It waits until it is connected to the node and is told to go on its standard input, then publishes
one frame at a time or at the rates it is told, and writes down which scene went out under which
stamp.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, Detection3DArray

from ..datasets.boxes import jittered
from ..errors import MrcnetError
from ..inference.poses import Detection
from ..ros.context import start_ros
from ..ros.messages import stamp_ns
from ..testbench.input_messages import detections_message, image_message, info_message
from ..testbench.readiness import PeerError, Readiness
from .recording import load_scenes
from .scenes import DemoScene

FRAME_ID = 'camera_color_optical_frame'
QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
GO = 'go'
NOBODY_LISTENS, NOT_TOLD = 3, 4
ANSWER_TIMEOUT_S = 20.0  # of a machine that has other things to do


@dataclass(frozen=True)
class Stage:
    """A stretch of publishing.

    :param rate_hz: frames each second; 0 to wait for the answer to each before the next.
    :param frames: how many; the scenes are repeated as needed.
    """

    rate_hz: float
    frames: int


class SyntheticCamera:
    """Publishes scenes.

    :param scenes: to be published in turn.
    :param jitter: of the detections, see :func:`mrcnet_ros.datasets.boxes.jittered`.
    :param seed: of the jitter.
    """

    def __init__(self, scenes: Sequence[DemoScene], jitter: float, seed: int) -> None:
        """Make the topics, and all messages but their stamps."""
        self._scenes, self._jitter, self._seed = scenes, jitter, seed
        self._node: Any = rclpy.create_node('camera')
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._images = [image_message(Header(), scene.image_rgb) for scene in scenes]
        self._infos = [info_message(Header(), scene.camera) for scene in scenes]
        self._readiness = Readiness(
            self._node, f'{self._node.get_namespace()}/pose_node'.lstrip('/'))
        self._publishers = [self._readiness.publisher(kind, topic, QOS) for kind, topic in (
            (Image, 'image'), (CameraInfo, 'camera_info'), (Detection2DArray, 'detections'))]
        self._sent, self._answered_ns = 0, 0
        self._readiness.subscription(
            Detection3DArray, 'object_detections', self._on_answer, QOS)
        self._node.create_subscription(
            DiagnosticArray, '/diagnostics', self._readiness.see, QOS)

    def wait_for_node(self, timeout_s: float) -> None:
        """Wait until camera and node have found one another.

        :raises PeerError: naming who is missing, when that takes too long.
        """
        self._readiness.wait(self._spin, timeout_s)

    def run(self, stages: Sequence[Stage], log: IO[str]) -> None:
        """Publish all stages, one line of JSON to the log for each frame."""
        for number, stage in enumerate(stages):
            start, sent_ns = time.monotonic(), 0
            for index in range(stage.frames):
                if stage.rate_hz:
                    self._spin(lambda: False, start + index / stage.rate_hz - time.monotonic())
                scene = index % len(self._scenes)
                sent_ns = self._publish(scene)
                log.write(json.dumps({'stage': number, 'scene': scene, 'stamp_ns': sent_ns})
                          + '\n')
                if not stage.rate_hz:
                    self._wait_for_answer(sent_ns)
            self._wait_for_answer(sent_ns)
        log.flush()

    def _wait_for_answer(self, frame_ns: int) -> None:
        self._spin(lambda: self._answered_ns >= frame_ns, ANSWER_TIMEOUT_S)

    def _spin(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Receive until something is done; return whether it is."""
        deadline = time.monotonic() + timeout_s
        while not done() and (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)
        return done()

    def _on_answer(self, message: Any) -> None:
        self._answered_ns = stamp_ns(message.header)

    def _publish(self, scene: int) -> int:
        now = self._node.get_clock().now()
        header = Header(stamp=now.to_msg(), frame_id=FRAME_ID)
        boxes = [
            Detection(o.label, jittered(o.box_xyxy, self._jitter, (self._seed, self._sent, i)))
            for i, o in enumerate(self._scenes[scene].objects)]
        self._sent += 1
        messages = (self._images[scene], self._infos[scene], detections_message(header, boxes))
        for publisher, message in zip(self._publishers, messages, strict=True):
            message.header = header
            publisher.publish(message)
        return int(now.nanoseconds)


def main(argv: Sequence[str] | None = None) -> int:
    """Publish the scenes of a folder.

    :return: 0, 2 when scenes or ROS cannot be used, 3 when the node did not come in time, 4 when
        not told to go.
    """
    parser = argparse.ArgumentParser(description='publish recorded scenes as a camera would')
    parser.add_argument('--scenes', type=Path, required=True, metavar='DIR')
    parser.add_argument('--log', type=Path, required=True, metavar='FILE',
                        help='one line of JSON for each frame sent')
    parser.add_argument('--stage', nargs=2, action='append', required=True,
                        metavar=('HZ', 'FRAMES'), help='HZ 0: wait for each answer')
    parser.add_argument('--jitter', type=float, default=0.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--namespace', default='')
    parser.add_argument('--wait', type=float, default=600.0, metavar='S')
    args = parser.parse_args(argv)
    try:
        start_ros(args=['camera', '--ros-args', '-r', f'__ns:=/{args.namespace}'])
        camera = SyntheticCamera(load_scenes(args.scenes), args.jitter, args.seed)
        camera.wait_for_node(args.wait)
        if sys.stdin.readline().strip() != GO:
            print(f'not told to {GO}; nothing is published', file=sys.stderr)
            return NOT_TOLD
        with args.log.open('w', encoding='utf-8') as log:
            camera.run([Stage(float(hz), int(frames)) for hz, frames in args.stage], log)
    except KeyboardInterrupt:
        return 130
    except MrcnetError as error:
        print(f'camera: {error}', file=sys.stderr)
        return NOBODY_LISTENS if isinstance(error, PeerError) else 2
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
