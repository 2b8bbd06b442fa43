"""A camera in a process of its own that sends large best-effort images: WIDTH HEIGHT [px]."""

import sys
import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_frames import frame

width, height = (int(word) for word in sys.argv[1:3])
rclpy.init()
node = rclpy.create_node('camera')
qos = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
messages = frame(1, ('duck', width / 2, height / 2, 30.0), size=(width, height))
publishers = [node.create_publisher(type(m), n, qos)
              for m, n in zip(messages, ('image', 'camera_info', 'detections'), strict=True)]
for second in range(1, 1000):
    for message, publisher in zip(messages, publishers, strict=True):
        message.header.stamp.sec = second
        publisher.publish(message)
    time.sleep(0.2)
