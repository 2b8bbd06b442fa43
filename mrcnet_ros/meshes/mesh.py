"""The triangle mesh that everything else of the package works with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The colour of a mesh without colours, 0 to 255: neither dark nor burnt out when lit.
NEUTRAL_GREY = 160


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh ready to be rendered.

    :param vertices: (V, 3) float64 [m], object frame.
    :param faces: (F, 3) int32, rows of ``vertices``.
    :param normals: (V, 3) float64, unit length, object frame.
    :param colors: (V, 3) uint8 RGB; where a texture is used, its value at the vertex.
    :param textures: each (H, W, 3) uint8 RGB, first row on top.
    :param uv: (V, 2) float64 texture coordinates, or None without textures.
        Convention: (0, 0) is the lower left corner of the texture, as in OBJ and OpenGL.
    :param face_textures: (F,) int32 rows of ``textures``, -1 for faces drawn in ``colors``; None
        without textures.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    normals: NDArray[np.float64]
    colors: NDArray[np.uint8]
    textures: tuple[NDArray[np.uint8], ...] = ()
    uv: NDArray[np.float64] | None = None
    face_textures: NDArray[np.int32] | None = None

    @property
    def texture(self) -> NDArray[np.uint8] | None:
        """Return the first texture, None without one."""
        return self.textures[0] if self.textures else None


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
