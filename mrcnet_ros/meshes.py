"""Mesh files: reading them in metres, telling whether one is the right one and the right size."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import MeshError

NEUTRAL_GREY = 160
DIAMETER_TOLERANCE = 0.03
# Of vertices from the origin, in diameters. Templates and training views reach about 0.6; around
# the middle of its bounding box hardly any object reaches further.
FARTHEST = 0.65
PLY_HEADER_LINES = 200
PLY_COORDINATES = ('u', 's', 'texture_u', 'texcoord')
UNITS_M = {'metres': 1.0, 'centimetres': 0.01, 'millimetres': 0.001, 'inches': 0.0254}


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh ready to be rendered.

    :param vertices: (V, 3) float64 [m], object frame.
    :param faces: (F, 3) int32, rows of ``vertices``.
    :param normals: (V, 3) float64, unit length, object frame.
    :param colors: (V, 3) uint8 RGB; with a texture, the texture's value at each vertex.
    :param texture: (H, W, 3) uint8 RGB, first row on top, or None.
    :param uv: (V, 2) float64 texture coordinates, or None.
        Convention: (0, 0) is the lower left corner of the texture, as in OBJ and OpenGL.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    normals: NDArray[np.float64]
    colors: NDArray[np.uint8]
    texture: NDArray[np.uint8] | None = None
    uv: NDArray[np.float64] | None = None


def mesh_digest(path: Path | str) -> str:
    """Return the sha256 of a mesh file together with its texture, or the material in place of one.

    :raises MeshError: when the file is missing or cannot be read.
    """
    source = Path(path)
    digest = hashlib.sha256()
    try:
        looks = texture_path(source) or _material(source)
        for file in [source] if looks is None else [source, looks]:
            digest.update(file.read_bytes())
    except OSError as error:
        raise MeshError(path, f'cannot be read ({error.strerror})',
                        'check the folder given with --meshes') from error
    return digest.hexdigest()


def texture_path(path: Path) -> Path | None:
    """Return the image a mesh is textured with.

    Of an OBJ its material's ``map_Kd`` or a PNG namesake, of a PLY with texture coordinates the
    ``TextureFile`` of its header.

    :raises MeshError: when the image that is named does not exist.
    """
    if not path.is_file():
        return None
    if path.suffix.lower() == '.ply':
        image = _ply_texture(path)
    else:
        material = _material(path)
        image = _statement(material, 'map_Kd') if material else None
    if image is not None and not image.is_file():
        raise MeshError(path, f'its texture {image} is missing', 'put it beside the mesh')
    namesake = path.with_suffix('.png')
    if image is None and path.suffix.lower() == '.obj' and namesake.is_file():
        return namesake
    return image


def read_mesh(path: Path | str, unit_m: float) -> Mesh:
    """Read a PLY or OBJ file.

    Normals the file lacks are computed; a mesh without colours is a neutral grey.

    :param unit_m: length of the file's unit [m].
    :raises MeshError: when the file cannot be read or holds no triangles.
    """
    source = Path(path)
    try:
        parts = _load(source)
        vertices = np.concatenate([np.asarray(part.vertices, np.float64) for part in parts])
        starts = np.cumsum([0] + [len(part.vertices) for part in parts])
        faces = np.concatenate([np.asarray(part.faces, np.int32) + start
                                for part, start in zip(parts, starts, strict=False)])
        normals = np.concatenate([np.asarray(part.vertex_normals) for part in parts])
    except Exception as error:  # trimesh raises whatever its parsers meet
        raise MeshError(source, f'cannot be read ({error})', 'give a PLY or OBJ file') from error
    if not len(faces) or faces.min() < 0 or faces.max() >= len(vertices):
        raise MeshError(source, f'has {len(vertices)} vertices and {len(faces)} usable triangles')
    if not np.isfinite(vertices).all():
        raise MeshError(source, 'has vertices that are not finite')
    texture, uv = _texture(source, parts)
    colors = np.concatenate([_vertex_colors(part) for part in parts]) \
        if texture is None or uv is None else sample_texture(texture, uv)
    return Mesh(vertices * unit_m, faces.astype(np.int32), _unit(normals), colors, texture, uv)


def sample_texture(texture: NDArray[np.uint8], uv: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the nearest texture pixels; the texture repeats beyond its borders.

    :param texture: (H, W, 3) uint8.
    :param uv: (V, 2), (0, 0) at the lower left.
    :return: (V, 3) uint8.
    """
    height, width = texture.shape[:2]
    column = np.floor(uv[:, 0] * width).astype(np.int64) % width
    row = np.floor((1.0 - uv[:, 1]) * height).astype(np.int64) % height
    return np.asarray(texture[row, column])


