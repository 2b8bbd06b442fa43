"""A process that plays camera and detector: image, camera_info and detections of known scenes.

It waits until somebody listens, then publishes one frame at a time or at the rates it is told,
and writes down which scene went out under which stamp.
"""

from __future__ import annotations

import argparse
import array
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    Detection3DArray,
    ObjectHypothesisWithPose,
)

from ..evaluation.boxes import jittered
from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..ros.messages import stamp_ns
from .recording import load_scenes
from .scenes import Scene

FRAME_ID = 'camera_color_optical_frame'
QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
NOBODY_LISTENS = 3
ANSWER_TIMEOUT_S = 5.0


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
    :param jitter: of the detections, see :func:`mrcnet_ros.evaluation.boxes.jittered`.
    :param seed: of the jitter.
    """

    def __init__(self, scenes: Sequence[Scene], jitter: float, seed: int) -> None:
        """Make the topics, and all messages but their stamps."""
        self._scenes, self._jitter, self._seed = scenes, jitter, seed
        self._node: Any = rclpy.create_node('camera')
        self._images = [image_message(scene) for scene in scenes]
        self._infos = [info_message(scene.camera) for scene in scenes]
        self._publishers = [self._node.create_publisher(kind, topic, QOS) for kind, topic in (
            (Image, 'image'), (CameraInfo, 'camera_info'), (Detection2DArray, 'detections'))]
        self._sent, self._answered_ns = 0, 0
        self._node.create_subscription(
            Detection3DArray, 'object_detections', self._on_answer, QOS)

    def wait_for_listeners(self, timeout_s: float) -> bool:
        """Wait until every topic has a subscriber; False when that takes too long."""
        deadline = time.monotonic() + timeout_s
        while not (all(p.get_subscription_count() for p in self._publishers)
                   and self._node.count_publishers('object_detections')):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        time.sleep(0.5)  # the other side has to discover this one, too
        return True

    def run(self, stages: Sequence[Stage], log: IO[str]) -> None:
        """Publish all stages, one line of JSON to the log for each frame."""
        for number, stage in enumerate(stages):
            start = time.monotonic()
            for index in range(stage.frames):
                if stage.rate_hz:
                    time.sleep(max(0.0, start + index / stage.rate_hz - time.monotonic()))
                scene = index % len(self._scenes)
                sent_ns = self._publish(scene)
                log.write(json.dumps({'stage': number, 'scene': scene, 'stamp_ns': sent_ns})
                          + '\n')
                if not stage.rate_hz:
                    self._wait_for_answer(sent_ns)
            time.sleep(1.0)
        log.flush()

    def _wait_for_answer(self, frame_ns: int) -> None:
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while self._answered_ns < frame_ns and (left := deadline - time.monotonic()) > 0:
            rclpy.spin_once(self._node, timeout_sec=left)

    def _on_answer(self, message: Any) -> None:
        self._answered_ns = stamp_ns(message.header)

    def _publish(self, scene: int) -> int:
        now = self._node.get_clock().now()
        header = Header(stamp=now.to_msg(), frame_id=FRAME_ID)
        boxes = [(o.label, jittered(o.box_xyxy, self._jitter, (self._seed, self._sent, i)))
                 for i, o in enumerate(self._scenes[scene].objects)]
        self._sent += 1
        messages = (self._images[scene], self._infos[scene], detections_message(boxes))
        for publisher, message in zip(self._publishers, messages, strict=True):
            message.header = header
            publisher.publish(message)
        return int(now.nanoseconds)


def image_message(scene: Scene) -> Image:
    """Return the picture of a scene, rgb8."""
    height, width = scene.image_rgb.shape[:2]
    message = Image(height=height, width=width, encoding='rgb8', step=3 * width)
    message.data = array.array('B', scene.image_rgb.tobytes())
    return message


def info_message(camera: Camera) -> CameraInfo:
    """Return the intrinsics of an undistorted camera."""
    message = CameraInfo(width=camera.width, height=camera.height, distortion_model='plumb_bob')
    message.d, message.k = [0.0] * 5, camera.K.ravel().tolist()
    message.r = np.eye(3).ravel().tolist()
    message.p = np.hstack([camera.K, np.zeros((3, 1))]).ravel().tolist()
    return message


def detections_message(boxes: Sequence[tuple[str, Array]]) -> Detection2DArray:
    """Return detections as a detector publishes them.

    :param boxes: label and (4,) box_xyxy [px] each.
    """
    message = Detection2DArray()
    for label, box in boxes:
        detection = Detection2D(results=[ObjectHypothesisWithPose()])
        detection.results[0].hypothesis.class_id = label
        detection.results[0].hypothesis.score = 1.0
        x1, y1, x2, y2 = (float(v) for v in box)
        detection.bbox.center.position.x, detection.bbox.size_x = (x1 + x2) / 2, x2 - x1
        detection.bbox.center.position.y, detection.bbox.size_y = (y1 + y2) / 2, y2 - y1
        message.detections.append(detection)
    return message


def main(argv: Sequence[str] | None = None) -> int:
    """Publish the scenes of a folder.

    :return: 0, or 3 when nobody listened in time.
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
    rclpy.init(args=['camera', '--ros-args', '-r', f'__ns:=/{args.namespace}'])
    try:
        camera = SyntheticCamera(load_scenes(args.scenes), args.jitter, args.seed)
        if not camera.wait_for_listeners(args.wait):
            print(f'nobody subscribed within {args.wait:.0f} s', file=sys.stderr)
            return NOBODY_LISTENS
        with args.log.open('w', encoding='utf-8') as log:
            camera.run([Stage(float(hz), int(frames)) for hz, frames in args.stage], log)
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
