"""Depth images: which one belongs to a frame, conversion to metres, and checks."""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..geometry.camera import FARTHEST_M
from ..reading.picture import PNG_START, STORED, check_pixel_count, decoded_pixels
from .message_types import CompressedImageMessage, ImageMessage, StampedMessage
from .messages import check_image_data, stamp_ns

Depth = NDArray[np.float32]

# REP 118: integers are millimetres and 0 is nothing, floats are metres and NaN is nothing. The
# largest integer is what a camera writes that cannot count further.
_MILLIMETRES, _METRES = ('16UC1', 'mono16'), '32FC1'
_SATURATED = 65535  # the largest integer of 16 bits
# compressedDepth: an int32 and the two float32 of the inverse depth, in front of a PNG.
_CONFIG = struct.Struct('<iff')
# Median distances of scenes that no depth camera for grasping sees: the unit is another one.
# Metres taken for millimetres are below 0.05, and millimetres taken for metres beyond FARTHEST_M.
_NEAREST_M = 0.05
# A smaller part of measured pixels is noise: the lens is covered or the emitter is off.
_LEAST_MEASURED = 0.001
_REGISTER = ('publish depth that is registered to the colour image: aligned_depth_to_color '
             '(align_depth.enable), or depth_image_proc register, whose depth fits rectified '
             'images: with it remap image to image_rect and set image_rectified')
# Depth images for each image that may wait; depth cameras are up to three times as fast.
MOST_DEPTHS = 4
# Asked by the worker: the depth image of a frame, None while none has come.
DepthLookup = Callable[[], StampedMessage | None]


def no_depth() -> None:
    """Find no depth image."""


class DepthBuffer:
    """Keeps the last depth images, and those of images that wait; no frame waits for one.

    :param length: depth images that are kept in any case; at most ``MOST_DEPTHS`` times as many.
    :param slop_s: by how much stamps may differ.
    """

    def __init__(self, length: int, slop_s: float) -> None:
        self._lock = threading.Lock()
        self._messages: deque[StampedMessage] = deque(maxlen=MOST_DEPTHS * length)
        self._length, self._slop_ns = length, slop_s * 1e9

    def add(self, message: StampedMessage, oldest: int | None = None) -> None:
        """Keep a depth image; those that came first make room.

        :param oldest: stamp of the oldest image that waits [ns], None when none does.
        """
        with self._lock:
            self._messages.append(message)
            while len(self._messages) > self._length and (
                    oldest is None
                    or stamp_ns(self._messages[0].header) < oldest - self._slop_ns):
                self._messages.popleft()

    def nearest(self, stamp: int) -> StampedMessage | None:
        """Return the depth image nearest to a stamp [ns], None when none is near enough.

        Of several equally near ones, the one that came last: a bag may start again.
        """
        with self._lock:
            near = [(abs(stamp_ns(m.header) - stamp), m) for m in reversed(self._messages)]
        gap, message = min(near, key=lambda pair: pair[0], default=(0, None))
        return message if gap <= self._slop_ns else None

    def lookup(self, stamp: int) -> DepthLookup:
        """Return what finds the depth image of a frame.

        What has come already is kept for the frame, which may wait for its turn for longer than
        the buffer keeps it. What comes while the frame waits is found as well, and kept once it
        was found.
        """
        found = self.nearest(stamp)

        def find() -> StampedMessage | None:
            nonlocal found
            known = [m for m in (found, self.nearest(stamp)) if m is not None]
            found = min(known, key=lambda m: abs(stamp_ns(m.header) - stamp), default=None)
            return found

        return find


