"""Damaged and absurd messages, reproducible from a seed."""

from __future__ import annotations

import math
import random
import struct
import zlib
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, ObjectHypothesisWithPose

from ..geometry.camera import Camera
from ..inference.poses import Detection
from ..reading.picture import PNG_START
from ..ros.detection_reading import detections_2d
from ..ros.message_types import ImageMessage
from ..ros.messages import RGB_SOURCES, header_at
from .input_messages import OPTICAL_FRAME, image_message, info_message

# A small image, so that many messages are sent and answered in little time.
WIDTH, HEIGHT, FOCAL = 160, 120, 200.0
CAMERA = Camera(np.array([[FOCAL, 0.0, WIDTH / 2], [0.0, FOCAL, HEIGHT / 2], [0.0, 0.0, 1.0]]),
                WIDTH, HEIGHT)
TOPICS = ('image', 'camera_info', 'detections')

# What breaks careless arithmetic: signs, limits, and what is not finite or no text.
_FLOATS = (0.0, -0.0, -1.0, 1e-300, 1e9, -1e9, 1e308, -1e308, math.nan, math.inf, -math.inf)
_NUMBERS = (0, 1, 7, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_TEXTS = ('', ' ', '\n', '/', 'é漢🙂', '%s%n', 'x' * 5000, "'; --", '../..')
_ENCODINGS = (*RGB_SOURCES, 'rgb16', 'mono16', '16UC1', '32FC1', '32FC4', 'yuv422', 'nv12',
              '8UC1', '8UC99', 'RGB8', 'bayer_rggb16', *_TEXTS)
_MODELS = ('plumb_bob', 'rational_polynomial', 'equidistant', 'thin_prism', *_TEXTS)

Messages = dict[str, Any]
# What image_transport writes, formats that it has not, and hostile text.
_FORMATS = ('', 'jpeg', 'png', 'rgb8; jpeg compressed bgr8', 'bgr8; png compressed ',
            '16UC1; compressedDepth', 'h264', 'é漢🙂', '%s%n', 'x' * 5000)
# Nothing, large, and the limits of 15 to 32 bits.
_SIDES = (0, 1, 4096, 2**15 - 1, 2**20, 2**31 - 1, 2**32 - 1)
_JPEG_START = b'\xff\xd8\xff\xe0\x00\x10JFIF\x00'


def good_frame(stamp: int, label: str, *, compressed: bool = False) -> Messages:
    """Return a frame that the node must answer with one pose.

    :param stamp: [ns].
    :param compressed: with a sensor_msgs/CompressedImage.
    """
    header = header_at(stamp, OPTICAL_FRAME)
    pixels = (np.arange(3 * WIDTH * HEIGHT) % 256).astype(np.uint8).reshape(HEIGHT, WIDTH, 3)
    image = image_message(header, pixels)
    box_xyxy = np.array([WIDTH - HEIGHT / 2, HEIGHT / 2, WIDTH + HEIGHT / 2, HEIGHT * 1.5]) / 2
    return {'image': compressed_image(image) if compressed else image,
            'camera_info': info_message(header, CAMERA),
            'detections': detections_2d(header, [Detection(label, box_xyxy, 0.9)])}


class Fuzzer:
    """Draws messages.

    :param labels: known to the node.
    :param compressed: images are sensor_msgs/CompressedImage.
    """

    def __init__(self, seed: int, labels: Sequence[str], *, compressed: bool = False) -> None:
        self._random, self._labels = random.Random(seed), list(labels)
        self._compressed = compressed

    def messages(self, stamp: int) -> list[tuple[str, object]]:
        """Return topics and messages to send, from none to all of a frame.

        A message is a ROS message, or bytes that are a damaged one.

        :param stamp: that most of them carry [ns].
        """
        draw = self._random
        frame = good_frame(stamp, draw.choice(self._labels), compressed=self._compressed)
        changes: Sequence[Callable[[Messages], None]] = (
            self._spoil_image, self._spoil_camera_info, self._spoil_detections,
            self._spoil_stamps)
        for change in draw.sample(changes, draw.choice((1, 1, 1, 2, 4))):
            change(frame)
        topics = draw.sample(TOPICS, draw.choice((1, 2, 3, 3, 3, 3)))
        return [(topic, self._damaged(frame[topic]) if draw.random() < 0.1 else frame[topic])
                for topic in topics]

    def _spoil_image(self, frame: Messages) -> None:
        draw, image = self._random, frame['image']
        if self._compressed:
            spoil_compressed(image, draw)
            return
        match draw.randrange(6):
            case 0:
                image.encoding = draw.choice(_ENCODINGS)
            case 1:
                image.step = draw.choice(_NUMBERS)
            case 2:
                image.data = image.data[:draw.randrange(len(image.data))]
            case 3:
                image.width, image.height = draw.choice(_NUMBERS), draw.choice(_NUMBERS)
            case 4:
                image.is_bigendian = draw.randrange(256)
                image.encoding = draw.choice(_ENCODINGS)
            case 5:
                image.data = array('B', draw.randbytes(draw.randrange(100)))

    def _spoil_camera_info(self, frame: Messages) -> None:
        draw, info = self._random, frame['camera_info']
        match draw.randrange(6):
            case 0:
                info.k = [draw.choice((0.0, v)) for v in info.k]
            case 1:
                info.k[draw.randrange(9)] = draw.choice(_FLOATS)
            case 2:
                info.d = [draw.choice(_FLOATS) for _ in range(draw.randrange(15))]
                info.distortion_model = draw.choice(_MODELS)
            case 3:
                info.width, info.height = draw.choice(_NUMBERS), draw.choice(_NUMBERS)
            case 4:
                info.binning_x, info.binning_y = draw.choice(_NUMBERS), draw.choice(_NUMBERS)
            case 5:
                for field in ('x_offset', 'y_offset', 'width', 'height'):
                    setattr(info.roi, field, draw.choice(_NUMBERS))

    def _spoil_detections(self, frame: Messages) -> None:
        draw, boxes = self._random, frame['detections']
        count = draw.choice((0, 1, 1, 2, 5, 50))
        boxes.detections = [self._box(frame) for _ in range(count)]

    def _box(self, frame: Messages) -> Detection2D:
        draw = self._random
        box = Detection2D(header=frame['image'].header, id=draw.choice(('', 'a', *_TEXTS)))
        sides = (draw.uniform(-50, 250), draw.uniform(-50, 250), draw.uniform(-5, 300),
                 draw.uniform(-5, 300))
        x, y, width, height = (draw.choice(_FLOATS) if draw.random() < 0.2 else side
                               for side in sides)
        box.bbox.center.position.x, box.bbox.center.position.y = x, y
        box.bbox.size_x, box.bbox.size_y = width, height
        box.bbox.center.theta = draw.choice(_FLOATS)
        box.results = [
            _hypothesis(draw.choice((*self._labels, *_TEXTS)), draw.choice((0.5, *_FLOATS)))
            for _ in range(draw.choice((0, 1, 1, 1, 1, 3)))]
        return box

    def _spoil_stamps(self, frame: Messages) -> None:
        draw = self._random
        for topic in draw.sample(TOPICS, draw.randrange(1, 4)):
            header = Header(frame_id=draw.choice((OPTICAL_FRAME, *_TEXTS)))
            header.stamp.sec = draw.choice((0, -1, -2**31, 2**31 - 1, draw.randrange(2**31)))
            header.stamp.nanosec = draw.choice((0, 10**9, 2**32 - 1))
            frame[topic].header = header

    def _damaged(self, message: object) -> bytes:
        """Return a serialized message with bytes missing or changed, its encapsulation kept."""
        draw, data = self._random, bytearray(serialize_message(message))
        if draw.random() < 0.5:
            return bytes(data[:draw.randrange(4, len(data))])
        for _ in range(draw.choice((1, 4, 16))):
            data[draw.randrange(4, min(len(data), 400))] = draw.randrange(256)
        return bytes(data)


def _hypothesis(label: str, score: float) -> ObjectHypothesisWithPose:
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = label, score
    return result


def compressed_image(image: ImageMessage) -> CompressedImage:
    """Return a sensor_msgs/Image of encoding rgb8 as JPEG."""
    rgb = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
    return CompressedImage(header=image.header, format='rgb8; jpeg compressed bgr8',
                           data=_encoded('.jpg', rgb[..., ::-1]))


def spoil_compressed(image: CompressedImage, draw: random.Random) -> None:
    """Damage a sensor_msgs/CompressedImage in one of many ways, or make it another image."""
    match draw.randrange(7):
        case 0:
            image.format = draw.choice(_FORMATS)
        case 1:
            image.data = image.data[:draw.randrange(len(image.data))]
        case 2:
            for _ in range(draw.choice((1, 8, 64))):
                image.data[draw.randrange(len(image.data))] = draw.randrange(256)
        case 3:
            start = draw.choice((b'', PNG_START, _JPEG_START, b'BM', b'II*\x00', b'RIFF'))
            image.data = array('B', start + draw.randbytes(draw.randrange(200)))
        case 4:
            image.data = array('B', _boastful_png(draw.choice(_SIDES), draw.choice(_SIDES)))
        case 5:
            image.data = _encoded('.png', _pixels(draw))
        case 6:
            image.data = array('B', bytes(image.data) * draw.choice((2, 20)))


def _boastful_png(width: int, height: int) -> bytes:
    """Return a PNG that promises a size and holds no pixels."""
    header = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    body = b'IDAT' + zlib.compress(b'')
    return PNG_START + b''.join(
        struct.pack('>I', len(part) - 4) + part + struct.pack('>I', zlib.crc32(part))
        for part in (header, body, b'IEND'))


def _pixels(draw: random.Random) -> NDArray[Any]:
    """Return an image of some size, number of channels and depth."""
    shape = (draw.choice((1, 119, 120, 500)), draw.choice((1, 160, 161)), draw.choice((1, 3, 4)))
    kind = draw.choice((np.uint8, np.uint16))
    return np.full(shape, draw.randrange(256), kind)


def _encoded(extension: str, pixels: NDArray[Any]) -> array[int]:
    return array('B', cv2.imencode(extension, pixels)[1].tobytes())
