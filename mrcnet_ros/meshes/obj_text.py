"""The statements of OBJ files, and the numbers in them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError
from ..reading.fields import numbers_of
from .files import lines_of
from .surface import Rows

# surfaces, or other files, that are not drawn here
UNSUPPORTED = ('call', 'csh', 'curv', 'curv2', 'maplib', 'sp', 'surf', 'usemap')
BAD_FILE = 'export it again as OBJ or PLY'


# a face whose corners all have the same parts, v, vt and vn; some programs write empty ones
_INDEX = '-?[0-9]{1,18}'
_PARTS: list[tuple[str, list[int]]] = [
    (f'{_INDEX}/{_INDEX}/{_INDEX}', [0, 1, 2]), (f'{_INDEX}/{_INDEX}/?', [0, 1]),
    (f'{_INDEX}//{_INDEX}', [0, 2]), (f'{_INDEX}/{{0,2}}', [0])]
CORNERS = [(re.compile(rf'{corner}(?:\s+{corner})*'), places) for corner, places in _PARTS]
TABLES = ('v', 'vt', 'vn')


@dataclass(eq=False)
class Content:
    """The statements of a file, their words still as text.

    :param tables: words of all lines "v", "vt" and "vn".
    :param counts: of each face, the rows of the tables that were there before it.
    :param materials: names, in the order of use.
    :param face_materials: of each face, the row of ``materials``.
    :param libraries: words of all lines "mtllib".
    :param ends_in_face: whether the text ends within a line of a face, without a line end.
    """

    tables: dict[str, list[str]] = field(default_factory=lambda: {key: [] for key in TABLES})
    faces: list[str] = field(default_factory=list)
    counts: list[tuple[int, int, int]] = field(default_factory=list)
    materials: list[str] = field(default_factory=lambda: [''])
    face_materials: list[int] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)
    ends_in_face: bool = False


def parse(path: Path) -> Content:
    """Read the statements of a file.

    :raises MeshError: when it has surfaces or other files in it that are not supported.
    :raises OSError: when it cannot be read.
    """
    statements = _statements(path)
    content = Content(ends_in_face=statements[-1].split()[:1] in (['f'], ['fo']))
    rows = [content.tables[key] for key in TABLES]
    for number, line in enumerate(statements, start=1):
        words = line.split(maxsplit=1)
        if not words or words[0].startswith('#'):
            continue
        keyword, rest = words[0], words[1].rstrip() if len(words) == 2 else ''
        if keyword in content.tables:
            content.tables[keyword].append(rest.split('#')[0])
        elif keyword in ('f', 'fo'):
            content.faces.append(rest.split('#')[0].strip())
            content.counts.append((len(rows[0]), len(rows[1]), len(rows[2])))
            content.face_materials.append(len(content.materials) - 1)
        elif keyword == 'usemtl':
            content.materials.append(rest)
        elif keyword == 'mtllib':
            content.libraries.append(rest)
        elif keyword in UNSUPPORTED:
            raise MeshError(path, f'cannot be read: "{keyword}" in statement {number} is not '
                            'supported', BAD_FILE)
    return content


def _statements(path: Path) -> list[str]:
    """Return the lines of a file, with those joined that end in a backslash.

    The last one is empty if the text ends with a line end.
    A comment ends with its line: a folder of Windows at its end continues nothing.
    """
    statements: list[str] = []
    joined = ''
    lines = lines_of(path.read_bytes())
    if any('\0' in line for line in lines):
        raise MeshError(path, 'has bytes of zero in its text: a part of it is lost',
                        'copy or export it again')
    for line in lines:
        text = joined + line
        if line.rstrip().endswith('\\') and not text.lstrip().startswith('#'):
            joined = text.rstrip()[:-1] + ' '
            continue
        statements.append(text)
        joined = ''
    return [*statements, joined] if joined else statements


def face_table(path: Path, content: Content) -> tuple[Rows, Rows]:
    """Return the number of corners of each face, (P,), and the rows of all corners, (N, 3).

    They are rows of the three tables, counted from 0, and -1 where a corner has none.

    :raises MeshError: when there are no faces, or an index means nothing.
    """
    if not content.faces:
        raise MeshError(path, f'has {len(content.tables["v"])} vertices and no faces')
    groups: list[list[int]] = [[] for _ in CORNERS]
    for face, text in enumerate(content.faces):
        for group, (form, _) in zip(groups, CORNERS, strict=True):
            if form.fullmatch(text):
                group.append(face)
                break
        else:
            raise MeshError(path, f'cannot be read: "f {text[:60]}" is no face whose corners '
                            'have the same parts', BAD_FILE)
    sizes = np.array([len(text.split()) for text in content.faces], np.int64)
    # a whole file may end in an edge of two corners, but then has others
    if content.ends_in_face and sizes[-1] < 3 and (sizes[:-1] >= 3).all():
        raise MeshError(path, f'is cut off: it ends with the face "f {content.faces[-1]}"',
                        'copy or export it again')
    table = np.full((int(sizes.sum()), 3), -1, np.int64)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    counts = np.array(content.counts, np.int64)
    for faces, (_, places) in zip(groups, CORNERS, strict=True):
        if not faces:
            continue
        words = ' '.join(content.faces[face] for face in faces).replace('/', ' ').split()
        given = np.array(words, np.int64).reshape(-1, len(places))
        here = np.isin(owners, faces)
        before = counts[owners[here]][:, places]
        wrong = ((given == 0) | (given < -before)).any(axis=1)
        if wrong.any():
            face = int(owners[here][wrong][0])
            raise MeshError(path, f'has the face "f {content.faces[face]}" after '
                            f'{counts[face].tolist()} lines of "v", "vt" and "vn": its indices '
                            'count from 1, or from -1 back', BAD_FILE)
        table[np.flatnonzero(here)[:, None], places] = np.where(
            given > 0, given - 1, given + before)
    return sizes, table


def number_table(path: Path, lines: list[str], key: str, least: int, used: Rows
                 ) -> NDArray[np.float64]:
    """Return the numbers of the lines of one kind, filled up with NaN to the longest of them.

    :param least: number of numbers in a line.
    :raises MeshError: when one is missing or cannot be read.
    """
    if used.max() >= len(lines):
        raise MeshError(path, f'has a face with the index {used.max() + 1} of "{key}", but there '
                        f'are {len(lines)}', BAD_FILE)
    rows = [line.split() for line in lines]
    lengths = np.array([len(row) for row in rows], np.int64)
    if (lengths < least).any():
        raise MeshError(path, f'has a line "{key}" with fewer than {least} numbers', BAD_FILE)
    table = np.full((len(rows), max(least, lengths.max(initial=0))), np.nan)
    try:
        for length in np.unique(lengths):
            which = np.flatnonzero(lengths == length)
            table[which, :length] = numbers_of([rows[i] for i in which])
    except ValueError as error:
        raise MeshError(path, f'has a line "{key}" that cannot be read ({error})',
                        BAD_FILE) from error
    return table