class DepthError(Exception):
    """A depth image cannot be used.

    :param reason: one of ``drop_counters.DEPTH_REASONS``.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


def usable_depth(message: Any, size: tuple[int, int], frame_ids: Collection[str], *,
                 compressed: bool) -> Depth:
    """Return a depth image that fits a colour image, (H, W) float32 [m].

    :param size: width and height of the colour image [px].
    :param frame_ids: of image and camera_info; empty ones name no frame.
    :param compressed: whether the message is a CompressedImage of compressedDepth.
    :raises DepthError: when it cannot be used, with what to do.
    """
    try:
        depth_m = depth_from_compressed(message) if compressed else depth_from_image(message)
    except ImageError as error:
        raise DepthError('depth_bad', str(error)) from error
    height, width = depth_m.shape
    if (width, height) != size:
        raise DepthError('depth_unregistered', f'depth is {width}x{height} px, the image '
                         f'{size[0]}x{size[1]} px; {_REGISTER}')
    frames = {name.lstrip('/') for name in frame_ids if name}
    own = str(message.header.frame_id).lstrip('/')
    if own and frames and own not in frames:
        raise DepthError('depth_unregistered', f'depth has the frame_id {own!r}, the image '
                         f'{", ".join(map(repr, sorted(frames)))}; {_REGISTER}')
    _check_distances(depth_m)
    return depth_m


def _check_distances(depth_m: Depth) -> None:
    measured = depth_m[np.isfinite(depth_m) & (depth_m > 0)]
    if measured.size <= _LEAST_MEASURED * depth_m.size:
        raise DepthError('depth_empty', f'depth was measured in {measured.size} of {depth_m.size} '
                         'pixels; check the emitter, the lens and the range of the depth camera')
    median_m = float(np.median(measured))
    if not _NEAREST_M <= median_m <= FARTHEST_M:
        raise DepthError('depth_scale', f'the median depth is {median_m:.4g} m; publish 16UC1 in '
                         'millimetres or 32FC1 in metres')


def depth_from_image(message: ImageMessage) -> Depth:
    """Return the distances of a sensor_msgs/Image, (H, W) float32 [m].

    :raises ImageError: when the encoding is none of depth or the data do not fill the rows.
    """
    encoding = str(message.encoding)
    kind = _kind(encoding).newbyteorder('>' if message.is_bigendian else '<')
    row = message.width * kind.itemsize
    check_image_data(message, encoding, kind.itemsize)
    rows = np.frombuffer(message.data, np.uint8, message.height * message.step)
    rows = np.ascontiguousarray(rows.reshape(message.height, message.step)[:, :row])
    return _metres(rows.view(kind))


def depth_from_compressed(message: CompressedImageMessage) -> Depth:
    """Return the distances of a CompressedImage of compressedDepth, (H, W) float32 [m].

    :raises ImageError: when it is of another transport or cannot be decoded.
    """
    encoding, _, stored = (part.strip() for part in str(message.format).partition(';'))
    _kind(encoding)
    data = bytes(message.data)
    if 'rvl' in stored.lower():
        raise ImageError(f'depth {message.format!r} is not supported; set the format of the '
                         "publisher's compressedDepth to png")
    start = 0 if data.startswith(PNG_START) and encoding != _METRES else _CONFIG.size
    check_pixel_count(data[start:], f'depth {message.format!r}')
    pixels = decoded_pixels(data[start:], STORED) if data[start:].startswith(PNG_START) else None
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise ImageError(f'depth {message.format!r} of {len(data)} bytes holds no PNG of 16 bits; '
                         'remap depth to a topic that ends in /compressedDepth')
    if encoding != _METRES:
        return _metres(pixels)
    _, a, b = _CONFIG.unpack_from(data)
    with np.errstate(divide='ignore', invalid='ignore'):
        depth_m = np.float32(a) / (pixels.astype(np.float32) - np.float32(b))
    depth_m[pixels == 0] = np.nan
    return np.asarray(depth_m, np.float32)


def _kind(encoding: str) -> np.dtype[np.uint16] | np.dtype[np.float32]:
    if encoding in _MILLIMETRES:
        return np.dtype(np.uint16)
    if encoding == _METRES:
        return np.dtype(np.float32)
    raise ImageError(f'depth has the encoding {encoding!r}; expected 16UC1 or mono16 in '
                     'millimetres, or 32FC1 in metres')


def _metres(pixels: NDArray[np.uint16 | np.float32]) -> Depth:
    if pixels.dtype.kind == 'f':
        return np.asarray(pixels, np.float32)
    return np.where(pixels == _SATURATED, np.float32(0.0), pixels * np.float32(1e-3))
