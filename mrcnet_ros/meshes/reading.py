"""Reads mesh files of all kinds, and lists the other files that belong to one."""

from __future__ import annotations

import functools
import hashlib
import logging
from pathlib import Path

from ..errors import MeshError
from .building import build_mesh
from .gltf import read_glb
from .mesh import Mesh
from .obj import companions_of_obj, read_obj
from .off import read_off
from .ply import ply_lacks_picture, ply_textures, read_ply
from .stl import read_stl
from .surface import IndexedSurface

MESH_FILES = ('.ply', '.obj', '.off', '.stl', '.glb')  # suffixes that are read


def read_mesh(path: Path | str, unit_m: float) -> Mesh:
    """Read a PLY, OBJ, OFF, STL or GLB file.

    Normals the file lacks are computed; a mesh without colours is a neutral grey.

    :param unit_m: length of the file's unit [m].
    :raises MeshError: when the file, or one that it needs, is missing, cannot be read right, or
        holds no triangles.
    """
    source = Path(path)
    try:
        return build_mesh(source, _read_surface(source), unit_m)
    except OSError as error:
        raise _missing(source, error) from error


def companion_files(path: Path | str) -> list[Path]:
    """Return the other files on which the looks of a mesh depend: materials and textures.

    :raises MeshError: when the file, or one that it needs, is missing or cannot be read right.
    """
    source = Path(path)
    try:
        if source.suffix.lower() == '.ply':
            return list(dict.fromkeys(ply_textures(source)))
        if source.suffix.lower() == '.obj':
            return companions_of_obj(source)
        _check_kind(source)
        return []
    except OSError as error:
        raise _missing(source, error) from error


def mesh_digest(path: Path | str) -> str:
    """Return the sha256 of a mesh file together with all files on which its looks depend.

    :raises MeshError: when one is missing or cannot be read.
    """
    files = companion_files(path)
    digest = hashlib.sha256()
    try:
        digest.update(Path(path).read_bytes())
        for file in files:
            content = file.read_bytes()
            if len(files) > 1:  # a single one is hashed as model.json has had it from the start
                digest.update(f'\0{file.name}\0{len(content)}\0'.encode())
            digest.update(content)
    except OSError as error:
        raise _missing(Path(path), error) from error
    return digest.hexdigest()


@functools.lru_cache(maxsize=1024)  # commands read a mesh several times
def tell_grey(path: Path) -> None:
    """Warn of a mesh that had a picture in the program that made it, and has none in its file.

    Blender writes texture coordinates into PLY files and never the name of the picture, and into
    OBJ files without their materials.

    :raises MeshError: when the file cannot be read right.
    """
    try:
        kind = path.suffix.lower()
        grey = ply_lacks_picture(path) if kind == '.ply' else (
            kind == '.obj' and _lacks_picture(read_obj(path)))
    except OSError as error:
        raise _missing(path, error) from error
    if grey:
        logging.getLogger(__name__).warning(
            '%s: has texture coordinates, but names no picture and has no colours, so it is drawn '
            'in grey; if the object has a texture, put it beside the mesh as %s, or export the '
            'mesh as GLB', path, path.with_suffix('.png').name)


def _lacks_picture(surface: IndexedSurface) -> bool:
    plain = all(paint.rgb is None and paint.image is None for paint in surface.paints)
    return surface.uv is not None and plain and surface.vertex_rgb is None


def _read_surface(path: Path) -> IndexedSurface:
    kind = path.suffix.lower()
    if kind == '.ply':
        return read_ply(path)
    if kind == '.obj':
        return read_obj(path)
    if kind == '.off':
        return read_off(path)
    _check_kind(path)
    return read_glb(path) if kind == '.glb' else read_stl(path)


def _check_kind(path: Path) -> None:
    path.stat()
    if path.suffix.lower() not in MESH_FILES:
        raise MeshError(path, f'is of a kind that is not read: {path.suffix or "no suffix"}',
                        f'convert it to one of {", ".join(MESH_FILES)}')


def _missing(path: Path, error: OSError) -> MeshError:
    if error.errno is None:  # of a decoder
        return MeshError(path, f'cannot be read ({error})', 'export it again')
    other = '' if str(error.filename) in ('None', str(path)) else f': {error.filename}'
    return MeshError(path, f'cannot be read ({error.strerror}{other})',
                     'check its path; a model has its meshes in the folder that --meshes names')
