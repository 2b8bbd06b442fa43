"""Pictures as files or bytes: photographs, depth images and masks.

Convention: pixels are where the file stores them, because boxes, masks and intrinsics speak of
those; marks of EXIF and TIFF that ask a viewer to turn the picture are not followed.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import ImageError
from . import jpeg, tiff

COLOUR, GREY, STORED = cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE, cv2.IMREAD_UNCHANGED
REMEDY = 'copy it again from where it came from'

# Below what Pillow warns of.
MOST_PIXELS = 80_000_000

PNG_START = b'\x89PNG\r\n\x1a\n'
_TIFF = {b'II*\x00': '<', b'MM\x00*': '>'}
_ORIENTATION = 0x0112  # the tag of TIFF and EXIF


def read_rgb(path: Path | str) -> NDArray[np.uint8]:
    """Return a photograph, (H, W, 3) uint8 RGB; grey is repeated, opacity left out.

    :raises ImageError: when it is missing, cut off, or of more than 8 bits a channel.
    """
    bgr = eight_bits(_read(path, COLOUR), f'image {path}')
    return np.ascontiguousarray(bgr[..., ::-1])


def read_depth(path: Path | str) -> NDArray[Any]:
    """Return the numbers of a depth image, (H, W) uint16 or a float type, as they are stored.

    :raises ImageError: when it is missing, cut off, or of another kind.
    """
    depth = _read(path, STORED)
    if depth.ndim != 2 or depth.dtype == np.uint8:
        raise ImageError(f'depth image {path}: has {depth.shape[2] if depth.ndim == 3 else 1} '
                         f'channel(s) of {depth.dtype}; expected one of uint16 or float')
    return depth


def read_mask(path: Path | str) -> NDArray[np.bool_]:
    """Return where a mask is not black, (H, W) bool.

    :raises ImageError: when it is missing or cut off.
    """
    return np.asarray((_read(path, COLOUR) > 0).any(axis=2))


def image_size(path: Path | str) -> tuple[int, int]:
    """Return width and height [px] as stored; no pixel is read.

    :raises ImageError: when it is missing or no image.
    """
    try:
        with Image.open(io.BytesIO(_untagged(Path(path).read_bytes()))
                        if Path(path).suffix.lower() in ('.tif', '.tiff') else path) as image:
            return image.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ImageError(f'image {path}: cannot be decoded; {REMEDY}') from error


def decoded_pixels(data: bytes, kind: int, *, in_time: bool = False) -> NDArray[Any] | None:
    """Return the pixels of a compressed image, None when it is none, is cut off or has a hole.

    :param kind: ``COLOUR`` for three channels, blue first, ``GREY`` for one, or ``STORED``.
    :param in_time: whether holes count only that are found in less time than decoding takes.
    """
    if _is_cut_off(data) or (data.startswith(jpeg.MAGIC)
                             and jpeg.has_hole(data, in_parts=not in_time)):
        return None
    if data.startswith(tiff.MAGICS) and not in_time and tiff.is_damaged(data):
        return None
    flags = kind if kind == STORED else (
        kind | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        return cv2.imdecode(np.frombuffer(_untagged(data), np.uint8), flags)
    except cv2.error:
        return None


def check_pixel_count(data: bytes, name: str) -> None:
    """Refuse a compressed image whose pixels would fill the memory; a few kB may hold billions.

    :param name: of the image, for the error.
    :raises ImageError: when it has more than ``MOST_PIXELS``; nothing of one that is none.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            count = image.size[0] * image.size[1]
    except Image.DecompressionBombError:
        count = MOST_PIXELS + 1
    except Exception:  # Pillow has many for data that are no image, which are told elsewhere
        return
    if count > MOST_PIXELS:
        raise ImageError(f'{name} of {len(data)} bytes has more than {MOST_PIXELS // 10**6} '
                         'million pixels, which no camera sends')


def eight_bits(pixels: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Refuse pictures of more than 8 bits a channel.

    Cameras put 10 or 12 bits into 16, so that nothing in such a file tells how bright it is.

    :raises ImageError: naming the picture.
    """
    if pixels.dtype != np.uint8:
        raise ImageError(f'{name}: has {8 * pixels.dtype.itemsize} bits a channel, expected 8; '
                         'convert it with the number of bits that the camera fills (10, 12, 16)')
    return pixels


def _read(path: Path | str, kind: int) -> NDArray[Any]:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f'image {path}: cannot be read ({error.strerror}); {REMEDY}') from error
    pixels = decoded_pixels(data, kind)
    if pixels is None:
        raise ImageError(f'image {path}: cannot be decoded, it is damaged or cut off; {REMEDY}')
    return pixels


def _is_cut_off(data: bytes) -> bool:
    """Tell whether a PNG or JPEG lacks its end; older decoders fill the rest with grey."""
    if data.startswith(PNG_START):
        return b'IEND' not in data
    return data.startswith(jpeg.MAGIC) and jpeg.is_cut_off(data)


def _untagged(data: bytes) -> bytes:
    """Return a TIFF without the tag that turns it; decoders follow it unasked."""
    order = _TIFF.get(data[:4])
    if order is None:
        return data
    try:
        start = struct.unpack_from(order + 'I', data, 4)[0]
        count = struct.unpack_from(order + 'H', data, start)[0]
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from(order + 'H', data, entry)[0] == _ORIENTATION:
                return data[:entry + 8] + struct.pack(order + 'HH', 1, 0) + data[entry + 12:]
    except struct.error:
        pass
    return data
