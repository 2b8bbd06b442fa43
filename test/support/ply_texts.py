"""PLY files of any properties, of the box of :mod:`mesh_texts`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mesh_texts import CORNERS, TRIANGLES, box

FORMATS = {'ascii': '=', 'binary_little_endian': '<', 'binary_big_endian': '>'}
XYZ = [(name, 'float', CORNERS[:, i]) for i, name in enumerate('xyz')]


def columns(names: tuple[str, ...], kind: str, table: np.ndarray) -> list[tuple]:
    """Return properties of one kind."""
    return [(name, kind, table[:, i]) for i, name in enumerate(names)]


def ply(path: Path, vertex: list[tuple], face: list[tuple], head: str = '',
        form: str = 'ascii') -> Path:
    """Write a PLY file of any properties; a list of arrays is a list property."""
    codes = {'float': 'f4', 'double': 'f8', 'uchar': 'u1', 'ushort': 'u2', 'int': 'i4'}
    text, body = f'ply\nformat {form} 1.0\n{head}', b''
    for element, properties in (('vertex', vertex), ('face', face)):
        if not properties:
            continue
        text += f'element {element} {len(properties[0][2])}\n'
        for name, kind, values in properties:
            listed = isinstance(values, list)
            text += f'property {"list uchar " if listed else ""}{kind} {name}\n'
        for row in range(len(properties[0][2])):
            words = []
            for _, kind, values in properties:
                if isinstance(values, list):
                    words.append((np.uint8(len(values[row])), 'u1'))
                words += [(value, codes[kind]) for value in np.atleast_1d(values[row])]
            body += (' '.join(f'{value:.9g}' for value, _ in words) + '\n').encode() \
                if form == 'ascii' else b''.join(
                    np.array(value).astype(FORMATS[form] + code).tobytes()
                    for value, code in words)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() + b'end_header\n' + body)
    return path


def faces(rows: object = TRIANGLES, name: str = 'vertex_indices') -> tuple:
    """Return the list of corners of faces."""
    return (name, 'int', [np.array(row) for row in rows])


VERTEX_RGB = columns(('red', 'green', 'blue'), 'uchar', box().colors)
