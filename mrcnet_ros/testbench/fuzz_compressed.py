"""Compressed images that no sane driver sends, reproducible from a source of random numbers."""

from __future__ import annotations

import random
import struct
import zlib
from array import array
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage

from ..ros.message_types import ImageMessage

# What image_transport writes, formats that it has not, and hostile text.
_FORMATS = ('', 'jpeg', 'png', 'rgb8; jpeg compressed bgr8', 'bgr8; png compressed ',
            '16UC1; compressedDepth', 'h264', 'é漢🙂', '%s%n', 'x' * 5000)
# Nothing, large, and the limits of 15 to 32 bits.
_SIDES = (0, 1, 4096, 2**15 - 1, 2**20, 2**31 - 1, 2**32 - 1)
_PNG_START = b'\x89PNG\r\n\x1a\n'
_JPEG_START = b'\xff\xd8\xff\xe0\x00\x10JFIF\x00'


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
            start = draw.choice((b'', _PNG_START, _JPEG_START, b'BM', b'II*\x00', b'RIFF'))
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
    return _PNG_START + b''.join(
        struct.pack('>I', len(part) - 4) + part + struct.pack('>I', zlib.crc32(part))
        for part in (header, body, b'IEND'))


def _pixels(draw: random.Random) -> NDArray[Any]:
    """Return an image of some size, number of channels and depth."""
    shape = (draw.choice((1, 119, 120, 500)), draw.choice((1, 160, 161)), draw.choice((1, 3, 4)))
    kind = draw.choice((np.uint8, np.uint16))
    return np.full(shape, draw.randrange(256), kind)


def _encoded(extension: str, pixels: NDArray[Any]) -> array[int]:
    return array('B', cv2.imencode(extension, pixels)[1].tobytes())
