"""Whether the data of a JPEG are those of its whole picture.

Decoders fill what is missing with grey, or go on with other blocks, and at most print a warning.
Here Pillow's decoder counts: it gets the coded data without the mark of their end, so that it asks
for more when blocks are missing, and it does not ask for the last bytes when there are too many.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from . import progressive

MAGIC = b'\xff\xd8\xff'
# Markers of ITU T.81: start of scan, RST0 to RST7, restart interval, Huffman tables.
_SCAN, _RESTARTS, _INTERVAL, _TABLES = 0xDA, range(0xD0, 0xD8), 0xDD, 0xC4
_REMARKS = {*range(0xE0, 0xF0), 0xFE}  # of applications, and comments
_END = b'\xff\xd9'
_FIRST_AC = 0x10  # the table of brightness
# Frames of which blocks are coded one after the other, by Huffman's codes and in one scan.
_SEQUENTIAL = (0xC0, 0xC1)
# SOF markers: all of this range but tables (C4, CC) and JPG (C8).
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Decoders read this far ahead, into a buffer of 64 bits; the bits are those that fill a last byte.
_AHEAD = b'\xff\x00' * 8
# Bytes that are too many and harmless: some cameras put up to four before the end.
_SPARE = 8
# Where the shortest code does not end a block, zeros say that every frequency is there, with -1.
_ZEROS = bytes(32)


class _Frame(NamedTuple):
    """What a JPEG says of its coded data.

    :param head: what decoding takes of the segments before the coded data.
    :param coded: the data, without the mark of their end.
    :param size_at: where height and width are in ``head``.
    :param block_px: height and width of what is coded together.
    :param interval: of such blocks between two restart marks, 0 without marks.
    :param zeros: whether many zeros may be in the coded data.
    """

    head: bytes
    coded: bytes
    size_at: int
    block_px: tuple[int, int]
    interval: int
    zeros: bool

    @property
    def blocks(self) -> int:
        """Return how many there are."""
        height, width = (int(v) for v in struct.unpack_from('>HH', self.head, self.size_at))
        return -(-height // self.block_px[0]) * -(-width // self.block_px[1])

    def of_blocks(self, count: int) -> bytes:
        """Return the head of a picture that is a row of blocks."""
        size = struct.pack('>HH', self.block_px[0], self.block_px[1] * count)
        return self.head[:self.size_at] + size + self.head[self.size_at + 4:]


def is_cut_off(data: bytes) -> bool:
    """Tell whether a JPEG has no end behind its first scan.

    A preview in front has an end of its own. Anything may follow the end, such as the film that
    phones put behind a photograph.
    """
    try:
        return data.find(_END, _first(data, {_SCAN})) < 0
    except (struct.error, IndexError):
        return True


def has_hole(data: bytes, *, in_parts: bool = True) -> bool:
    """Tell whether coded data are missing from a JPEG, or are more than its picture has.

    A hole of few bytes may leave as many blocks as there were; most larger ones do not.

    :param data: a JPEG; of one that is neither sequential nor progressive, or malformed before
        its data, nothing is told.
    :param in_parts: whether the data between restart marks are counted too, and too many data of
        progressive pictures. That takes as long as decoding, and several times as long where the
        marks are many or the picture is progressive.
    """
    try:
        if _kind_of(data) == progressive.FRAME:
            return progressive.has_hole(data, thorough=in_parts)
        frame = _frame_of(data)
    except (struct.error, IndexError):
        return False
    if frame is None:
        return False
    coded = frame.coded
    if _ZEROS in coded and not frame.zeros:
        return True
    try:
        if not frame.interval:
            return _other_marks(coded) or not _fits(frame.head, coded)
        parts = list(_parts(frame))
        return in_parts and not all(_fits(head, part) for head, part in parts)
    except _WrongMarks:
        return True


class _WrongMarks(Exception):
    """Restart marks are not those of the picture."""


class _Fed(io.BytesIO):
    """A file of which the last bytes are given on demand, and that knows of the demand."""

    def __init__(self, data: bytes, spare: int) -> None:
        super().__init__(data)
        self._cut, self.asked = len(data) - spare, spare == 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Return no bytes of the last ones together with bytes before them."""
        left = self._cut - self.tell()
        if left <= 0:
            self.asked = True
            return super().read(size)
        return super().read(left if size is None or size < 0 else min(size, left))


