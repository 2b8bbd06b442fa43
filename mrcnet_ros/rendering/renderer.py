"""Draws one object at a pose, headless, to the pixel."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..meshes.winding import is_closed_outward
from ..objects import Mesh
from .gl_context import GlContext
from .shading import SHADINGS, Shading, SurfaceProgram

# Raise whenever the pixels of a render change: stored templates are then drawn anew.
# 2: several textures, colours of faces and materials of OBJ files as they are meant
# 3: normals of GLB files
# 4: sharp edges of meshes without normals, normals of mirrored copies
RENDERER_VERSION = 4


@dataclass(frozen=True, eq=False)
class Rendering:
    """What a camera sees of an object.

    :param rgb: (H, W, 3) uint8 RGB, black where empty.
    :param depth_m: (H, W) float32 distance along the optical axis [m], 0 where empty.
    """

    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool, where the object is."""
        return np.asarray(self.depth_m > 0)


@dataclass(frozen=True, eq=False)
class _Part:
    """Faces with one texture, or with none, in the context's memory."""

    primitive: Any
    texture: Any
    index_count: int


@dataclass(frozen=True, eq=False)
class _Uploaded:
    """A mesh in the context's memory."""

    parts: tuple[_Part, ...]
    cull_back_faces: bool
    centre: NDArray[np.float64]
    radius_m: float


