"""What a mesh file says, in the file's own terms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .pictures import EmbeddedPicture
from .polygons import triangulate

Rows = NDArray[np.int64]

# Colours and texture coordinates from 0 to 1 that were computed in float32 end a hair outside.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Paint:
    """How faces are coloured where neither the vertices nor the faces say so themselves.

    :param rgb: plain colour, None for none.
    :param image: texture, None for none; where it has an alpha channel, that counts, too.
    :param opacity: another picture of how opaque the texture is, None for none.
    :param scale: of the texture coordinates (u, v).
    :param offset: added to the scaled texture coordinates.
    :param clamped: whether the texture ends at its borders, or is mirrored there, instead of
        repeating.
    """

    rgb: tuple[int, int, int] | None = None
    image: Path | EmbeddedPicture | None = None
    opacity: Path | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    clamped: bool = False

    @property
    def is_plain_image(self) -> bool:
        """Tell whether it is a texture at the coordinates of the file."""
        return self.image is not None and (*self.scale, *self.offset) == (1.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class IndexedSurface:
    """Triangles whose corners refer to tables of positions, normals and texture coordinates.

    :param positions: (P, 3) float64, in the unit of the file.
    :param corners: (F, 3) rows of ``positions``.
    :param paints: ways in which faces are painted.
    :param face_paints: (F,) rows of ``paints``.
    :param normals: (N, 3), of any length, or None.
    :param normal_rows: (F, 3) rows of ``normals``, -1 where a corner has none.
    :param uv: (T, 2) texture coordinates, (0, 0) at the lower left, or None.
    :param uv_rows: (F, 3) rows of ``uv``, -1 where a corner has none.
    :param vertex_rgb: (P, 3) uint8, or None.
    :param face_rgb: (F, 3) uint8, or None; the colours of vertices come first.
    :param smooth: whether computed normals go on across sharp edges.
    """

    positions: NDArray[np.float64]
    corners: Rows
    paints: tuple[Paint, ...]
    face_paints: Rows
    normals: NDArray[np.float64] | None = None
    normal_rows: Rows | None = None
    uv: NDArray[np.float64] | None = None
    uv_rows: Rows | None = None
    vertex_rgb: NDArray[np.uint8] | None = None
    face_rgb: NDArray[np.uint8] | None = None
    smooth: bool = False

    def images(self) -> list[Path | EmbeddedPicture]:
        """Return the textures that faces use, each once."""
        used = [self.paints[row].image for row in np.unique(self.face_paints)]
        return list(dict.fromkeys(image for image in used if image is not None))


@dataclass(frozen=True, eq=False)
class Polygons:
    """Faces of any number of corners.

    :param sizes: (P,) number of corners of each.
    :param corners: (N,) rows of positions, one face after the other.
    """

    sizes: Rows
    corners: Rows

    def triangles(self, positions: NDArray[np.float64]) -> tuple[Rows, Rows]:
        """Cut the faces; leave out triangles with a corner that occurs twice.

        :param positions: (V, 3).
        :return: (T, 3) rows of ``corners``, and (T,) the face of each.
        :raises ValueError: when a corner is not one of the positions, a position is not finite, or
            outlines cross themselves in more than half a percent of the area.
        """
        rows = self.corners
        wrong = rows[(rows < 0) | (rows >= len(positions))]
        if len(wrong):
            raise ValueError(f'a face has the vertex {wrong[0]}, but there are '
                             f'{len(positions)} vertices, counted from 0')
        if not np.isfinite(positions).all():
            raise ValueError('it has vertices that are not finite')
        found, owners = triangulate(positions[rows], self.sizes)
        a, b, c = rows[found].T
        whole = (a != b) & (b != c) & (c != a)
        return found[whole], owners[whole]
