"""Poses drawn on a photograph: outline, axes and text of each object."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..objects import ObjectModel
from .drawing import GREEN, Color, Image, draw_lines, draw_text
from .renderer import Renderer

# An object is drawn alone, filling a square of this size, whatever its size in the photograph.
SILHOUETTE_PX = 384
AXES_RGB: tuple[Color, ...] = ((255, 40, 40), (0, 160, 0), (60, 60, 255))  # x, y, z as in RViz

_MARGIN = 1.05  # around the object, so that its outline is inside the picture
_AXIS_POINTS = 9  # of a drawn axis, which a lens bends
_NEAREST_M = 1e-3  # what reaches nearer to the camera, or behind it, has no outline
# tangent of the widest half angle of view that silhouettes are drawn for
_WIDEST = 5.0


@dataclass(frozen=True, eq=False)
class DrawnObject:
    """An object to be drawn.

    :param T_camera_object: (4, 4) [m].
    :param text: written above it, '' for nothing.
    :param color: of the outline and the text.
    :param thickness: of the outline [px].
    """

    label: str
    T_camera_object: Array
    text: str
    color: Color = GREEN
    axes: bool = True
    thickness: int = 1


def pose_text(name: str, score: float, residual_m: float | None) -> str:
    """Return the text of a pose: name, score and, if known, the distance from measured depth."""
    return f'{name} {score:.2f}' + ('' if residual_m is None else f' {1e3 * residual_m:.1f} mm')


class PoseOverlay:
    """Draws known objects; for one thread, the one that made it.

    Photographs may be distorted and of any size: silhouettes are found as straight views of each
    object and bent like the photograph.

    :param objects: by label; a mesh is read once, when its object is drawn for the first time.
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(self, objects: Mapping[str, ObjectModel]) -> None:
        self._objects = objects
        self._corners: dict[str, Array] = {}
        self._renderer = Renderer(SILHOUETTE_PX, SILHOUETTE_PX)

    def close(self) -> None:
        self._renderer.close()

    def draw(self, image_rgb: Image, camera: Camera, objects: Sequence[DrawnObject]) -> Image:
        """Return a copy of a photograph with objects drawn on it.

        An object that reaches behind the camera is left out.

        :param image_rgb: (H, W, 3) uint8.
        :raises MeshError: when a mesh cannot be read.
        """
        picture = image_rgb.copy()
        for item in objects:
            self.upload(item.label)
            T = item.T_camera_object
            corners = self._corners[item.label] @ T[:3, :3].T + T[:3, 3]
            if corners[:, 2].min() < _NEAREST_M:
                continue
            lines = [camera.project(rays) for rays in self._outline(item, corners)]
            draw_lines(picture, lines, item.color, item.thickness)
            if item.axes:
                self._draw_axes(picture, camera, item)
            seen = np.concatenate([*lines, np.empty((0, 2))])
            seen = seen[np.isfinite(seen).all(axis=1)]
            if len(seen) and item.text:
                left, top = np.clip(seen.min(axis=0), -1e6, 1e6)
                draw_text(picture, (int(left), int(top)), item.text, item.color)
        return picture

    def upload(self, label: str) -> None:
        """Read the mesh of an object that is to be drawn, unless that has been done.

        :raises MeshError: when it cannot be read.
        """
        if label in self._corners:
            return
        mesh = self._objects[label].load_mesh()
        # poses are of the real object
        vertices = self._objects[label].size_ratio * mesh.vertices
        self._renderer.add_mesh(label, dataclasses.replace(mesh, vertices=vertices))
        self._corners[label] = _box_corners(vertices)

    def _outline(self, item: DrawnObject, corners: Array) -> list[Array]:
        """Return closed lines around the silhouette, (N, 3) rays with z = 1 each."""
        K = _close_up(corners)
        mask = self._renderer.render(item.label, item.T_camera_object, K, shading='flat').mask
        view = Camera(K, SILHOUETTE_PX, SILHOUETTE_PX)
        return [view.unproject(np.concatenate([line, line[:1]])) for line in _borders(mask)]

    def _draw_axes(self, picture: Image, camera: Camera, item: DrawnObject) -> None:
        model = self._objects[item.label]
        length_m = model.real_diameter_m / 2
        R, origin = item.T_camera_object[:3, :3], item.T_camera_object[:3, 3]
        steps = np.linspace(0.0, length_m, _AXIS_POINTS)[:, None]
        for axis, color in enumerate(AXES_RGB):
            points = origin + steps * R[:, axis]
            if points[:, 2].min() >= _NEAREST_M:
                rays = points / points[:, 2:]
                draw_lines(picture, [camera.project(rays)], color, 2)


def _borders(mask: NDArray[np.bool_]) -> list[Array]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [contour[:, 0].astype(np.float64) for contour in contours]


def _box_corners(vertices: Array) -> Array:
    """Return the corners of the box around vertices, (8, 3)."""
    bounds = vertices.min(axis=0), vertices.max(axis=0)
    return np.array([[x[0], y[1], z[2]] for x in bounds for y in bounds for z in bounds])


def _close_up(corners: Array) -> Array:
    """Return intrinsics (3, 3) [px] with which points fill the square of the silhouette.

    :param corners: (N, 3) in front of the camera [m].
    """
    xy = corners[:, :2] / corners[:, 2:]
    low, high = np.clip([xy.min(axis=0), xy.max(axis=0)], -_WIDEST, _WIDEST)
    middle, half = (low + high) / 2, max(_MARGIN * float((high - low).max()) / 2, 1e-6)
    focal, centre = SILHOUETTE_PX / (2 * half), (SILHOUETTE_PX - 1) / 2
    return np.array([[focal, 0.0, centre - focal * middle[0]],
                     [0.0, focal, centre - focal * middle[1]], [0.0, 0.0, 1.0]])
