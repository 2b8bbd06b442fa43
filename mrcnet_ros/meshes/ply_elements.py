"""The elements of a PLY file: text or binary, with lists of any lengths.

trimesh reads binary lists of one length only, which leaves out meshes of triangles and quads.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..reading.fields import numbers_of, whole_text
from .files import decoded_text

TYPES = {'char': 'i1', 'int8': 'i1', 'uchar': 'u1', 'uint8': 'u1', 'short': 'i2', 'int16': 'i2',
         'ushort': 'u2', 'uint16': 'u2', 'int': 'i4', 'int32': 'i4', 'uint': 'u4', 'uint32': 'u4',
         'float': 'f4', 'float32': 'f4', 'double': 'f8', 'float64': 'f8'}
ORDERS = {'ascii': '=', 'binary_little_endian': '<', 'binary_big_endian': '>'}
# a header longer than this is none
HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class Property:
    """One value, or one list of values, of every row of an element.

    :param kind: numpy's code of the values.
    :param count_kind: numpy's code of the length in front of a list, '' when it is no list.
    """

    name: str
    kind: str
    count_kind: str = ''


@dataclass(frozen=True, eq=False)
class Lists:
    """A list in every row: ``counts`` (R,) lengths, ``values`` of all lists in one row."""

    counts: NDArray[np.int64]
    values: NDArray[np.generic]


Column = NDArray[np.generic] | Lists


@dataclass(frozen=True, eq=False)
class Element:
    """A table of a PLY file."""

    name: str
    rows: int
    properties: list[Property] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says before its data.

    :param order: of bytes: '=' for text, '<' or '>'.
    :param textures: names of pictures, in their order.
    """

    order: str
    elements: list[Element]
    textures: list[str]
    size: int


def read_ply_header(data: bytes) -> Header:
    """Read the header.

    :param data: the file, or as much of its beginning.
    :raises ValueError: when it is none.
    """
    text, order, elements, textures = data[:HEADER_BYTES], '', list[Element](), list[str]()
    if text[:3] != b'ply':
        raise ValueError('it does not begin with "ply"')
    end = text.find(b'end_header')
    rest = text[end + len(b'end_header'):]
    after = rest.lstrip(b' \t')
    if end < 0 or after[:1] not in (b'\n', b'\r'):
        raise ValueError('its header has no end')
    for line in decoded_text(text[:end]).replace('\r', '\n').split('\n'):
        words = line.split()
        if words[:1] == ['format'] and len(words) == 3:
            order = ORDERS.get(words[1], '')
        elif words[:1] == ['element'] and len(words) == 3:
            elements.append(Element(words[1], whole_text(words[2], 'a count')))
        elif words[:1] == ['property'] and elements:
            elements[-1].properties.append(_property(words))
        elif (words[:1] in (['comment'], ['obj_info'])
              and words[1:2] and words[1].lower().rstrip(':') == 'texturefile'):
            textures.append(line.split(maxsplit=2)[2].strip() if len(words) > 2 else '')
    if not order:
        raise ValueError('its header states no format that is known')
    for names in ([e.name for e in elements], *([p.name for p in e.properties] for e in elements)):
        if len(set(names)) < len(names):
            raise ValueError(f'its header names something twice: {", ".join(names)}')
    # where lines end with CR alone, a byte of LF behind it is the first of the data
    line_end = 2 if after[:2] == b'\r\n' and b'\r\n' in text[:end] else 1
    return Header(order, elements, textures, len(text) - len(after) + line_end)


def read_elements(data: bytes) -> dict[str, dict[str, Column]]:
    """Read all tables: by element and property, a column each.

    :raises ValueError: when there are fewer or more data than the header says.
    """
    header = read_ply_header(data)
    source = _Text(data[header.size:]) if header.order == '=' else _Binary(
        data, header.size, header.order)
    for element in header.elements:
        if not 0 <= element.rows <= len(data):
            raise ValueError(f'its header counts {element.rows} rows of "{element.name}"')
    tables = {element.name: source.read(element) if element.properties else {}
              for element in header.elements}
    source.check_end()
    return tables


def _property(words: list[str]) -> Property:
    try:
        if words[1:2] == ['list'] and len(words) == 5:
            return Property(words[4], TYPES[words[3]], TYPES[words[2]])
        if len(words) == 3:
            return Property(words[2], TYPES[words[1]])
    except KeyError as error:
        raise ValueError(f'its header has the type {error}, which is unknown') from error
    raise ValueError(f'its header has the line "{" ".join(words)}"')


