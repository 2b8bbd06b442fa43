"""Rendered views of the training objects, from which images are composed.

A view keeps unlit colour, normals, cavities and depth, so that light, in-plane rotation, position
and size can be drawn anew for every training image without rendering again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..geometry.crop import pinhole
from ..geometry.se3 import Array, make_transform
from ..geometry.view_prior import elevation_and_tilt, rotation_from_angles, sample_rotations
from ..objects import ObjectModel
from ..rendering.renderer import Renderer
from ..specs import ViewPrior
from .lighting import normal_codes

VIEW_PX = 128
RELATIVE_SIZE = 0.85
BANK_VERSION = 2
_PIXELS = ('albedo', 'normals', 'cavity', 'depth')


@dataclass(frozen=True, eq=False)
class ViewBank:
    """Views of one object, upright, the object's origin on the optical axis.

    :param albedo: (V, S, S, 4) uint8 unlit RGB and mask (255 on the object).
    :param normals: (V, S, S) uint16 codes of object-frame normals, see :mod:`.lighting`.
    :param cavity: (V, S, S) uint8 how deep a place lies among its neighbours, 255 for the deepest.
    :param depth: (V, S, S) float16 depth minus distance, in diameters; 0 off the object.
    :param R_camera_object: (V, 3, 3).
    :param distance_m: (V,) of the object's origin.
    :param diameter_m: of the object.
    """

    albedo: NDArray[np.uint8]
    normals: NDArray[np.uint16]
    cavity: NDArray[np.uint8]
    depth: NDArray[np.float16]
    R_camera_object: Array
    distance_m: Array
    diameter_m: float

    def K(self, view: int) -> Array:
        """Return the intrinsics of a view, (3, 3) [px]."""
        return pinhole(RELATIVE_SIZE * VIEW_PX * self.distance_m[view] / self.diameter_m, VIEW_PX)


@dataclass(frozen=True, eq=False)
class SharedViews:
    """A view bank that can be handed to another process without copying its pixels."""

    albedo: torch.Tensor
    normals: torch.Tensor
    cavity: torch.Tensor
    depth: torch.Tensor
    R_camera_object: Array
    distance_m: Array
    diameter_m: float

    def open(self) -> ViewBank:
        """Return the bank, looking at the same memory."""
        return ViewBank(self.albedo.numpy(), self.normals.numpy(), self.cavity.numpy(),
                        self.depth.numpy(), self.R_camera_object, self.distance_m, self.diameter_m)


def load_or_render(
    folder: Path, objects: Sequence[ObjectModel], priors: Mapping[int, ViewPrior | None],
    distance_m: tuple[float, float], views: int, seed: int,
) -> list[SharedViews]:
    """Return the view banks of objects, rendering those that ``folder`` does not hold yet.

    :param distance_m: nearest and farthest distance of the objects [m].
    :param views: number of views of each object.
    :return: one bank for each object, its arrays in shared memory, so that they are there once
        for all training processes.
    """
    banks = []
    for model in objects:
        prior = priors.get(model.object_id)
        path = Path(folder) / f'{model.label}-{_key(model, prior, distance_m, views, seed)}'
        if not (path / 'done').exists():
            _render(path, model, prior, distance_m, views, seed)
        albedo, normals, cavity, depth = (
            torch.from_numpy(np.load(path / f'{n}.npy')).share_memory_() for n in _PIXELS)
        small = np.load(path / 'views.npz')
        banks.append(SharedViews(albedo, normals, cavity, depth, small['R'], small['distance'],
                                 model.diameter_m))
    return banks


def _key(model: ObjectModel, prior: ViewPrior | None, distance_m: tuple[float, float],
         views: int, seed: int) -> str:
    """Return a name of all that the views of an object depend on."""
    values = [BANK_VERSION, VIEW_PX, RELATIVE_SIZE, model.object_id, model.checked_digest(),
              model.unit_m, model.diameter_m, repr(prior), distance_m, views, seed]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _render(path: Path, model: ObjectModel, prior: ViewPrior | None,
            distance_m: tuple[float, float], views: int, seed: int) -> None:
    logging.getLogger(__name__).info('rendering %d views of %s', views, model.label)
    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, model.object_id])
    R = sample_rotations(prior, views, rng)
    elevation = elevation_and_tilt(R)[0]
    R = rotation_from_angles(rng.uniform(-np.pi, np.pi, views), elevation, 0.0)
    distance = rng.uniform(*distance_m, views)
    shape = (views, VIEW_PX, VIEW_PX)
    albedo = np.zeros((*shape, 4), np.uint8)
    normals, cavity = np.zeros(shape, np.uint16), np.zeros(shape, np.uint8)
    depth = np.zeros(shape, np.float16)
    with Renderer(VIEW_PX, VIEW_PX) as renderer:
        renderer.add_mesh(model.label, model.load_mesh())
        for i in tqdm(range(views), desc=f'views of {model.label}', unit='view'):
            T = make_transform(R[i], [0.0, 0.0, distance[i]])
            K = pinhole(RELATIVE_SIZE * VIEW_PX * distance[i] / model.diameter_m, VIEW_PX)
            flat = renderer.render(model.label, T, K, shading='flat')
            mask = flat.depth_m > 0
            albedo[i, ..., :3], albedo[i, ..., 3] = flat.rgb, 255 * mask
            normals[i] = normal_codes(renderer.render(model.label, T, K, shading='normals').rgb)
            relative = np.where(mask, (flat.depth_m - distance[i]) / model.diameter_m, 0)
            depth[i], cavity[i] = relative, find_cavities(relative.astype(np.float32), mask)
    pixels: tuple[NDArray[np.generic], ...] = (albedo, normals, cavity, depth)
    for name, array in zip(_PIXELS, pixels, strict=True):
        np.save(path / f'{name}.npy', array)
    np.savez(path / 'views.npz', R=R, distance=distance)
    (path / 'done').write_text(str(os.getpid()))


def find_cavities(depth: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Tell where a surface lies behind its neighbourhood, and so gets less light.

    :param depth: (S, S) in diameters.
    :param mask: (S, S) where there is a surface.
    :return: (S, S) uint8, 255 where it lies 0.08 diameters or more behind the mean around it.
    """
    inside = mask.astype(np.float32)
    behind = np.zeros_like(depth)
    for sigma in (3.0, 9.0):
        weight = np.maximum(cv2.GaussianBlur(inside, (0, 0), sigma), np.float32(1e-3))
        mean = cv2.GaussianBlur(depth * inside, (0, 0), sigma) / weight
        behind = np.maximum(behind, depth - mean)
    return np.asarray(np.clip(behind * inside * (255 / 0.08), 0, 255), np.uint8)