def _fits(head: bytes, coded: bytes) -> bool:
    """Tell whether coded data are as many as a head says."""
    spare = min(_SPARE, len(coded))
    while spare and coded[len(coded) - spare] == 0 and coded[-spare - 1:-spare] == b'\xff':
        spare -= 1  # never between the two bytes of a stuffed 255
    file = _Fed(head + coded + _AHEAD, spare + len(_AHEAD))
    try:
        with Image.open(file) as image:
            image.draft('L', (1, 1))  # an eighth of the size: only its codes count
            image.load()
    except (OSError, SyntaxError):
        return False
    return file.asked


def _other_marks(coded: bytes) -> bool:
    """Tell whether marks are within data that have none; stuffed bytes and filling are none."""
    at = coded.find(b'\xff')
    while 0 <= at < len(coded) - 1:
        if coded[at + 1] not in (0x00, 0xFF):
            return True
        at = coded.find(b'\xff', at + 1)
    return False


def _parts(frame: _Frame) -> Iterator[tuple[bytes, bytes]]:
    """Give the head and the data of each part between two restart marks.

    :raises _WrongMarks: when the marks are not those of the picture.
    """
    coded = frame.coded
    full, rest = divmod(frame.blocks, frame.interval)
    counts = [frame.interval] * full + [rest] * (rest > 0)
    heads = {count: frame.of_blocks(count) for count in set(counts)}
    for number, count in enumerate(counts):
        mark = bytes([0xFF, _RESTARTS[number % 8]])
        end = coded.find(mark) if number < len(counts) - 1 else len(coded)
        if end < 0 or _other_marks(coded[:end]):
            raise _WrongMarks
        yield heads[count], coded[:end]
        coded = coded[end + 2:]


def _kind_of(data: bytes) -> int:
    """Return the mark of the frame, 0 where something else stands before it.

    :raises struct.error, IndexError: when segments are cut off.
    """
    at = _first(data, _FRAMES)
    return data[at + 1] if data[at] == 0xFF else 0


def _first(data: bytes, kinds: set[int]) -> int:
    """Return where the first of some marks is, or where something that is no segment stands.

    :raises struct.error, IndexError: when segments are cut off.
    """
    at = 2
    while data[at] == 0xFF and data[at + 1] not in kinds:
        at += 1 if data[at + 1] == 0xFF else 2 + struct.unpack_from('>H', data, at + 2)[0]
    return at


def _frame_of(data: bytes) -> _Frame | None:
    """Return what is said of the coded data, None where they are not sequential in one scan.

    :raises struct.error, IndexError: when segments are cut off.
    """
    at, head, size_at, parts, interval, zeros = 2, data[:2], 0, list[int](), 0, True
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        kind, length = data[at + 1], struct.unpack_from('>H', data, at + 2)[0]
        if data[at] != 0xFF or length < 2 or (kind in _FRAMES and kind not in _SEQUENTIAL):
            return None
        if kind in _SEQUENTIAL:
            size_at, count = len(head) + 5, data[at + 9]
            parts = [data[at + 11 + 3 * i] for i in range(count)]
        elif kind == _INTERVAL:
            interval = struct.unpack_from('>H', data, at + 4)[0]
        elif kind == _TABLES:
            zeros = _may_be_zeros(data[at + 4:at + 2 + length], zeros)
        elif kind == _SCAN:
            break
        if kind not in _REMARKS:
            head += data[at:at + 2 + length]
        at += 2 + length
    if not parts or data[at + 4] != len(parts) or not any(head[size_at:size_at + 2]):
        return None
    # the data of one component are coded block by block, whatever its sampling
    block = (8, 8) if len(parts) == 1 else (8 * max(p & 15 for p in parts),
                                            8 * max(p >> 4 for p in parts))
    start = at + 2 + length
    end = data.find(_END, start)
    return _Frame(head + data[at:start], data[start:len(data) if end < 0 else end], size_at, block,
                  interval, zeros)


def _may_be_zeros(tables: bytes, before: bool) -> bool:
    """Tell whether the shortest code of brightness ends a block, so that zeros are flat blocks.

    :param tables: the content of a segment of Huffman tables.
    :param before: what the segments before told.
    """
    while len(tables) > 17:
        if tables[0] == _FIRST_AC:
            before = tables[17] == 0
        tables = tables[17 + sum(tables[1:17]):]
    return before
