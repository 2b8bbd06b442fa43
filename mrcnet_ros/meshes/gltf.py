"""Reads GLB files, binary glTF 2.0: metres, y up, everything in one file.

trimesh decodes them. Colours of vertices and materials are linear in glTF, those of textures are
not; here all become what a screen shows. What trimesh leaves out or gets wrong is refused by
:mod:`.gltf_checks`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError
from ..geometry.se3 import Array
from .gltf_checks import (
    ALPHA_CUTOFF,
    check_header,
    check_pictures,
    read_glb_header,
    textured_parts,
    textures_end,
)
from .light import linear, shown
from .mesh import NEUTRAL_GREY
from .pictures import OPAQUE, EmbeddedPicture
from .surface import IndexedSurface, Paint, Rows


def read_glb(path: Path) -> IndexedSurface:
    """Read the triangles of the scene, each part where its node puts it.

    :raises MeshError: when the file is damaged, or has what cannot be read right.
    :raises OSError: when it cannot be opened.
    """
    import trimesh

    header = read_glb_header(path)
    check_header(path, header)
    try:
        with path.open('rb') as file:
            scene = trimesh.load_scene(file, file_type='glb', process=False)
        nodes = list(scene.graph.nodes_geometry)
        parts = [_placed(scene, node) for node in nodes]
        normals = [_given_normals(scene, node) for node in nodes]
        textured, ends = textured_parts(header), textures_end(header)
        check_pictures(path, header)
    except (OSError, MeshError):
        raise
    except Exception as error:  # trimesh raises whatever its parsers meet
        raise MeshError(path, f'cannot be read ({error})', 'export it again') from error
    if not parts:
        raise MeshError(path, 'has no triangles in its scene')
    _check_pictures(path, parts, textured)
    return _joined(path, parts, normals, ends=ends)


def _placed(scene: Any, node: str) -> Any:
    """Return the mesh of a node, a trimesh object in the frame of the file."""
    T, name = scene.graph[node]
    part = scene.geometry[name].copy()
    part.apply_transform(T)
    return part


def _joined(path: Path, parts: list[Any], given: list[Array | None], *, ends: bool
            ) -> IndexedSurface:
    """Return the parts as one surface.

    :param given: of each part, the normals of the file, None where it has none.
    :param ends: whether a texture ends at its borders; trimesh does not tell which.
    """
    starts = np.cumsum([0, *(len(p.vertices) for p in parts)])
    corners = [np.asarray(p.faces, np.int64) + s for p, s in zip(parts, starts, strict=False)]
    pictures: dict[Hashable, EmbeddedPicture] = {}
    paints = [replace(_paint(part, pictures), clamped=ends) for part in parts]
    rows: list[Rows] = [c if n is not None else np.full_like(c, -1)
                        for c, n in zip(corners, given, strict=True)]
    uv = [_uv(path, part, paint) for part, paint in zip(parts, paints, strict=True)]
    everything = np.concatenate(corners)
    textured = any(paint.image is not None for paint in paints)
    return IndexedSurface(
        np.concatenate([np.asarray(p.vertices, np.float64) for p in parts]), everything,
        tuple(paints),
        np.repeat(np.arange(len(parts)), [len(c) for c in corners]),
        normals=np.concatenate([np.zeros((len(p.vertices), 3)) if n is None else n
                                for p, n in zip(parts, given, strict=True)]),
        normal_rows=np.concatenate(rows),
        uv=np.concatenate(uv) if textured else None,
        uv_rows=everything if textured else None,
        vertex_rgb=np.concatenate([_vertex_rgb(p, paint)
                                   for p, paint in zip(parts, paints, strict=True)]))


def _given_normals(scene: Any, node: str) -> Array | None:
    """Return the normals that the file has for a node, (V, 3) in the frame of the file.

    They are taken before trimesh copies the part, which leaves them out, and turned here, because
    older releases of it turn them as directions.
    """
    T, name = scene.graph[node]
    part, matrix = scene.geometry[name], np.asarray(T[:3, :3], np.float64)
    if 'vertex_normals' not in part._cache.cache:  # trimesh does not tell otherwise
        return None
    # the inverse transpose but for a positive factor; a flattened part has it, too
    turn = np.cross(matrix[[1, 2, 0]], matrix[[2, 0, 1]])
    side = -1.0 if np.linalg.det(matrix) < 0 else 1.0
    return np.asarray(part.vertex_normals @ (side * turn.T), np.float64)


def _paint(part: Any, pictures: dict[Hashable, EmbeddedPicture]) -> Paint:
    """Return how a part is painted.

    :param pictures: those made so far, by the image and the tint that they are made of.
    """
    material = getattr(part.visual, 'material', None)
    if material is None:
        return Paint()
    factor = _linear_factor(material)
    image = material.baseColorTexture
    if image is None:
        return Paint(rgb=tuple(int(v) for v in shown(factor)))  # type: ignore[arg-type]
    pixels = np.array(image.convert('RGB'), np.uint8)
    opacity = _opacity(material, image)
    # of the pixels as they are seen: those of a palette image are numbers of colours
    key = (pixels.shape, pixels.tobytes(), factor.tobytes(),
           None if opacity is None else opacity.tobytes())
    if key not in pictures:
        if not np.allclose(factor, 1.0):
            pixels = shown(linear(pixels) * factor)
        pictures[key] = EmbeddedPicture(pixels, opacity)
    return Paint(image=pictures[key])


def _opacity(material: Any, image: Any) -> NDArray[np.uint8] | None:
    """Return how opaque a texture is shown, (H, W), None where all of it is opaque."""
    if material.alphaMode not in ('BLEND', 'MASK') or image.mode == 'RGB':
        return None
    alpha = np.array(image.convert('RGBA'), np.uint8)[..., 3]
    if material.alphaMode == 'BLEND':
        return alpha
    factor = 1.0 if material.baseColorFactor is None else material.baseColorFactor[3] / 255.0
    cutoff = ALPHA_CUTOFF if material.alphaCutoff is None else material.alphaCutoff
    return np.asarray(OPAQUE * (factor * alpha >= cutoff * OPAQUE), np.uint8)


def _linear_factor(material: Any) -> Array:
    """Return the tint of a material, (3,) linear, 0 to 1; trimesh has it in 0 to 255."""
    factor = material.baseColorFactor
    return np.ones(3) if factor is None else np.asarray(factor, np.float64)[:3] / 255.0


def _uv(path: Path, part: Any, paint: Paint) -> Array:
    found = getattr(part.visual, 'uv', None)
    if paint.image is None:
        return np.zeros((len(part.vertices), 2))
    if found is None:
        raise MeshError(path, 'has a texture and no texture coordinates', 'export it again')
    return np.asarray(found, np.float64)


def _vertex_rgb(part: Any, paint: Paint) -> NDArray[np.uint8]:
    """Return what vertices look like without a texture, (V, 3)."""
    count = len(part.vertices)
    if part.visual.kind == 'vertex':
        colours = part.visual.vertex_colors
    else:
        colours = getattr(part.visual, 'vertex_attributes', {}).get('color')
    grey = (NEUTRAL_GREY,) * 3
    plain = np.tile(np.array(paint.rgb or grey, np.uint8), (count, 1))
    if colours is None:
        return plain
    rgb = np.asarray(colours)[:, :3]
    part_of_one = rgb / 255.0 if np.issubdtype(rgb.dtype, np.integer) else rgb
    tint = np.ones(3) if paint.rgb is None else linear(np.array(paint.rgb, np.uint8))
    return shown(np.asarray(part_of_one, np.float64) * tint)


def _check_pictures(path: Path, parts: list[Any], textured: int) -> None:
    """Check that no texture was lost; trimesh goes on without those that it cannot decode.

    :param textured: how many parts have one.
    :raises MeshError: when one was.
    """
    found = [part for part in parts
             if getattr(getattr(part.visual, 'material', None), 'baseColorTexture', None)]
    if len(found) < textured:
        raise MeshError(path, 'has a texture that cannot be decoded', 'save it as PNG or JPEG')
    for part in found:
        if part.visual.material.baseColorTexture.mode.startswith(('I', 'F')):
            raise MeshError(path, 'has a texture of more than 8 bits a channel',
                            'save it with 8 bits')
