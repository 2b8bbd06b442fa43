"""Refuses textures through which a camera would see: all faces are drawn opaque.

A texture file may be clear where no face uses it, so that what counts is what faces show of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import MeshError
from .mesh import sample_texture
from .mtl import LEAST_OPACITY
from .pictures import OPAQUE, read_mask, read_opacity
from .surface import Paint

# Of the area of the faces that have a texture; at the borders of its pieces, pixels may be clear.
MOST_CLEAR = 0.02
# in which places textures are looked at: about so many in all, and the most of them in a face
POINTS, MOST_POINTS = 20_000, 400
# steps that spread points evenly over a square: the inverses of 1.3247 and of its square
STEPS = (0.7548776662, 0.5698402910)


def check_opaque(path: Path, paint: Paint, uv: NDArray[np.float64],
                 area: NDArray[np.float64]) -> None:
    """Refuse a paint of which faces show clear parts.

    :param path: of the mesh, for the message.
    :param uv: (F, 3, 2) texture coordinates of the faces that have it.
    :param area: (F,) of those faces.
    :raises MeshError: when more than a fiftieth of their area is clear.
    """
    if paint.image is None:
        return
    opacity = (read_opacity(path, paint.image) if paint.opacity is None
               else read_mask(path, paint.opacity))
    clear = opacity < LEAST_OPACITY * OPAQUE
    if not clear.any() or not area.sum() > 0:
        return
    part = float(area @ _part_of_faces(clear, uv) / area.sum())
    if part > MOST_CLEAR:
        raise MeshError(path, f'has a texture that is transparent in {100 * part:.0f} % of the '
                        'area of its faces, and faces are drawn opaque',
                        'cut the mesh instead, or save the texture without transparency')


def _part_of_faces(clear: NDArray[np.bool_], uv: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return which part of each face is clear, (F,)."""
    count = int(np.clip(POINTS // len(uv), 1, MOST_POINTS))
    places = (np.arange(count)[:, None] * STEPS + 1 / 3) % 1.0
    places[places.sum(axis=1) > 1] = 1 - places[places.sum(axis=1) > 1]
    weights = np.column_stack([places, 1 - places.sum(axis=1)])
    points = np.einsum('kc,fcu->fku', weights, uv)
    found = sample_texture(clear.astype(np.uint8), points.reshape(-1, 2))
    return np.asarray(found.reshape(-1, count).mean(axis=1, dtype=np.float64))
