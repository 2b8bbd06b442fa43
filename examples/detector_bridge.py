"""Make a detector node of a Python function.

    python3 examples/detector_bridge.py my_detector:detect --ros-args -r image:=/camera/image_raw

imports my_detector, from the working directory too, and calls detect(image_rgb) with each image,
(height, width, 3) uint8. It returns a list of (name, score, x1, y1, x2, y2) [px], which are
published on the topic detections with the stamp of the image. It needs rclpy, sensor_msgs,
std_msgs, vision_msgs and numpy, and nothing of mrcnet_ros.
"""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

# Channels of the encodings that are read, and their order for RGB.
ENCODINGS = {'rgb8': (3, [0, 1, 2]), 'bgr8': (3, [2, 1, 0]), 'rgba8': (4, [0, 1, 2]),
             'bgra8': (4, [2, 1, 0]), 'mono8': (1, [0, 0, 0]), '8UC3': (3, [2, 1, 0])}

Detector = Callable[[np.ndarray], Iterable[tuple[str, float, float, float, float, float]]]


class DetectorBridge(Node):
    """Calls a function with each image and publishes what it found."""

    def __init__(self, detect: Detector) -> None:
        """Subscribe to the newest images."""
        super().__init__('detector_bridge')
        self._detect = detect
        self._publisher = self.create_publisher(Detection2DArray, 'detections', 10)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(Image, 'image', self._on_image, newest)

    def _on_image(self, message: Image) -> None:
        """Answer one image; a detector that fails on it does not end the node."""
        try:
            found = [detection(message.header, *f) for f in self._detect(pixels(message))]
        except Exception as error:
            self.get_logger().error(f'no detections: {type(error).__name__}: {error}',
                                    throttle_duration_sec=5.0)
            return
        self._publisher.publish(Detection2DArray(header=message.header, detections=found))


def pixels(message: Image) -> np.ndarray:
    """Return the image, (height, width, 3) uint8 RGB.

    :raises ValueError: when its encoding is not one of ``ENCODINGS``.
    """
    if message.encoding not in ENCODINGS:
        raise ValueError(f'encoding {message.encoding!r}; expected one of {", ".join(ENCODINGS)}')
    channels, order = ENCODINGS[message.encoding]
    rows = np.frombuffer(message.data, np.uint8, message.height * message.step)
    rows = rows.reshape(message.height, message.step)  # some drivers fill up the end
    image = rows[:, :channels * message.width].reshape(message.height, message.width, channels)
    return np.ascontiguousarray(image[..., order])


def detection(header: Header, name: str, score: float, *box_xyxy: float) -> Detection2D:
    """Return one object of the message; numbers must be Python's own."""
    x1, y1, x2, y2 = box_xyxy
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = str(name), float(score)
    message = Detection2D(header=header, results=[hypothesis])
    message.bbox.center.position.x = float(x1 + x2) / 2
    message.bbox.center.position.y = float(y1 + y2) / 2
    message.bbox.size_x, message.bbox.size_y = float(x2 - x1), float(y2 - y1)
    return message


def function_named(name: str) -> Any:
    """Return the function that MODULE:FUNCTION names."""
    module, _, function = name.partition(':')
    sys.path.insert(0, os.getcwd())
    return getattr(importlib.import_module(module), function)


def main() -> int:
    """Run until a signal comes; return 2 when there is no such function."""
    words = remove_ros_args(sys.argv)[1:]
    if len(words) != 1 or ':' not in words[0]:
        print('usage: detector_bridge.py MODULE:FUNCTION [--ros-args ...]', file=sys.stderr)
        return 2
    try:
        detect = function_named(words[0])
    except (ImportError, AttributeError) as error:
        print(f'detector_bridge.py: {words[0]} cannot be used: {error}', file=sys.stderr)
        return 2
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    # with rclpy's own handlers a signal during a callback ended 2 of 250 runs with an error
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node, executor = DetectorBridge(detect), SingleThreadedExecutor()
    executor.add_node(node)
    while not stop.is_set():
        executor.spin_once(timeout_sec=0.5)
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
