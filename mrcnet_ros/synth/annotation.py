"""Annotations of pictures, exact to the pixel: silhouettes, visible parts, depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..datasets.bop_writer import Instance, box_xywh
from ..errors import BackendError
from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..objects import Mesh
from ..rendering.renderer import Renderer
from .layout import PlacedObject


class Annotator:
    """Draws each object alone, and finds out which is in front.

    Silhouettes that reach beyond the image are measured on a canvas of three times its size, as
    BOP does.

    :param camera: without distortion.
    :param meshes: by key.
    :param object_ids: by key.
    :raises BackendError: when there is no headless OpenGL, or it draws no such canvas.
    """

    def __init__(self, camera: Camera, meshes: Mapping[str, Mesh],
                 object_ids: Mapping[str, int]) -> None:
        """Open two renderers; :meth:`close` them."""
        self._camera, self._meshes, self._ids = camera, meshes, object_ids
        self._renderer = Renderer(camera.width, camera.height)
        try:
            self._wide = Renderer(3 * camera.width, 3 * camera.height)
        except BackendError as error:
            raise BackendError(f'annotations of images of {camera.width}x{camera.height} pixels '
                               f'are measured on three times that size: {error}') from error
        self._K_wide = camera.K.copy()
        self._K_wide[:2, 2] += camera.width, camera.height
        for key, mesh in meshes.items():
            self._renderer.add_mesh(key, mesh)
            self._wide.add_mesh(key, mesh)

    def close(self) -> None:
        self._renderer.close()
        self._wide.close()

    def annotate(self, placed: Sequence[PlacedObject], T_camera_world: Array,
                 behind_m: NDArray[np.float32]) -> tuple[list[Instance], NDArray[np.float32]]:
        """Annotate each object.

        :param behind_m: (H, W) depth of what is behind all objects [m], 0 where unknown.
        :return: the objects, and the depth of the picture, (H, W) float32 [m], 0 where unknown.
        """
        poses = [T_camera_world @ p.T_world_object for p in placed]
        depths = np.stack([self._renderer.render(p.key, T, self._camera.K, shading='flat').depth_m
                           for p, T in zip(placed, poses, strict=True)])
        distance = np.where(depths > 0, depths, np.inf)
        nearest, front_m = distance.argmin(axis=0), distance.min(axis=0)
        covered = np.isfinite(front_m)
        instances = []
        for index, (p, T) in enumerate(zip(placed, poses, strict=True)):
            mask = depths[index] > 0
            whole, corner_uv = self._silhouette(p.key, T, mask)
            instances.append(Instance(
                self._ids[p.key], T, mask, covered & (nearest == index), int(whole.sum()),
                box_xywh(whole, corner_uv)))
        return instances, np.where(covered, front_m, behind_m).astype(np.float32)

    def _silhouette(self, key: str, T_camera_object: Array, mask: NDArray[np.bool_]
                    ) -> tuple[NDArray[np.bool_], tuple[int, int]]:
        """Return the whole silhouette, and the place of its first pixel in the image."""
        points = self._meshes[key].vertices @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
        if (points[:, 2] > 0).all():
            u, v = self._camera.project(points).T
            if u.min() >= 0 and v.min() >= 0 and u.max() <= self._camera.width - 1 \
                    and v.max() <= self._camera.height - 1:
                return mask, (0, 0)
        wide = self._wide.render(key, T_camera_object, self._K_wide, shading='flat').mask
        return wide, (-self._camera.width, -self._camera.height)
