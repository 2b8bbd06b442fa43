"""Quality of service of the node's topics."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from .params import NodeParameters

# Poses and detections: the answers to several frames fit.
OUTPUT = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
# What is published once and holds until it is published again.
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                     durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Markers and overlay: only the newest is of interest.
PICTURE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


def inputs(parameters: NodeParameters) -> QoSProfile:
    """Return the profile of image, camera_info and detections.

    Under policy lossless the middleware keeps what the node has not taken yet.
    """
    reliability = (ReliabilityPolicy.RELIABLE if parameters.input_reliability == 'reliable'
                   else ReliabilityPolicy.BEST_EFFORT)
    if parameters.policy == 'lossless':
        return QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=reliability)
    return QoSProfile(depth=parameters.queue, reliability=reliability)
