"""Photo-like pictures of the demo objects with exact poses, boxes and visibility."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..objects import Mesh
from ..rendering.drawing import scaled_intrinsics
from ..rendering.renderer import Renderer
from .layout import Layout, demo_camera, draw_layout
from .surroundings import Image, draw_surroundings, draw_table

SUPERSAMPLING = 2
LIGHT_HEIGHT = 1.6
LEAST_VISIBLE = 0.35


@dataclass(frozen=True, eq=False)
class TrueObject:
    """One object of a scene.

    :param label: its name.
    :param T_camera_object: (4, 4) [m].
    :param box_xyxy: (4,) [px], around its visible pixels.
    :param visible_fraction: visible part of its silhouette, in [0, 1].
    """

    label: str
    T_camera_object: Array
    box_xyxy: Array
    visible_fraction: float


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and what is in it.

    :param image_rgb: (H, W, 3) uint8.
    :param objects: those visible enough for a detector to report.
    """

    image_rgb: NDArray[np.uint8]
    camera: Camera
    objects: tuple[TrueObject, ...]


@dataclass(frozen=True, eq=False)
class _Layer:
    """One rendered object at the supersampled size."""

    rgb: Image
    depth_m: NDArray[np.float32]


class SceneMaker:
    """Draws scenes; the same seed and number give the same scene.

    :param meshes: by label.
    :param environments: (H, W, 3) float32 RGB equirectangular maps.
    :param seed: of all random choices.
    """

    def __init__(self, meshes: Mapping[str, Mesh], environments: Sequence[Image],
                 seed: int) -> None:
        """Open a renderer; :meth:`close` it, or use a ``with`` block."""
        self.camera = demo_camera()
        self._meshes, self._environments, self._seed = dict(meshes), list(environments), seed
        self._renderer = Renderer(self.camera.width * SUPERSAMPLING,
                                  self.camera.height * SUPERSAMPLING)
        for label, mesh in self._meshes.items():
            self._renderer.add_mesh(label, mesh)

    def __enter__(self) -> SceneMaker:
        """Return the maker itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        """Close the renderer."""
        self.close()

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()

    def make(self, number: int) -> Scene:
        """Draw one scene.

        :param number: which one.
        """
        rng = np.random.default_rng([self._seed, number])
        layout = draw_layout(self._meshes, rng)
        light = _light_direction(rng)
        environment = self._environments[int(rng.integers(len(self._environments)))]
        environment = np.roll(environment, int(rng.integers(environment.shape[1])), axis=1)
        shadows = [_shadow(self._meshes[label], T, light)
                   for label, T in layout.T_world_object.items()]
        scenery = draw_surroundings(self.camera, layout.T_camera_world,
                                    draw_table(shadows, rng), environment)
        poses = {label: layout.T_camera_world @ T for label, T in layout.T_world_object.items()}
        tint = _tint(environment)
        layers = {label: self._layer(label, layout, light, tint) for label in poses}
        image, masks = _compose(scenery, layers)
        return Scene(_expose(image, rng), self.camera, tuple(
            TrueObject(label, poses[label], _box(mask), fraction)
            for label, (mask, fraction) in masks.items() if fraction >= LEAST_VISIBLE))

    def _layer(self, label: str, layout: Layout, light: Array, tint: Array) -> _Layer:
        T = layout.T_camera_world @ layout.T_world_object[label]
        K = scaled_intrinsics(self.camera.K, SUPERSAMPLING)
        albedo = self._renderer.render(label, T, K, shading='flat')
        normals = self._renderer.render(label, T, K, shading='normals')
        n = (normals.rgb.astype(np.float32) / 127.5 - 1.0) @ \
            layout.T_world_object[label][:3, :3].T.astype(np.float32)
        lit = 0.42 + 0.16 * n[..., 2] + 0.5 * np.maximum(n @ light.astype(np.float32), 0.0)
        rgb = albedo.rgb * lit[..., None] * tint.astype(np.float32)
        return _Layer(np.clip(rgb, 0, 255).astype(np.float32), albedo.depth_m)


def _compose(scenery: Image, layers: Mapping[str, _Layer]
             ) -> tuple[Image, dict[str, tuple[NDArray[np.bool_], float]]]:
    """Put the nearest object of each pixel in front.

    :return: the picture, and by label the visible (H, W) mask and fraction.
    """
    labels = list(layers)
    depth = np.stack([np.where(layers[x].depth_m > 0, layers[x].depth_m, np.inf) for x in labels])
    nearest = np.where(np.isfinite(depth).any(axis=0), depth.argmin(axis=0), -1)
    picture = scenery.copy()
    masks = {}
    for index, label in enumerate(labels):
        front = (nearest == index).astype(np.float32)
        cover = _shrink(front)
        picture += _shrink(layers[label].rgb * front[..., None]) - cover[..., None] * scenery
        silhouette = int((layers[label].depth_m > 0).sum())
        masks[label] = (cover >= 0.5, float(front.sum()) / max(silhouette, 1))
    return picture, masks


def _shrink(image: Image) -> Image:
    size = (image.shape[1] // SUPERSAMPLING, image.shape[0] // SUPERSAMPLING)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _expose(image: Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Apply lens blur, exposure and sensor noise."""
    blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.7)) * rng.uniform(0.85, 1.15)
    noisy = blurred + rng.normal(0, rng.uniform(1.0, 4.0), image.shape)
    return np.asarray(np.rint(np.clip(noisy, 0, 255)), dtype=np.uint8)


def _box(mask: NDArray[np.bool_]) -> Array:
    """Return the box around a mask, (4,) [px], from the outer edges of its pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5])


def _light_direction(rng: np.random.Generator) -> Array:
    """Return a unit vector of the world towards the light, above the table."""
    azimuth = rng.uniform(-np.pi, np.pi)
    direction = np.array([np.cos(azimuth), np.sin(azimuth), LIGHT_HEIGHT * rng.uniform(0.6, 1.5)])
    return np.asarray(direction / np.linalg.norm(direction))


def _shadow(mesh: Mesh, T_world_object: Array, light: Array) -> Array:
    """Return where the vertices' shadows fall on the table, (V, 2) [m]."""
    points = mesh.vertices @ T_world_object[:3, :3].T + T_world_object[:3, 3]
    return np.asarray(points[:, :2] - points[:, 2:] * light[:2] / light[2])


def _tint(environment: Image) -> Array:
    """Return the colour of the room's light, (3,), slightly, of mean 1."""
    mean = environment.mean(axis=(0, 1)).astype(np.float64)
    return np.asarray(0.7 + 0.3 * mean / mean.mean())
