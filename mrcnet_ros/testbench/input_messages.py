"""The node's inputs as messages: what a camera and a detector publish."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from ..geometry.camera import Camera
from ..inference.poses import Detection
from ..ros.detection_reading import detections_2d

OPTICAL_FRAME = 'camera_optical_frame'  # of the images, as drivers usually name it


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


def frame_messages(
    header: Header, image_rgb: NDArray[np.uint8], camera: Camera, detections: Sequence[Detection],
) -> dict[str, CameraInfo | Detection2DArray | Image]:
    """Return what camera and detector publish of one moment, by topic.

    :param image_rgb: (H, W, 3) uint8.
    """
    return {'/camera_info': info_message(header, camera),
            '/detections': detections_2d(header, detections),
            '/image': image_message(header, image_rgb)}
