"""Convert between ROS image messages and OpenCV arrays."""

from __future__ import annotations

import sys
from array import array
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from .encodings import convert, dtype_and_channels, encoding_of

__all__ = ['CvBridge', 'CvBridgeError']


class CvBridgeError(TypeError):
    """An image message or array cannot be converted."""


class CvBridge:
    """Converts in both directions; holds no state."""

    def imgmsg_to_cv2(self, img_msg: Any, desired_encoding: str = 'passthrough') -> np.ndarray:
        """Return the pixels as (H, W) or (H, W, C), without a copy where nothing changes.

        Convention: rows may be padded (``step``) and 16 and 32 bit data may be big endian; the
        array returned is in the byte order of this machine.

        :raises CvBridgeError: when the encoding is unknown, the data do not fill the rows, or
            there is no way from one encoding to the other.
        """
        try:
            dtype, channels = dtype_and_channels(img_msg.encoding)
            pixels = _rows(img_msg, dtype, channels)
            return convert(pixels, img_msg.encoding, desired_encoding)
        except (ValueError, cv2.error) as error:
            raise CvBridgeError(str(error)) from error

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: Any, desired_encoding: str = 'passthrough',
    ) -> np.ndarray:
        """Decode a JPEG or PNG; colour images are bgr8 unless asked otherwise."""
        data = np.frombuffer(cmprs_img_msg.data, np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR) if data.size else None
        if pixels is None:
            raise CvBridgeError(
                f'{data.size} bytes said to be {cmprs_img_msg.format!r} are no image')
        try:
            return convert(pixels, 'bgr8' if pixels.ndim == 3 else 'mono8', desired_encoding)
        except (ValueError, cv2.error) as error:
            raise CvBridgeError(str(error)) from error

    def cv2_to_imgmsg(
        self, cvim: np.ndarray, encoding: str = 'passthrough', header: Any = None,
    ) -> Image:
        """Make a message of (H, W) or (H, W, C) pixels that already have this encoding."""
        given = encoding_of(cvim)
        name = given if encoding == 'passthrough' else encoding
        try:
            dtype, channels = dtype_and_channels(name)
        except ValueError as error:
            raise CvBridgeError(str(error)) from error
        if cvim.dtype != dtype or (cvim.shape[2] if cvim.ndim == 3 else 1) != channels:
            raise CvBridgeError(f'encoding {name!r} does not fit pixels of type {given!r}')
        message = Image(height=cvim.shape[0], width=cvim.shape[1], encoding=name)
        if header is not None:
            message.header = header
        message.is_bigendian = int(sys.byteorder == 'big')
        message.step = int(cvim.shape[1] * dtype.itemsize * channels)
        message.data = array('B', np.ascontiguousarray(cvim).tobytes())
        return message

    def cv2_to_compressed_imgmsg(
        self, cvim: np.ndarray, dst_format: str = 'jpg',
    ) -> CompressedImage:
        """Encode mono8 or bgr8 pixels, by default as JPEG."""
        written, data = cv2.imencode(f'.{dst_format}', cvim)
        if not written:
            raise CvBridgeError(f'cannot encode {encoding_of(cvim)} pixels as {dst_format!r}')
        return CompressedImage(format=dst_format, data=array('B', data.tobytes()))


def _rows(message: Any, dtype: np.dtype, channels: int) -> np.ndarray:
    height, width, step = int(message.height), int(message.width), int(message.step)
    row_bytes = width * channels * dtype.itemsize
    data = np.frombuffer(message.data, np.uint8)
    if height < 1 or width < 1 or step < row_bytes or data.size < height * step:
        raise ValueError(
            f'{data.size} bytes in rows of {step} are not a {width}x{height} '
            f'{message.encoding} image, which needs {height} rows of {row_bytes} or more')
    stored = dtype.newbyteorder('>' if message.is_bigendian else '<')
    rows = data[:height * step].reshape(height, step)[:, :row_bytes]
    shape = (height, width) if channels == 1 else (height, width, channels)
    if step != row_bytes:
        rows = np.ascontiguousarray(rows)
    return rows.view(stored).reshape(shape).astype(dtype, copy=False)
