"""Whether the data of a progressive JPEG are those of its whole picture.

Such a picture comes in scans: coarse values first, then more frequencies and more bits. A decoder
goes on without a word when a scan has too few data or too many. Both show when other data are put
there: those behind the last one of a scan change nothing, those in place of the last ones do.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Markers of ITU T.81: a progressive frame, start of scan, RST0 to RST7.
FRAME = 0xC2
_SCAN, _RESTARTS = 0xDA, range(0xD0, 0xD8)
_START, _END = b'\xff\xd8', b'\xff\xd9'
# what may stand between two scans: tables, intervals of restart marks, remarks
_BETWEEN = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}
_FREQUENCIES = 64
# So many bytes before the last ones of a scan are exchanged. The last ones may be too many, which
# is harmless, and a scan that is hardly longer says nothing.
_TAIL, _SPARE, _LEAST = 16, 8, 48
# Six ways, because one may happen to mean the same. There is no 255 in them: it begins a mark.
_OTHERS = [np.random.default_rng(way).integers(0, 255, 64).astype(np.uint8).tobytes()
           for way in range(6)]


@dataclass(frozen=True)
class _Scan:
    """One scan.

    :param tables: all segments between the scan before it and its own.
    :param head: its own segment.
    """

    tables: bytes
    head: bytes
    coded: bytes

    @property
    def parts(self) -> frozenset[int]:
        """Return the numbers of its components."""
        return frozenset(self.head[5:5 + 2 * self.head[4]:2])

    @property
    def band(self) -> range:
        """Return its frequencies."""
        return range(self.head[-3], self.head[-2] + 1)

    @property
    def bits(self) -> tuple[int, int]:
        """Return the lowest bit that is known before it, 0 for none, and afterwards."""
        return self.head[-1] >> 4, self.head[-1] & 15

    @property
    def length_of_last_part(self) -> int:
        """Return the number of bytes behind the last restart mark."""
        return len(self.coded) - max(
            self.coded.rfind(bytes([0xFF, code])) for code in _RESTARTS) - 1

    def with_end(self, other: bytes) -> bytes:
        """Return it with other data in place of those before the last ones."""
        kept = self.coded[:-_TAIL - _SPARE].removesuffix(b'\xff')
        return self.tables + self.head + kept + other[:_TAIL] + self.coded[-_SPARE:]

    def with_more(self, more: bytes) -> bytes:
        """Return it with more data at its end, and before each restart mark."""
        coded = self.coded
        for code in _RESTARTS:
            coded = coded.replace(bytes([0xFF, code]), more + bytes([0xFF, code]))
        return self.tables + self.head + coded + more


def has_hole(data: bytes, *, thorough: bool = True) -> bool:
    """Tell whether data are missing from a progressive JPEG, or are more than its picture has.

    :param thorough: whether too many data are looked for, which takes some ten times as long as
        decoding; else it is twice as long.
    """
    try:
        scans = _scans(data)
        if not _complete(scans):
            return True
        plain, longer = (_pixels([s.with_more(more) for s in scans]) for more in (b'', _OTHERS[0]))
        return not np.array_equal(plain, longer) or (
            thorough and any(_has_too_many(scans[:i + 1]) for i in range(len(scans))))
    except (OSError, SyntaxError, struct.error, IndexError):
        return True


def _has_too_many(scans: list[_Scan]) -> bool:
    """Tell whether the last data of the last scan count for nothing.

    :param scans: up to it; the data of those of other components are left out.
    """
    last = scans[-1]
    bits_of_means = last.band.start == 0 and last.bits[0] > 0  # too small to be seen
    if bits_of_means or last.length_of_last_part < _LEAST:
        return False
    before = [s.tables + (s.head + s.coded) * bool(s.parts & last.parts) for s in scans[:-1]]
    seen = (_pixels([*before, last.with_end(other)]) for other in _OTHERS)
    first = next(seen)
    return all(np.array_equal(first, other) for other in seen)


def _pixels(scans: list[bytes]) -> NDArray[np.uint8]:
    """Return what a decoder makes of scans."""
    with Image.open(io.BytesIO(_START + b''.join(scans) + _END)) as image:
        image.draft('YCbCr', image.size)
        return np.asarray(image)


def _complete(scans: list[_Scan]) -> bool:
    """Tell whether scans bring all bits of all frequencies of their components, one by one."""
    known: dict[tuple[int, int], int] = {}
    for scan in scans:
        before, after = scan.bits
        for key in ((part, frequency) for part in scan.parts for frequency in scan.band):
            if known.get(key, 0) != before:
                return False
            known[key] = after
    parts = {part for part, _ in known}
    return bool(known) and len(known) == _FREQUENCIES * len(parts) and not any(known.values())


def _scans(data: bytes) -> list[_Scan]:
    """Return all scans up to the end of the picture, with the segments before them.

    No scans where something else stands between them.

    :raises struct.error, IndexError: when segments are cut off.
    """
    at, start, scans, allowed = 2, 2, list[_Scan](), {_SCAN, FRAME, *_BETWEEN}
    while data[at:at + 2] != _END:
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        kind, length = data[at + 1], struct.unpack_from('>H', data, at + 2)[0]
        if data[at] != 0xFF or length < 2 or kind not in allowed:
            return []
        body, at = at, at + 2 + length
        if kind == FRAME:
            allowed.remove(FRAME)
        if kind == _SCAN:
            end = _end_of_coded(data, at)
            scans.append(_Scan(data[start:body], data[body:at], data[at:end]))
            start = at = end
    return scans


def _end_of_coded(data: bytes, at: int) -> int:
    """Return where the next mark is that ends coded data.

    :raises IndexError: when there is none.
    """
    while True:
        at = data.find(b'\xff', at)
        if at < 0:
            raise IndexError
        if data[at + 1] not in (0x00, 0xFF, *_RESTARTS):
            return at
        at += 1 if data[at + 1] == 0xFF else 2
