"""Pictures of objects and of the symmetries that were found."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..geometry.crop import pinhole
from ..geometry.se3 import Array, make_transform
from ..geometry.view_prior import rotation_from_angles
from ..objects import ObjectModel
from ..rendering.drawing import GREEN, Image, draw_lines, draw_text
from ..rendering.renderer import Renderer

SIDE_PX = 240  # side of a picture [px]
# Far enough for little perspective; the rest of the side is room for the axes.
DISTANCE_DIAMETERS, RELATIVE_SIZE = 6.0, 0.7
# from two sides above and from below, so that a mark on any side is visible
LOOKS = ((0.6, 0.45), (0.6 + np.pi / 2, 0.45), (0.6, -0.6))
BACKGROUND = 235  # light grey, on a white page
AXES = ((230, 30, 30), (20, 150, 20), (50, 50, 240))  # RGB of x, y, z, as in RViz
MOST_TURNED = 3  # motions that are drawn; a circle has hundreds


def draw_object(item: ObjectModel, axes: Sequence[Array]) -> Image:
    """Draw an object from three sides, then turned by a few symmetries.

    Turned by a symmetry, it must look like the first picture.

    :param axes: of symmetries, (3,) each, drawn as green lines through the middle.
    :return: (H, W, 3) uint8 RGB.
    :raises BackendError: when there is no headless OpenGL.
    """
    centred = item.centred()
    with Renderer(SIDE_PX, SIDE_PX) as renderer:
        renderer.add_mesh('object', centred.load_mesh())
        views = [_draw(renderer, centred, look, np.eye(4), axes) for look in LOOKS]
        for number, T in enumerate(_shown(centred)):
            picture = _draw(renderer, centred, LOOKS[0], T, axes)
            draw_text(picture, (4, 22), f'turned {number + 1}', GREEN)
            views.append(picture)
    draw_text(views[0], (4, 22), 'as it is', GREEN)
    return np.concatenate(views, axis=1)


def _shown(item: ObjectModel) -> Array:
    """Return a few symmetries, spread over all, without the identity."""
    T = item.symmetries.transforms[1:]
    if len(T) <= MOST_TURNED:
        return T
    rows = np.linspace(0, len(T) - 1, MOST_TURNED + 1).astype(int)[1:]
    return np.asarray(T[rows])


def _draw(renderer: Renderer, item: ObjectModel, look: tuple[float, float], T_object: Array,
          axes: Sequence[Array]) -> Image:
    K = pinhole(RELATIVE_SIZE * SIDE_PX * DISTANCE_DIAMETERS, SIDE_PX)
    ahead = [0.0, 0.0, DISTANCE_DIAMETERS * item.diameter_m]
    T_camera = make_transform(rotation_from_angles(*look, 0.0), ahead)
    drawn = renderer.render('object', T_camera @ T_object, K, shading='template')
    picture = np.where(drawn.mask[..., None], drawn.rgb, np.uint8(BACKGROUND)).astype(np.uint8)
    length = 0.62 * item.diameter_m
    for axis in axes:
        _line(picture, K, T_camera, -length * axis, length * axis, GREEN)
    for k, colour in enumerate(AXES):
        _line(picture, K, T_camera, np.zeros(3), 0.3 * item.diameter_m * np.eye(3)[k], colour)
    return picture


def _line(picture: Image, K: Array, T: Array, a: Array, b: Array,
          colour: tuple[int, int, int]) -> None:
    ends = np.stack([a, b]) @ T[:3, :3].T + T[:3, 3]
    uv = ends @ K.T
    draw_lines(picture, [uv[:, :2] / uv[:, 2:]], colour, 2)


def png(picture: Image) -> bytes:
    """Return a picture as a PNG file."""
    done, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError('the picture cannot be encoded')
    return bytes(data)


def axes_of(symmetries: Array) -> list[Array]:
    """Return the axes of symmetry rotations, each once, (3,).

    :param symmetries: (S, 4, 4), the identity first.
    """
    found: list[Array] = []
    for R in symmetries[1:, :3, :3]:
        values, vectors = np.linalg.eig(R)
        axis = np.real(vectors[:, int(np.argmin(np.abs(values - 1.0)))])
        if all(abs(float(axis @ other)) < 0.999 for other in found):
            found.append(axis / np.linalg.norm(axis))
        if len(found) == 6:
            break
    return found
