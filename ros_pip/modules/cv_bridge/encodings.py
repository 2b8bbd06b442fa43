"""Names of image encodings: what a pixel holds, and the ways between colour encodings."""

from __future__ import annotations

import re

import cv2
import numpy as np

_COLOUR_CHANNELS = {'mono': 1, 'rgb': 3, 'bgr': 3, 'rgba': 4, 'bgra': 4}
_DEPTH = {'8U': 'u1', '8S': 'i1', '16U': 'u2', '16S': 'i2', '32S': 'i4', '32F': 'f4', '64F': 'f8'}
# OpenCV names a mosaic by the second and third pixel of the second row; the message by the first.
_BAYER = {'rggb': 'BG', 'bggr': 'RG', 'gbrg': 'GR', 'grbg': 'GB'}


def dtype_and_channels(encoding: str) -> tuple[np.dtype, int]:
    """Return the scalar type and the number of channels of an encoding.

    :raises ValueError: when the encoding is unknown.
    """
    generic = re.fullmatch(r'(8U|8S|16U|16S|32S|32F|64F)C(\d+)', encoding)
    if generic:
        return np.dtype(_DEPTH[generic[1]]), int(generic[2])
    colour = re.fullmatch(
        r'(mono|rgb|bgr|rgba|bgra|bayer_(?:rggb|bggr|gbrg|grbg))(8|16)', encoding)
    if not colour:
        raise ValueError(f'unknown image encoding {encoding!r}')
    return np.dtype(f'u{int(colour[2]) // 8}'), _COLOUR_CHANNELS.get(colour[1], 1)


def encoding_of(pixels: np.ndarray) -> str:
    """Return the generic name, such as 8UC3, for what an array holds."""
    depth = {np.dtype(code): name for name, code in _DEPTH.items()}.get(pixels.dtype)
    return f'{depth or pixels.dtype}C{pixels.shape[2] if pixels.ndim == 3 else 1}'


def convert(pixels: np.ndarray, encoding: str, desired: str) -> np.ndarray:
    """Return pixels of ``encoding`` in the ``desired`` encoding.

    :raises ValueError: when there is no way.
    """
    if desired in ('passthrough', encoding):
        return pixels
    wanted_dtype, wanted_channels = dtype_and_channels(desired)
    colour, wanted = _colour(encoding), _colour(desired)
    if colour is None or wanted is None:
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        if (pixels.dtype, channels) != (wanted_dtype, wanted_channels):
            raise ValueError(f'there is no conversion from {encoding!r} to {desired!r}')
        return pixels
    if colour != wanted:
        pixels = cv2.cvtColor(pixels, _conversion(colour, wanted))
    return _depth(pixels, wanted_dtype)


def _colour(encoding: str) -> str | None:
    name = re.match(r'mono|rgba|bgra|rgb|bgr|bayer_\w{4}', encoding)
    return name[0] if name else None


def _conversion(colour: str, wanted: str) -> int:
    if colour.startswith('bayer_'):
        name = f'Bayer{_BAYER[colour[6:]]}'
        wanted = wanted if wanted != 'mono' else 'gray'
    else:
        name, wanted = (
            {'mono': 'GRAY'}.get(word, word.upper()) for word in (colour, wanted))
    code = getattr(cv2, f'COLOR_{name}2{wanted.upper()}', None)
    if code is None:
        raise ValueError(f'there is no conversion from {colour!r} to {wanted!r}')
    return int(code)


def _depth(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if pixels.dtype == dtype:
        return pixels
    scale = np.iinfo(dtype).max / np.iinfo(pixels.dtype).max
    return np.rint(pixels * scale).astype(dtype)
