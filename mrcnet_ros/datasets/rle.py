"""Masks as COCO writes them: lengths of runs down the columns, the first of them empty.

Source: the run-length encoding of the COCO data format; in a string each length takes
characters of five bits, lowest first, from '0' on, and from the fourth on counts from the
length two before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError

# COCO's compressed runs: five bits a character from '0' on, a bit that says that more follow, and
# the sign bit of the last five.
FIRST, MORE, SIGN = 48, 32, 16


def decode_mask(segmentation: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the mask of a ``segmentation`` entry.

    :param segmentation: ``size`` (height, width), ``counts`` as a list or a compressed string.
    :return: (height, width) bool.
    :raises DatasetError: when an entry is missing or the runs do not fill the image.
    """
    try:
        height, width = (int(v) for v in segmentation['size'])
        given = segmentation['counts']
        counts = np.array(uncompress(given) if isinstance(given, str) else given, dtype=np.int64)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f'a segmentation needs size and counts of a COCO RLE: {error!r}; '
                           'polygons are not supported') from error
    if counts.ndim != 1 or (counts < 0).any() or counts.sum() != height * width:
        raise DatasetError(f'the runs of a segmentation add up to {counts.sum()} pixels, its '
                           f'size is {height} x {width}; the file is damaged')
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.asarray(pixels.reshape(width, height).T)


def uncompress(text: str) -> list[int]:
    """Return the lengths of a compressed string.

    :raises ValueError: when it ends within a number or has other characters.
    """
    counts: list[int] = []
    number = shift = 0
    for character in text.encode('ascii'):
        bits = character - FIRST
        if not 0 <= bits < 2 * MORE:
            raise ValueError(f'no character of a compressed RLE: {chr(character)!r}')
        number |= (bits & (MORE - 1)) << shift
        shift += 5
        if bits & MORE:
            continue
        if bits & SIGN:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    if shift:
        raise ValueError('a compressed RLE ends within a number')
    return counts
