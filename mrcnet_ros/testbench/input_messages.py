"""The node's inputs as messages: what a camera and a detector publish."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from ..geometry.camera import Camera
from ..inference.poses import Detection


def image_message(header: Header, image_rgb: NDArray[np.uint8]) -> Image:
    """Return a picture, rgb8.

    :param image_rgb: (H, W, 3) uint8.
    """
    height, width = image_rgb.shape[:2]
    # an array is taken as it is; bytes would be checked one by one
    return Image(header=header, height=height, width=width, encoding='rgb8', step=3 * width,
                 data=array('B', image_rgb.tobytes()))


def info_message(header: Header, camera: Camera) -> CameraInfo:
    """Return the intrinsics and the distortion of a camera."""
    K = [float(v) for v in camera.K.ravel()]
    model = 'plumb_bob' if camera.distortion_model == 'none' else camera.distortion_model
    return CameraInfo(
        header=header, width=camera.width, height=camera.height, distortion_model=model,
        d=array('d', camera.distortion or (0.0,) * 5), k=K, r=np.eye(3).ravel().tolist(),
        p=[*K[:3], 0.0, *K[3:6], 0.0, *K[6:], 0.0])


def detections_message(header: Header, detections: Sequence[Detection]) -> Detection2DArray:
    """Return detections as a detector publishes them."""
    message = Detection2DArray(header=header)
    message.detections = [_detection_message(header, detection) for detection in detections]
    return message


def _detection_message(header: Header, detection: Detection) -> Detection2D:
    x1, y1, x2, y2 = (float(v) for v in detection.box_xyxy)
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = detection.label
    result.hypothesis.score = float(detection.score)
    message = Detection2D(header=header, results=[result], id=detection.detection_id)
    message.bbox.center.position.x, message.bbox.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
    message.bbox.size_x, message.bbox.size_y = x2 - x1, y2 - y1
    return message
