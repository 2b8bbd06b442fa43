"""Paints objects on a table: lit, shadowed, antialiased, with lens blur and sensor noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..objects import Mesh
from ..rendering.drawing import scaled_intrinsics
from ..rendering.renderer import Renderer
from .layout import PlacedObject
from .surroundings import Image, draw_surroundings, draw_table

SUPERSAMPLING = 2  # pictures are drawn this much larger and averaged, for soft edges
# Height of the lamp over its distance aside, varied later; lower lamps make longer shadows.
LIGHT_HEIGHT = 1.6


@dataclass(frozen=True, eq=False)
class Setting:
    """Everything in a picture except its objects.

    :param T_camera_world: (4, 4) [m]; z of the world points up, the table is z = 0.
    :param light: (3,) unit vector of the world towards the lamp.
    :param tint: (3,) colour of the light, of mean 1.
    :param room: (H, W, 3) float32 RGB in 0..255, what is behind the table.
    """

    T_camera_world: Array
    light: Array
    tint: Array
    room: Image
    table_side_m: float


@dataclass(frozen=True, eq=False)
class _Layer:
    """One rendered object at the supersampled size."""

    rgb: Image
    depth_m: NDArray[np.float32]


class Painter(AbstractContextManager['Painter']):
    """Paints pictures of one camera.

    :param camera: without distortion.
    :param meshes: by key.
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(self, camera: Camera, meshes: Mapping[str, Mesh]) -> None:
        """Open a renderer; :meth:`close` it, or use a ``with`` block."""
        self.camera, self._meshes = camera, dict(meshes)
        self._renderer = Renderer(camera.width * SUPERSAMPLING, camera.height * SUPERSAMPLING)
        for key, mesh in self._meshes.items():
            self._renderer.add_mesh(key, mesh)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._renderer.close()

    def paint(self, placed: Sequence[PlacedObject], setting: Setting, rng: np.random.Generator,
              noise: np.random.Generator | None = None) -> NDArray[np.uint8]:
        """Paint one picture, (H, W, 3) uint8 RGB.

        :param rng: draws the table, its shadows' softness and the exposure.
        :param noise: draws the sensor's noise; ``rng`` by default.
        """
        shadows = [_shadow(self._meshes[p.key], p.T_world_object, setting.light) for p in placed]
        table = draw_table(shadows, rng, setting.table_side_m)
        scenery = draw_surroundings(self.camera, setting.T_camera_world, table,
                                    setting.table_side_m, setting.room)
        image = _compose(scenery, [self._layer(p, setting) for p in placed])
        return _expose(image, rng, noise or rng)

    def _layer(self, placed: PlacedObject, setting: Setting) -> _Layer:
        T = setting.T_camera_world @ placed.T_world_object
        K = scaled_intrinsics(self.camera.K, SUPERSAMPLING)
        albedo = self._renderer.render(placed.key, T, K, shading='flat')
        normals = self._renderer.render(placed.key, T, K, shading='normals')
        n = (normals.rgb.astype(np.float32) / 127.5 - 1.0) @ \
            placed.T_world_object[:3, :3].T.astype(np.float32)
        facing = np.maximum(n @ setting.light.astype(np.float32), 0.0)
        lit = 0.42 + 0.16 * n[..., 2] + 0.5 * facing
        rgb = albedo.rgb * lit[..., None] * setting.tint.astype(np.float32)
        return _Layer(np.clip(rgb, 0, 255).astype(np.float32), albedo.depth_m)


def lamp_direction(rng: np.random.Generator) -> Array:
    """Return a unit vector of the world towards the lamp, above the table."""
    azimuth = rng.uniform(-np.pi, np.pi)
    direction = np.array([np.cos(azimuth), np.sin(azimuth), LIGHT_HEIGHT * rng.uniform(0.6, 1.5)])
    return np.asarray(direction / np.linalg.norm(direction))


def tint_of(environment: Image) -> Array:
    """Return a slight tint in the colour of a room's light, (3,), of mean 1."""
    mean = environment.mean(axis=(0, 1)).astype(np.float64)
    return np.asarray(0.7 + 0.3 * mean / mean.mean())


def _compose(scenery: Image, layers: Sequence[_Layer]) -> Image:
    """Put the nearest object of each pixel in front."""
    depth = np.stack([np.where(x.depth_m > 0, x.depth_m, np.inf) for x in layers])
    nearest = np.where(np.isfinite(depth).any(axis=0), depth.argmin(axis=0), -1)
    picture = scenery.copy()
    for index, layer in enumerate(layers):
        front = (nearest == index).astype(np.float32)
        cover = _shrink(front)
        picture += _shrink(layer.rgb * front[..., None]) - cover[..., None] * scenery
    return picture


def _shrink(image: Image) -> Image:
    size = (image.shape[1] // SUPERSAMPLING, image.shape[0] // SUPERSAMPLING)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _expose(image: Image, rng: np.random.Generator, noise: np.random.Generator
            ) -> NDArray[np.uint8]:
    """Apply lens blur, exposure and sensor noise."""
    blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.7)) * rng.uniform(0.85, 1.15)
    noisy = blurred + noise.normal(0, rng.uniform(1.0, 4.0), image.shape)
    return np.asarray(np.rint(np.clip(noisy, 0, 255)), dtype=np.uint8)


def _shadow(mesh: Mesh, T_world_object: Array, light: Array) -> Array:
    """Return where the vertices' shadows fall on the table, (V, 2) [m]."""
    points = mesh.vertices @ T_world_object[:3, :3].T + T_world_object[:3, 3]
    return np.asarray(points[:, :2] - points[:, 2:] * light[:2] / light[2])