def measure_diameter(vertices: NDArray[np.float64]) -> float:
    """Return the largest distance between two vertices.

    :param vertices: (V, 3).
    :return: in the unit of ``vertices``.
    """
    from scipy.spatial import ConvexHull, QhullError
    from scipy.spatial.distance import pdist

    points = np.unique(vertices, axis=0)
    with contextlib.suppress(QhullError):  # flat meshes have no hull
        points = points[ConvexHull(points).vertices]
    return float(pdist(points[:: max(1, len(points) // 4000)]).max())


def check_size(
    path: Path | str, vertices: NDArray[np.float64], diameter_m: float, unit_m: float
) -> None:
    """Check that a mesh can have the stated diameter.

    The diameter lies between the longest side and the diagonal of the bounding box.

    :param vertices: (V, 3) [m].
    :param unit_m: the unit the vertices were read in, for the message.
    :raises MeshError: when it cannot.
    """
    size = np.ptp(vertices, axis=0)

    def fits(scale: float) -> bool:
        low, high = size.max() * scale, float(np.linalg.norm(size)) * scale
        return bool(low * (1 - DIAMETER_TOLERANCE) <= diameter_m
                    <= high * (1 + DIAMETER_TOLERANCE))

    if fits(1.0):
        return
    likely = [name for name, unit in UNITS_M.items() if unit != unit_m and fits(unit / unit_m)]
    raise MeshError(
        path,
        f'read in units of {unit_m:g} m its bounding box has a diagonal of '
        f'{np.linalg.norm(size):.4g} m, but the object has a diameter of {diameter_m:.4g} m',
        f'it looks like the mesh is in {likely[0]}' if likely else
        'give the right mesh, unit or diameter',
    )


def check_origin(path: Path | str, vertices: NDArray[np.float64], diameter_m: float,
                 unit_m: float) -> None:
    """Check that an object can be drawn whole with its origin on the optical axis.

    :param vertices: (V, 3) [m].
    :param unit_m: the unit the vertices were read in, for the message.
    :raises MeshError: when its origin is far from its middle.
    """
    reach = float(np.linalg.norm(vertices, axis=1).max()) / diameter_m
    if reach <= FARTHEST:
        return
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2 / unit_m
    x, y, z = (f'{value:.4g}' for value in middle)
    raise MeshError(
        path,
        f'its origin is far from its middle: it reaches {reach:.2f} diameters from the origin, '
        f'expected at most {FARTHEST}, and would be cut off in training images and templates',
        f'subtract ({x}, {y}, {z}) from the vertices in the file, state the symmetries about the '
        'new origin, and train with that mesh')


def _load(path: Path) -> list[Any]:
    """Return the trimeshes of a file, one for each of its materials."""
    import trimesh

    # asking trimesh for force='mesh' would lose the normals of the file
    loaded: Any = trimesh.load(path, process=False)
    return list(loaded.dump()) if isinstance(loaded, trimesh.Scene) else [loaded]


def _material(path: Path) -> Path | None:
    """Return the material file of an OBJ when it names one that exists."""
    if path.suffix.lower() != '.obj':
        return None
    material = _statement(path, 'mtllib')
    return material if material is not None and material.is_file() else None


def _ply_texture(path: Path) -> Path | None:
    """Return the texture named in a PLY's header, None without coordinates to use it by."""
    image, coordinates = None, False
    with path.open('rb') as lines:
        for line in itertools.islice(lines, PLY_HEADER_LINES):
            words = line.decode(errors='replace').strip().split(maxsplit=2)
            if words[:1] == ['end_header']:
                break
            if [w.lower() for w in words[:2]] == ['comment', 'texturefile'] and len(words) == 3:
                image = path.parent / words[2]
            elif words[:1] == ['property']:
                coordinates |= words[-1].split()[-1] in PLY_COORDINATES
    return image if coordinates else None


def _statement(path: Path, keyword: str) -> Path | None:
    """Return the file named by a statement of an OBJ or MTL file."""
    with path.open(errors='replace') as lines:
        for line in lines:
            words = line.split(maxsplit=1)
            if len(words) == 2 and words[0] == keyword:
                return path.parent / words[1].strip()
    return None


def _unit(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-9, normals / np.maximum(length, 1e-9), [0.0, 0.0, 1.0])


def _texture(
    path: Path, parts: list[Any]
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float64] | None]:
    from PIL import Image

    image, uv = texture_path(path), getattr(parts[0].visual, 'uv', None)
    if image is None or uv is None or len(parts) != 1 or len(uv) != len(parts[0].vertices):
        return None, None
    try:
        pixels = np.array(Image.open(image).convert('RGB'), dtype=np.uint8)
    except OSError as error:
        raise MeshError(path, f'its texture {image} cannot be read ({error})') from error
    return pixels, np.array(uv, dtype=np.float64)[:, :2]


def _vertex_colors(part: Any) -> NDArray[np.uint8]:
    visual, material = part.visual, getattr(part.visual, 'material', None)
    if visual.kind == 'texture' and getattr(material, 'image', None) is not None:
        visual = visual.to_color()
    if visual.kind in ('vertex', 'face'):
        return np.array(visual.vertex_colors[:, :3], dtype=np.uint8)
    diffuse = getattr(material, 'diffuse', None)
    plain = np.full(3, NEUTRAL_GREY) if diffuse is None else np.asarray(diffuse)[:3]
    return np.tile(plain.astype(np.uint8), (len(part.vertices), 1))
