"""Reads STL files: triangles alone; there are no colours that programs agree on.

trimesh decodes them. It takes a text that is cut off, or a binary file of a wrong length, for one
with fewer triangles or none; here both are refused.
"""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np

from ..errors import MeshError
from .files import lines_of
from .surface import IndexedSurface, Paint

HEADER, TRIANGLE = 84, 50  # bytes
_FACET = re.compile(r'^\s*facet\b', re.IGNORECASE)


def read_stl(path: Path) -> IndexedSurface:
    """Read an STL file, text or binary.

    :raises MeshError: when it is cut off or cannot be read.
    :raises OSError: when it cannot be read.
    """
    import trimesh

    data = path.read_bytes()
    count = struct.unpack_from('<I', data, HEADER - 4)[0] if len(data) >= HEADER else 0
    if len(data) != HEADER + TRIANGLE * count:
        data, count = _text(path, data, count)
    if not count:
        raise MeshError(path, 'has no triangles', 'export it again')
    try:
        loaded = trimesh.load_mesh(io.BytesIO(data), file_type='stl', process=False)
        # each triangle has corners of its own; trimesh joins those of several solids
        positions = np.asarray(loaded.vertices, np.float64)[loaded.faces].reshape(-1, 3)
        corners = np.arange(len(positions)).reshape(-1, 3)
        surface = IndexedSurface(positions, corners, (Paint(),),
                                 np.zeros(len(corners), np.int64))
    except Exception as error:  # trimesh raises whatever its parsers meet
        raise MeshError(path, f'cannot be read ({error})', 'export it again') from error
    if len(corners) != count:
        raise MeshError(path, f'has {count} triangles, of which {len(corners)} can be read',
                        'export it again')
    return surface


def _text(path: Path, data: bytes, count: int) -> tuple[bytes, int]:
    """Return a file that is text as trimesh takes it, and the number of its triangles.

    :param count: of triangles that it has if it is binary.
    :raises MeshError: when it is no text, or is cut off.
    """
    lines = lines_of(data)
    words = [line.split(maxsplit=1)[0].lower() for line in lines if line.strip()]
    if words[:1] != ['solid'] or '\0' in lines[0]:
        raise MeshError(
            path, f'is cut off or damaged: it has {len(data)} bytes, a binary STL of its {count} '
            f'triangles has {HEADER + TRIANGLE * count}', 'copy or export it again')
    if words.count('solid') != words.count('endsolid'):
        raise MeshError(path, f'is cut off: {words.count("solid")} "solid" begin in it and '
                        f'{words.count("endsolid")} end', 'copy or export it again')
    return '\n'.join(lines).encode(), sum(map(bool, map(_FACET.match, lines)))
