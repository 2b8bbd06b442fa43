"""A box of six colours as text files of meshes, and pictures of meshes to compare."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.meshes import Mesh, read_mesh
from mrcnet_ros.rendering.renderer import Renderer

COLORS = np.array([[220, 30, 30], [30, 200, 30], [30, 30, 220], [220, 220, 30], [30, 220, 220],
                   [220, 30, 220]], np.uint8)
# corners of the six sides [mm], each side seen from outside
SIDES = np.array([[[30, -20, -40], [30, 20, -40], [30, 20, 40], [30, -20, 40]],
                  [[-30, -20, 40], [-30, 20, 40], [-30, 20, -40], [-30, -20, -40]],
                  [[-30, 20, -40], [-30, 20, 40], [30, 20, 40], [30, 20, -40]],
                  [[30, -20, -40], [30, -20, 40], [-30, -20, 40], [-30, -20, -40]],
                  [[-30, -20, 40], [30, -20, 40], [30, 20, 40], [-30, 20, 40]],
                  [[-30, 20, -40], [30, 20, -40], [30, -20, -40], [-30, -20, -40]]], float)
CORNERS = SIDES.reshape(24, 3)
QUADS = np.arange(24).reshape(6, 4)  # their rows, side by side
SHARED, SHARED_ROWS = np.unique(CORNERS, axis=0, return_inverse=True)
TRIANGLES = np.array([[4 * i + k for k in row] for i in range(6)
                      for row in ((0, 1, 2), (0, 2, 3))], np.int32)
K = np.array([[300.0, 0, 63.5], [0, 300.0, 63.5], [0, 0, 1]])
VIEWS = ([0.5, 0.6, 0.2], [2.2, 0.4, -0.3], [0.3, -2.0, 0.7])


def box() -> Mesh:
    """Return the box, made without a file."""
    normals = np.repeat(SIDES.mean(axis=1), 4, axis=0)
    return Mesh(CORNERS / 1000, TRIANGLES,
                normals / np.linalg.norm(normals, axis=1, keepdims=True),
                np.repeat(COLORS, 4, axis=0))


def side_uv(side: int, left: float = 0.0, width: float = 1.0) -> np.ndarray:
    """Return texture coordinates, (4, 2), in the middle of a side's cell of :func:`atlas`."""
    row, column = divmod(side, 3)
    u, v = (column + np.array([0.2, 0.8])) / 3, 1 - (row + np.array([0.8, 0.2])) / 2
    return np.array([[left + width * a, b] for a, b in ((u[0], v[0]), (u[1], v[0]),
                                                        (u[1], v[1]), (u[0], v[1]))])


def atlas(path: Path) -> Path:
    """Write a picture with a cell of each colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = COLORS.reshape(2, 3, 3).repeat(32, axis=0).repeat(32, axis=1)
    Image.fromarray(cells).save(path)
    return path


def plain(path: Path, color: object) -> Path:
    """Write a picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), color, np.uint8)).save(path)
    return path


def obj_text(head: str = '', before: tuple[str, ...] = ('',) * 6, *, uv: bool = True) -> str:
    """Return the box as an OBJ of six quads.

    :param head: what comes first.
    :param before: what comes before each side.
    """
    lines = [head] + [f'v {x:g} {y:g} {z:g}' for x, y, z in CORNERS]
    lines += [f'vt {u:.6f} {v:.6f}' for i in range(6) for u, v in side_uv(i)] if uv else []
    for side, words in enumerate(before):
        corners = range(4 * side + 1, 4 * side + 5)
        lines += [words, 'f ' + ' '.join(f'{k}/{k}' if uv else f'{k}' for k in corners)]
    return '\n'.join(lines) + '\n'


@functools.cache
def _renderer() -> Renderer:
    return Renderer(128, 128)


def pictures(mesh: Mesh, shading: str = 'flat') -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw a mesh from three sides: colours, and where it is."""
    renderer, key = _renderer(), object()
    renderer.add_mesh(key, mesh)
    views = [renderer.render(key, make_transform(exp_so3(turn), [0, 0, 0.35]), K,
                             shading=shading) for turn in VIEWS]
    return [(view.rgb.copy(), view.mask.copy()) for view in views]


def assert_looks_like(path: Path, wanted: Mesh, shading: str = 'flat') -> Mesh:
    """Check that a file, in millimetres, looks like a mesh; return what was read."""
    mesh = read_mesh(path, 0.001)
    for (rgb, mask), (own_rgb, own_mask) in zip(pictures(mesh, shading),
                                                pictures(wanted, shading), strict=True):
        assert own_mask.sum() > 500
        np.testing.assert_array_equal(mask, own_mask)
        np.testing.assert_allclose(rgb.astype(int), own_rgb.astype(int), atol=2)
    return mesh