class _Text:
    """Data as numbers in text, divided by blanks."""

    def __init__(self, data: bytes) -> None:
        self._numbers = numbers_of(data.split())
        self._place = 0

    def read(self, element: Element) -> dict[str, Column]:
        """Read a table whose lists all have the lengths of the first row's, or any lengths."""
        is_list = [bool(p.count_kind) for p in element.properties]
        starts, widths, end = self._walk(is_list, min(element.rows, 1))
        stride = np.arange(element.rows)[:, None] * end
        counts = (starts - 1 + stride)[:, is_list]
        if counts.size and (counts.max() >= len(self._numbers) - self._place or (
                self._numbers[self._place + counts] != widths[:, is_list]).any()):
            starts, widths, end = self._walk(is_list, element.rows)
        else:
            starts, widths = starts + stride, np.repeat(widths, element.rows, axis=0)
            end *= element.rows
        numbers = self._numbers[self._place:self._place + end]
        if len(numbers) < end:
            raise ValueError('it has fewer data than its header says')
        self._place += end
        return {p.name: _column(p, numbers, starts[:, i], widths[:, i])
                for i, p in enumerate(element.properties)}

    def _walk(self, is_list: list[bool], rows: int
              ) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Return where the values of each row begin, how many they are, and where all end."""
        starts, widths = np.zeros((2, rows, len(is_list)), np.int64)
        place, numbers = 0, self._numbers[self._place:]
        for row in range(rows):
            for column, has_count in enumerate(is_list):
                width = _count(numbers[place:place + 1]) if has_count else 1
                place += has_count
                starts[row, column], widths[row, column] = place, width
                place += width
        return starts, widths, place

    def check_end(self) -> None:
        if self._place != len(self._numbers):
            raise ValueError('it has more data than its header says')


class _Binary:
    """Data as bytes."""

    def __init__(self, data: bytes, place: int, order: str) -> None:
        self._data, self._place, self._order = data, place, order

    def read(self, element: Element) -> dict[str, Column]:
        """Read a table whose lists all have the lengths of the first row's, or any lengths."""
        kind = self._row_kind(element)
        size = kind.itemsize * element.rows
        if self._place + size <= len(self._data):
            table = np.frombuffer(self._data, kind, element.rows, self._place)
            counts = [table[f'{p.name} count'] for p in element.properties if p.count_kind]
            if all((count == count[:1]).all() for count in counts):
                self._place += size
                return {p.name: Lists(table[f'{p.name} count'].astype(np.int64),
                                      table[p.name].ravel()) if p.count_kind else table[p.name]
                        for p in element.properties}
        return self._walk(element)

    def _row_kind(self, element: Element) -> np.dtype[np.void]:
        fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
        for p in element.properties:
            if not p.count_kind:
                fields.append((p.name, self._order + p.kind))
                continue
            place = self._place + np.dtype(fields).itemsize if fields else self._place
            count = self._number(p.count_kind, place) if element.rows else 0
            fields += [(f'{p.name} count', self._order + p.count_kind),
                       (p.name, self._order + p.kind, (count,))]
        return np.dtype(fields)

    def _walk(self, element: Element) -> dict[str, Column]:
        found: list[list[NDArray[np.generic]]] = [[] for _ in element.properties]
        for _ in range(element.rows):
            for values, p in zip(found, element.properties, strict=True):
                count = 1
                if p.count_kind:
                    count = self._number(p.count_kind, self._place)
                    self._place += np.dtype(p.count_kind).itemsize
                values.append(self._values(p.kind, self._place, count))
                self._place += values[-1].nbytes
        return {p.name: _joined(p, values, self._order)
                for p, values in zip(element.properties, found, strict=True)}

    def _number(self, kind: str, place: int) -> int:
        return _count(self._values(kind, place, 1).astype(np.float64))

    def _values(self, kind: str, place: int, count: int) -> NDArray[np.generic]:
        if place + count * np.dtype(kind).itemsize > len(self._data):
            raise ValueError('it has fewer data than its header says')
        return np.frombuffer(self._data, self._order + kind, count, place)

    def check_end(self) -> None:
        if self._data[self._place:].strip():
            raise ValueError('it has more data than its header says')


def _column(p: Property, numbers: NDArray[np.float64], starts: NDArray[np.int64],
            widths: NDArray[np.int64]) -> Column:
    if not p.count_kind:
        return _as_kind(p, numbers[starts])
    begin = np.cumsum(widths) - widths
    rows = np.repeat(starts - begin, widths) + np.arange(int(widths.sum()))
    return Lists(widths, _as_kind(p, numbers[rows]))


def _as_kind(p: Property, numbers: NDArray[np.float64]) -> NDArray[np.generic]:
    """Return numbers of a text as what the header says that they are.

    :raises ValueError: when whole numbers are not, or do not fit; the rest of 300 / 256 is no 300.
    """
    if p.kind[0] == 'f':
        return numbers.astype(p.kind)
    limits = np.iinfo(p.kind)
    wrong = numbers[~((numbers >= limits.min) & (numbers <= limits.max)
                      & (numbers == np.floor(numbers)))]
    if len(wrong):
        raise ValueError(f'its "{p.name}" are whole numbers from {limits.min} to {limits.max} by '
                         f'its header, but one is {wrong[0]:g}')
    return numbers.astype(p.kind)


def _joined(p: Property, values: list[NDArray[np.generic]], order: str) -> Column:
    joined = np.concatenate([np.empty(0, order + p.kind), *values])
    return Lists(np.array([len(v) for v in values], np.int64), joined) if p.count_kind else joined


def _count(number: NDArray[np.float64]) -> int:
    """Return the length of a list."""
    if len(number) != 1:
        raise ValueError('it has fewer data than its header says')
    if not 0 <= number[0] < 1e6 or number[0] != int(number[0]):
        raise ValueError(f'it has a list of {number[0]:g} values')
    return int(number[0])
