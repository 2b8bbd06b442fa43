"""Writes meshes as PLY files, their textures beside them under names of their own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import MeshError
from .mesh import Mesh
from .ply import ply_textures
from .ply_elements import read_ply_header

# a line may end with CR alone
TEXTURE_LINE = re.compile(
    rb'(?i)(?<=[\r\n])([ \t]*(?:comment|obj_info)[ \t]+texturefile:*)[ \t]+[^\r\n]*')


def copy_ply(source: Path, target: Path) -> None:
    """Copy a PLY file and its textures, which get the name of the copy.

    :raises MeshError: when one is missing or cannot be read.
    :raises OSError: when a file cannot be read or written.
    """
    images = ply_textures(source)
    different = list(dict.fromkeys(images))  # a picture may be named twice
    copies = dict(zip(different, _texture_names(target, [i.suffix for i in different]),
                      strict=True))
    for image, name in copies.items():
        target.with_name(name).write_bytes(image.read_bytes())
    names = [copies[image] for image in images]
    data = source.read_bytes()
    try:
        size = read_ply_header(data).size
    except ValueError as error:
        raise MeshError(source, f'cannot be read: {error}') from error
    left = iter(names)
    header = TEXTURE_LINE.sub(
        lambda line: line[1] + b' ' + next(left).encode() if names else line[0], data[:size])
    target.write_bytes(header + data[size:])


def write_ply(target: Path, mesh: Mesh, unit_m: float) -> None:
    """Write a mesh as a binary PLY file, and its textures as PNG files.

    :param unit_m: length of the file's unit [m].
    :raises OSError: when a file cannot be written.
    """
    from PIL import Image

    names = _texture_names(target, ['.png'] * len(mesh.textures))
    for texture, name in zip(mesh.textures, names, strict=True):
        Image.fromarray(texture).save(target.with_name(name))
    columns = {name: mesh.vertices[:, i] / unit_m for i, name in enumerate('xyz')}
    columns |= {f'n{name}': mesh.normals[:, i] for i, name in enumerate('xyz')}
    if mesh.uv is not None:
        columns |= {'texture_u': mesh.uv[:, 0], 'texture_v': mesh.uv[:, 1]}
    colors = {name: mesh.colors[:, i] for i, name in enumerate(('red', 'green', 'blue'))}
    vertices = np.zeros(len(mesh.vertices), [*((name, '<f4') for name in columns),
                                             *((name, 'u1') for name in colors)])
    for name, values in (columns | colors).items():
        vertices[name] = values
    numbered = [('texture', '<i4')] if names else []
    faces = np.zeros(len(mesh.faces), [('count', 'u1'), ('rows', '<i4', 3), *numbered])
    faces['count'], faces['rows'] = 3, mesh.faces
    if mesh.face_textures is not None:
        faces['texture'] = mesh.face_textures
    header = [
        'ply', 'format binary_little_endian 1.0', *(f'comment TextureFile {n}' for n in names),
        f'element vertex {len(vertices)}', *(f'property float {name}' for name in columns),
        *(f'property uchar {name}' for name in colors), f'element face {len(faces)}',
        'property list uchar int vertex_indices', *('property int texnumber' for _ in numbered),
        'end_header', '']
    target.write_bytes('\n'.join(header).encode() + vertices.tobytes() + faces.tobytes())


def _texture_names(target: Path, suffixes: list[str]) -> list[str]:
    """Return names of textures; several have those of the file, such as ``a.ply.1.png``.

    The second texture of ``a.ply`` is not called ``a_1.png``, as the only one of ``a_1.ply`` is.
    """
    if len(suffixes) == 1:
        return [f'{target.stem}{suffixes[0]}']
    return [f'{target.name}.{number}{suffix}' for number, suffix in enumerate(suffixes)]
