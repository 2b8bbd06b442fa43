"""Pure conversions between ROS messages and what the estimator takes and returns.

Convention: numbers that go into messages are Python's own, ``float()`` and ``int()``; numpy
scalars are not checked by rclpy and can arrive as other numbers.
"""

from __future__ import annotations

import re

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, TransformStamped, Vector3
from numpy.typing import NDArray
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, ObjectHypothesisWithPose

from ..errors import CameraError, ImageError
from ..geometry.camera import DISTORTION_LENGTHS, Camera
from ..geometry.camera_doubts import check_focal_lengths
from ..geometry.se3 import (
    Array,
    make_transform,
    quat_wxyz_from_rotation,
    rotation_from_quat_wxyz,
)
from ..inference.poses import PoseEstimate
from ..reading.picture import COLOUR, GREY, check_pixel_count, decoded_pixels, eight_bits
from .message_types import (
    CameraInfoMessage,
    CompressedImageMessage,
    HeaderMessage,
    ImageMessage,
    PoseMessage,
    PoseWithCovarianceMessage,
    TimeMessage,
    TransformMessage,
)

# Channels of an encoding, and OpenCV's way to RGB. OpenCV names a mosaic by the second and third
# pixel of the second row, the message by the first four.
_TO_RGB = {
    'rgb8': (3, None), 'bgr8': (3, cv2.COLOR_BGR2RGB), 'rgba8': (4, cv2.COLOR_RGBA2RGB),
    'bgra8': (4, cv2.COLOR_BGRA2RGB), 'mono8': (1, cv2.COLOR_GRAY2RGB),
    '8UC3': (3, cv2.COLOR_BGR2RGB),
    'bayer_rggb8': (1, cv2.COLOR_BayerBG2RGB), 'bayer_bggr8': (1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': (1, cv2.COLOR_BayerGR2RGB), 'bayer_grbg8': (1, cv2.COLOR_BayerGB2RGB),
}
RGB_SOURCES = tuple(_TO_RGB)
# encodings of 16 bits or more: mono16, bgr16, bayer_rggb16, 16UC1, 32FC1
_MORE_BITS = re.compile(r'(?:[a-z]16$)|(?:^(?:16|32|64)[USF]C)')
# First element of a pose covariance that is not given, as sensor_msgs/Imu marks it.
COVARIANCE_UNKNOWN = -1.0


def stamp_ns(header: HeaderMessage) -> int:
    return time_ns(header.stamp)


def time_ns(time: TimeMessage) -> int:
    """Return a time or a duration [ns]."""
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def seconds(time_ns: int) -> float:
    """Return a time in seconds; doubles tell microseconds apart for centuries."""
    return time_ns * 1e-9


def header_at(stamp: int, frame_id: str) -> Header:
    """Return a header with a stamp [ns]."""
    return Header(stamp=Time(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id=frame_id)


def rgb_from_image(message: ImageMessage) -> NDArray[np.uint8]:
    """Return the pixels of a sensor_msgs/Image, (H, W, 3) uint8 RGB.

    Convention: 8UC3 names no order of channels; it is read as BGR, OpenCV's order. cv_bridge is
    not asked: releases differ in what they make of padded rows.

    :raises ImageError: when the encoding is not supported or the data do not fill the rows.
    """
    encoding = str(message.encoding)
    if encoding not in RGB_SOURCES:
        raise ImageError(
            f'image encoding {encoding!r} is not supported; use one of {", ".join(RGB_SOURCES)}')
    channels, conversion = _TO_RGB[encoding]
    check_image_data(message, encoding, channels)
    height, width, step = message.height, message.width, message.step
    rows = np.frombuffer(message.data, np.uint8, height * step).reshape(height, step)
    pixels = np.ascontiguousarray(rows[:, :width * channels]).reshape(height, width, channels)
    if conversion is None:
        return pixels
    try:
        return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)
    except cv2.error as error:
        raise ImageError(f'{encoding} image of {width}x{height} px: {error}') from error


def check_image_data(message: ImageMessage, encoding: str, channels: int) -> None:
    """Make sure that the data of a sensor_msgs/Image fill its rows.

    :param channels: bytes of a pixel.
    :raises ImageError: when they do not.
    """
    row, have = message.width * channels, len(message.data)
    if message.width < 1 or message.height < 1 or message.step < row:
        raise ImageError(f'{encoding} image of {message.width}x{message.height} px has rows of '
                         f'{message.step} bytes; expected {row} or more')
    if channels == len('rgb') and message.step == 4 * message.width and not _is_padded(
            row, message.step):
        raise ImageError(f'{encoding} image of {message.width}x{message.height} px has rows of '
                         f'{message.step} bytes, which is 4 a pixel, as rgba8 and bgra8 have; '
                         f'expected {row}')
    if have < message.height * message.step:
        raise ImageError(f'{encoding} image of {message.width}x{message.height} px has {have} '
                         f'bytes; expected {message.height * message.step}')


def _is_padded(row: int, step: int) -> bool:
    """Tell whether ``step`` is ``row`` rounded up as memory is: to 4, 8, ... 512 bytes."""
    return any(-(-row // unit) * unit == step for unit in (4, 8, 16, 32, 64, 128, 256, 512))


def rgb_from_compressed(message: CompressedImageMessage) -> NDArray[np.uint8]:
    """Return the pixels of a sensor_msgs/CompressedImage, (H, W, 3) uint8 RGB.

    Convention: pixels stay where camera_info has them, whatever way up EXIF says they are. The
    first word of the format is the encoding before compression, as image_transport writes it; a
    mosaic stays one unless the format says that it was made colour or grey. A TIFF has the
    channels in the order of that encoding, unless the format says that they were turned to BGR.

    :raises ImageError: when the data cannot be decoded, are cut off, or have more than 8 bits a
        channel now or had before they were compressed.
    """
    encoding, _, stored = str(message.format).partition(';')
    mosaic = encoding.startswith('bayer_') and not any(
        made in stored for made in ('bgr', 'rgb', 'mono'))
    if mosaic and encoding not in _TO_RGB:
        raise ImageError(f'compressed image {message.format!r} is not supported; of mosaics use '
                         f'one of {", ".join(e for e in RGB_SOURCES if "bayer" in e)}')
    if _MORE_BITS.search(encoding.strip()):
        raise ImageError(f'compressed image {message.format!r} is not supported; use an encoding '
                         'of 8 bits, such as rgb8, bgr8 or mono8')
    check_pixel_count(bytes(message.data), f'compressed image {message.format!r}')
    pixels = decoded_pixels(bytes(message.data), GREY if mosaic else COLOUR, in_time=True)
    if pixels is None:
        raise ImageError(f'{len(message.data)} bytes of a compressed image with format '
                         f'{message.format!r} are no image or a part of one')
    pixels = eight_bits(pixels, f'compressed image {message.format!r}')
    if 'tiff compressed' in stored and 'bgr' not in stored and encoding in ('rgb8', 'rgba8'):
        return pixels
    conversion = _TO_RGB[encoding][1] if mosaic else None
    return np.asarray(cv2.cvtColor(pixels, conversion or cv2.COLOR_BGR2RGB), np.uint8)


def camera_from_info(info: CameraInfoMessage, *, rectified: bool = False) -> Camera:
    """Return the camera that took the image, region of interest and binning applied.

    :param rectified: the image was rectified by image_proc, as whose ``P`` says (``K`` when that
        is all zero), and has no distortion left.
    :raises CameraError: when the numbers cannot be used, for instance all zero.
    """
    K = sensor_matrix(info, rectified=rectified)
    corner, size = _region(info)
    bins = np.array([max(1, info.binning_x), max(1, info.binning_y)])
    K[:2, 2] = (K[:2, 2] - corner + 0.5) / bins - 0.5
    K[:2, :2] /= bins[:, None]
    width, height = (size // bins).tolist()
    model, coefficients = ('none', ()) if rectified else _distortion(
        str(info.distortion_model), tuple(map(float, info.d)))
    camera = Camera(K, width, height, model, coefficients,
                    part=tuple(size) != (info.width, info.height))
    check_focal_lengths(camera, 'camera_info')
    return camera


def sensor_matrix(info: CameraInfoMessage, *, rectified: bool) -> Array:
    """Return the camera matrix of the whole sensor before binning, (3, 3) [px].

    :param rectified: take ``P``, or ``K`` when that is all zero.
    """
    if rectified and any(info.p):
        return np.array(info.p, dtype=np.float64).reshape(3, 4)[:, :3].copy()
    return np.array(info.k, dtype=np.float64).reshape(3, 3)


def _region(info: CameraInfoMessage) -> tuple[Array, Array]:
    """Return the region of interest: its first pixel and its size, (2,) [px] before binning.

    :raises CameraError: when it reaches beyond the sensor, or only a part of it is given.
    """
    roi, full = info.roi, np.array([info.width, info.height])
    corner, size = np.array([roi.x_offset, roi.y_offset]), np.array([roi.width, roi.height])
    if not size.any() and not corner.any():
        return corner, full
    if not size.all() or (corner + size > full).any():
        raise CameraError(
            f'roi of camera_info is {size[0]}x{size[1]} px at ({corner[0]}, {corner[1]}), which '
            f'is not inside {full[0]}x{full[1]} px; width and height of camera_info are those of '
            'the sensor, and a roi of zeros means the whole sensor')
    return corner, size


def _distortion(model: str, coefficients: tuple[float, ...]) -> tuple[str, tuple[float, ...]]:
    """Return what :class:`Camera` takes for distortion_model and D.

    Convention: no name without coefficients is no distortion, as of simulators; a polynomial of
    zeros as well. Four zeros of ``equidistant`` are an ideal fisheye. More zeros than a model has
    coefficients do not matter.

    :raises CameraError: when the model is unknown, whatever D is, or takes another number of
        coefficients.
    """
    if not model and not coefficients:
        return 'none', ()
    advice = (f'use one of {", ".join(m for m in DISTORTION_LENGTHS if m != "none")}, or rectify '
              'the images and set image_rectified')
    if model not in DISTORTION_LENGTHS:
        raise CameraError(f'distortion_model {model!r} of camera_info, with D of '
                          f'{len(coefficients)} numbers, is not known; {advice}')
    lengths = DISTORTION_LENGTHS[model]
    if not any(coefficients[lengths[-1]:]):
        coefficients = coefficients[:lengths[-1]]
    if coefficients and len(coefficients) not in lengths:
        raise CameraError(f'D of camera_info has {len(coefficients)} numbers, but its '
                          f'distortion_model {model!r} takes {" or ".join(map(str, lengths))}; '
                          f'{advice}')
    straight = not any(coefficients)
    return ('none', ()) if straight and model != 'equidistant' else (model, coefficients)


def check_camera_fits(image: NDArray[np.uint8], camera: Camera, info: CameraInfoMessage) -> None:
    """Make sure that image and camera_info speak of the same image.

    :param camera: of ``info``.
    :raises CameraError: when their sizes differ.
    """
    height, width = image.shape[:2]
    if (width, height) == (camera.width, camera.height):
        return
    told = (f'the image is {width}x{height} px, its camera_info is for '
            f'{camera.width}x{camera.height} px')
    if (info.width, info.height) != (camera.width, camera.height):
        told += (f': {info.width}x{info.height} px with binning {info.binning_x}x{info.binning_y} '
                 f'and roi {info.roi.width}x{info.roi.height}; width and height must be those of '
                 'the sensor, before binning and roi')
    raise CameraError(told)


def pose_from_transform(T: Array) -> Pose:
    """Return a geometry_msgs/Pose of T_frame_object, (4, 4) [m]."""
    x, y, z = (float(v) for v in T[:3, 3])
    return Pose(position=Point(x=x, y=y, z=z), orientation=_quaternion(T))


def transform_from_pose(pose: PoseMessage) -> Array:
    """Return T_frame_object, (4, 4) float64 [m], of a geometry_msgs/Pose."""
    p, q = pose.position, pose.orientation
    return make_transform(rotation_from_quat_wxyz([q.w, q.x, q.y, q.z]), [p.x, p.y, p.z])


def transform_from_message(transform: TransformMessage) -> Array:
    """Return T_parent_child, (4, 4) float64 [m], of a geometry_msgs/Transform."""
    t, q = transform.translation, transform.rotation
    return make_transform(rotation_from_quat_wxyz([q.w, q.x, q.y, q.z]), [t.x, t.y, t.z])


def pose_stamped(header: HeaderMessage, estimate: PoseEstimate) -> PoseStamped:
    """Return the pose of one object in the frame of the header, the camera's optical frame."""
    return PoseStamped(header=header, pose=pose_from_transform(estimate.T_camera_object))


def transform_stamped(header: HeaderMessage, child: str, estimate: PoseEstimate
                      ) -> TransformStamped:
    """Return the transform from the camera's optical frame to the frame ``child`` of an object."""
    message = TransformStamped(header=header, child_frame_id=child)
    x, y, z = (float(v) for v in estimate.T_camera_object[:3, 3])
    message.transform.translation = Vector3(x=x, y=y, z=z)
    message.transform.rotation = _quaternion(estimate.T_camera_object)
    return message


def detection_3d(header: HeaderMessage, instance: str, estimate: PoseEstimate, bounds: Array
                 ) -> Detection3D:
    """Return one object with its class, score, pose and bounding box.

    :param instance: name of the instance, used where the detector gave no id.
    :param bounds: (2, 3) [m] lowest and highest mesh coordinates in the object frame.
    """
    T_camera_object = estimate.T_camera_object
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = estimate.label
    hypothesis.hypothesis.score = float(estimate.score)
    hypothesis.pose.pose = pose_from_transform(T_camera_object)
    hypothesis.pose.covariance = _covariance(estimate.covariance)
    message = Detection3D(header=header, results=[hypothesis],
                          id=estimate.detection_id or instance)
    T_camera_box = T_camera_object.copy()
    T_camera_box[:3, 3] += T_camera_object[:3, :3] @ bounds.mean(axis=0)
    message.bbox.center = pose_from_transform(T_camera_box)
    x, y, z = (float(v) for v in bounds[1] - bounds[0])
    message.bbox.size = Vector3(x=x, y=y, z=z)
    return message


def _covariance(covariance: Array | None) -> list[float]:
    """Return 36 numbers, row by row; marked as not given where there are none or not finite."""
    if covariance is None or not np.isfinite(covariance).all():
        return [COVARIANCE_UNKNOWN, *[0.0] * 35]
    return [float(value) for value in covariance.ravel()]


def covariance_from_pose(pose: PoseWithCovarianceMessage) -> Array | None:
    """Return the covariance of a PoseWithCovariance, (6, 6) float64; None where none is given."""
    covariance = np.array(pose.covariance, np.float64)
    # nothing but zeros is what a publisher leaves that knows none
    if covariance[0] == COVARIANCE_UNKNOWN or not covariance.any():
        return None
    return covariance.reshape(6, 6)


def _quaternion(T: Array) -> Quaternion:
    w, x, y, z = (float(v) for v in quat_wxyz_from_rotation(T[:3, :3]))
    return Quaternion(x=x, y=y, z=z, w=w)