class Renderer(AbstractContextManager['Renderer']):
    """Draws uploaded meshes, one at a time, into images of a fixed size.

    Convention: pixel centres are at integer coordinates, so that the image spans
    [-0.5, width - 0.5] and a point projecting to (3.0, 5.0) hits the middle of pixel (3, 5).

    All calls must come from the thread that made the renderer. Several renderers may live at
    once. Closing (or leaving the ``with`` block) frees the context.

    :param width: of the images [px].
    :param height: of the images [px].
    :raises BackendError: when there is no headless OpenGL, or it draws no images of this size.
    """

    def __init__(self, width: int, height: int) -> None:
        """Open a context; the first one of a process takes about a second."""
        if width < 1 or height < 1:
            raise ValueError(f'images must have at least one pixel, got {width}x{height}')
        self.width, self.height = width, height
        self._context = GlContext(width, height)
        self._programs = {
            textured: SurfaceProgram(self._context.gl, textured=textured)
            for textured in (False, True)
        }
        self._meshes: dict[Hashable, _Uploaded] = {}

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the context; harmless when already closed."""
        self._context.close()
        self._meshes.clear()

    def add_mesh(self, key: Hashable, mesh: Mesh) -> None:
        """Upload a mesh, once, to be drawn any number of times.

        :param key: name for :meth:`render`.
        :raises ValueError: when the key is taken.
        """
        if key in self._meshes:
            raise ValueError(f'there is a mesh {key!r} already')
        self._context.make_current()
        gl = self._context.gl
        self._meshes[key] = _upload(mesh, int(gl.glGetIntegerv(gl.GL_MAX_TEXTURE_SIZE)))

    def render(self, key: Hashable, T_camera_object: ArrayLike, K: ArrayLike, *,
               shading: Shading = 'template') -> Rendering:
        """Draw a mesh.

        :param key: of :meth:`add_mesh`.
        :param T_camera_object: (4, 4) pose [m]; the camera looks along +z, x right, y down.
        :param K: (3, 3) intrinsics of the image [px].
        :param shading: ``'flat'`` the mesh's colours as they are; ``'normals'`` object-frame
            normals n as round(127.5 * (n + 1)); ``'template'`` colours under a headlight.
        :return: the image; empty when the object is behind the camera.
        :raises KeyError: when no mesh was added under the key.
        :raises ValueError: when the pose or the intrinsics are not finite, or the shading is
            unknown.
        :raises RuntimeError: when called by another thread than the one that made the renderer.
        """
        if key not in self._meshes:
            raise KeyError(f'no mesh {key!r}; there are {sorted(map(repr, self._meshes))}')
        if shading not in SHADINGS:
            raise ValueError(f'unknown shading {shading!r}; there are {SHADINGS}')
        T, K = _checked(T_camera_object, K)
        self._context.make_current()
        mesh = self._meshes[key]
        near_m, far_m = depth_range(T, mesh.centre, mesh.radius_m)
        if far_m <= near_m:
            return Rendering(np.zeros((self.height, self.width, 3), np.uint8),
                             np.zeros((self.height, self.width), np.float32))
        clip_camera = projection(K, self.width, self.height, near_m, far_m)
        self._draw(mesh, clip_camera @ T, T[2, :3], shading)
        depth_m = depth_in_metres(self._context.read_depth(), near_m, far_m)
        return Rendering(self._context.read_rgb(), depth_m)

    def _draw(self, mesh: _Uploaded, clip_from_object: NDArray[np.float64],
              headlight: NDArray[np.float64], shading: Shading) -> None:
        gl = self._context.gl
        self._context.clear()
        (gl.glEnable if mesh.cull_back_faces else gl.glDisable)(gl.GL_CULL_FACE)
        gl.glFrontFace(gl.GL_CW)  # our image rows run downwards, OpenGL's upwards
        for part in mesh.parts:
            textured = part.texture is not None and shading != 'normals'
            self._programs[textured].use(clip_from_object.astype(np.float32), headlight, shading)
            if textured:
                gl.glActiveTexture(gl.GL_TEXTURE0)
                part.texture._bind()
            part.primitive._bind()
            gl.glDrawElements(gl.GL_TRIANGLES, part.index_count, gl.GL_UNSIGNED_INT, None)
            part.primitive._unbind()


def depth_range(T_camera_object: NDArray[np.float64], centre: NDArray[np.float64],
                radius_m: float) -> tuple[float, float]:
    """Return near and far planes that hold an object closely, for a precise depth buffer.

    :param T_camera_object: (4, 4) pose [m].
    :param centre: (3,) of the object's bounding sphere, object frame [m].
    :param radius_m: of the bounding sphere.
    :return: near and far [m]; far is not beyond near when all of it is behind the camera.
    """
    z = float(T_camera_object[2, :3] @ centre + T_camera_object[2, 3])
    return max(z - 1.01 * radius_m, 0.01 * radius_m), z + 1.01 * radius_m


def projection(K: NDArray[np.float64], width: int, height: int, near_m: float,
               far_m: float) -> NDArray[np.float64]:
    """Return the matrix from the camera frame [m] to OpenGL clip coordinates.

    Convention: image row 0 comes out as OpenGL's first row, and integer pixel coordinates, which
    OpenGL has at pixel corners, are moved by half a pixel to pixel centres.

    :param K: (3, 3) intrinsics [px].
    :return: (4, 4) float64.
    """
    matrix = np.zeros((4, 4))
    matrix[0, :3] = 2.0 / width * (K[0] + [0.0, 0.0, 0.5])
    matrix[1, :3] = 2.0 / height * (K[1] + [0.0, 0.0, 0.5])
    matrix[:2, 2] -= 1.0
    matrix[2, 2] = (far_m + near_m) / (far_m - near_m)
    matrix[2, 3] = -2.0 * far_m * near_m / (far_m - near_m)
    matrix[3, 2] = 1.0
    return matrix


def depth_in_metres(buffer: NDArray[np.float32], near_m: float,
                    far_m: float) -> NDArray[np.float32]:
    """Undo the depth part of :func:`projection`.

    :param buffer: (H, W) in [0, 1], 1 where empty.
    :return: (H, W) float32 [m], 0 where empty.
    """
    z = near_m * far_m / (far_m - buffer.astype(np.float64) * (far_m - near_m))
    return np.where(buffer < 1.0, z, 0.0).astype(np.float32)


def _checked(T_camera_object: ArrayLike,
             K: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    T, K = np.asarray(T_camera_object, np.float64), np.asarray(K, np.float64)
    for name, matrix, shape in (('T_camera_object', T, (4, 4)), ('K', K, (3, 3))):
        if matrix.shape != shape or not np.isfinite(matrix).all():
            raise ValueError(f'{name} must be {shape} and finite, got {matrix.tolist()}')
    return T, K


def _upload(mesh: Mesh, largest_px: int) -> _Uploaded:
    used = mesh.vertices[np.unique(mesh.faces)]
    centre = (used.min(axis=0) + used.max(axis=0)) / 2
    radius_m = float(np.linalg.norm(used - centre, axis=1).max())
    rows = np.full(len(mesh.faces), -1) if mesh.face_textures is None else mesh.face_textures
    parts = tuple(_upload_part(mesh, mesh.faces[rows == row], int(row), largest_px)
                  for row in np.unique(rows))
    return _Uploaded(parts, is_closed_outward(mesh), centre, radius_m)


def _upload_part(mesh: Mesh, chosen: NDArray[np.int32], texture_row: int, largest_px: int
                 ) -> _Part:
    """Upload faces with one texture, which is shrunk when it is too large for OpenGL."""
    import pyrender

    vertices, faces, order = _cache_friendly(mesh.vertices, chosen)
    uv = np.zeros((len(vertices), 2)) if mesh.uv is None else mesh.uv[order]
    colors = np.full((len(vertices), 4), 255, np.uint8)
    colors[:, :3] = mesh.colors[order]
    primitive = pyrender.Primitive(positions=vertices, normals=mesh.normals[order],
                                   texcoord_0=uv, color_0=colors / 255.0, indices=faces)
    primitive._add_to_context()
    texture = None
    if texture_row >= 0:
        pixels = mesh.textures[texture_row]
        height, width = (min(side, largest_px) for side in pixels.shape[:2])
        if (height, width) != pixels.shape[:2]:
            pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA),
                                np.uint8)
        texture = pyrender.Texture(source=pixels, source_channels='RGB')
        texture._add_to_context()
    return _Part(primitive, texture, faces.size)


def _cache_friendly(vertices: NDArray[np.float64], faces: NDArray[np.int32]
                    ) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int64]]:
    """Sort faces along a space-filling curve and vertices by first use: drawn twice as fast.

    :return: (V', 3) vertices in use, (F, 3) faces of them, (V',) their rows in the mesh.
    """
    corner = vertices[faces].mean(axis=1)
    corner -= corner.min(axis=0)
    cell = (corner / max(corner.max(), 1e-12) * 1023).astype(np.int64)
    code = np.zeros(len(cell), np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= ((cell[:, axis] >> bit) & 1) << (3 * bit + axis)
    faces = faces[np.argsort(code, kind='stable')]
    used, first = np.unique(faces, return_index=True)
    order = used[np.argsort(first)].astype(np.int64)
    renamed = np.empty(len(vertices), np.int32)
    renamed[order] = np.arange(len(order), dtype=np.int32)
    return vertices[order], renamed[faces], order
