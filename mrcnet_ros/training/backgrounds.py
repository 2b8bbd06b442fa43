"""Backgrounds and light for synthetic images, from folders of photographs and environment maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array
from ..geometry.view_prior import sample_rotations
from ..rendering.background_files import (
    check_images,
    find_images,
    is_environment,
    named_environment,
    read_linear,
)

__all__ = ['background_patches', 'check_images', 'find_images', 'irradiance_matrices']

PATCH_PX = 192  # larger than a view (128 px), so that windows of it are moved and turned
# zonal factors of a clamped cosine over pi, bands 0 to 2 (Ramamoorthi and Hanrahan 2001)
_COSINE = (1.0, 2.0 / 3.0, 0.25)


def background_patches(paths: Sequence[Path], count: int, seed: int) -> NDArray[np.uint8]:
    """Cut patches: perspective views of environment maps, random windows of photographs.

    Of more images than patches, evenly chosen ones are read.

    :return: (count, PATCH_PX, PATCH_PX, 3) uint8 RGB.
    """
    rng = np.random.default_rng([seed, 1])
    patches = np.zeros((count, PATCH_PX, PATCH_PX, 3), np.uint8)
    if len(paths) > count:
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, count).astype(int)]
    share = np.array_split(np.arange(count), len(paths))
    for path, rows in zip(paths, share, strict=True):
        linear = read_linear(path)
        for row in rows:
            cut = _view(linear, rng) if is_environment(path, linear) else _window(linear, rng)
            tone = np.clip(cut * rng.uniform(0.5, 1.6), 0, 1) ** (1 / 2.2)
            patches[row] = np.rint(255 * tone)
    return np.asarray(patches[rng.permutation(count)])


def irradiance_matrices(paths: Sequence[Path]) -> Array:
    """Return the diffuse light of every environment map.

    :return: (M, 3, 4, 4) symmetric; light on a surface of unit normal n (z up), for each colour,
        is ``[n 1] Q [n 1]^T``, scaled to a mean of 1 over all directions.
    """
    found = []
    for path in filter(named_environment, paths):
        linear = read_linear(path)
        if is_environment(path, linear):
            found.append(_irradiance(cv2.resize(linear, (128, 64), interpolation=cv2.INTER_AREA)))
    if not found:
        found.append(np.tile(np.diag([0.0, 0.0, 0.0, 1.0]), (3, 1, 1)))
    return np.array(found)


def _irradiance(image: NDArray[np.float32]) -> Array:
    height, width = image.shape[:2]
    theta = np.pi * (np.arange(height) + 0.5) / height
    phi = 2 * np.pi * (np.arange(width) + 0.5) / width
    weight = np.sin(theta)[:, None, None] * np.ones((1, width, 1))
    weight /= weight.sum()
    d = np.stack(np.broadcast_arrays(np.sin(theta)[:, None] * np.cos(phi),
                                     np.sin(theta)[:, None] * np.sin(phi),
                                     np.cos(theta)[:, None] * np.ones(width)), -1)
    light = (image * weight).astype(np.float64)
    mean = light.sum((0, 1))
    first = np.einsum('hwc,hwi->ci', light, d)
    second = np.einsum('hwc,hwi,hwj->cij', light, d, d)
    Q = np.zeros((3, 4, 4))
    # projection on bands 0, 1, 2: L(n) = mean + 3 d.n + 7.5 (n.S.n - mean / 3)
    Q[:, :3, :3] = _COSINE[2] * 7.5 * second
    Q[:, :3, 3] = Q[:, 3, :3] = _COSINE[1] * 1.5 * first
    Q[:, 3, 3] = _COSINE[0] * mean - _COSINE[2] * 2.5 * mean
    result: Array = Q / mean.mean()
    return result


def _view(environment: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    height, width = environment.shape[:2]
    R = sample_rotations(None, 1, rng)[0]
    half = np.tan(np.radians(rng.uniform(15, 40)))
    axis = np.linspace(-half, half, PATCH_PX)
    x, y = np.meshgrid(axis, axis)
    d = np.stack([x, y, np.ones_like(x)], -1) @ R
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    u = (np.arctan2(d[..., 1], d[..., 0]) / (2 * np.pi) + 0.5) * width
    v = np.arccos(np.clip(d[..., 2], -1, 1)) / np.pi * height
    return np.asarray(cv2.remap(environment, u.astype(np.float32), v.astype(np.float32),
                                cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.float32)


def _window(photo: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    height, width = photo.shape[:2]
    side = int(rng.uniform(0.25, 1.0) * min(height, width))
    x, y = rng.integers(0, width - side + 1), rng.integers(0, height - side + 1)
    return np.asarray(cv2.resize(photo[y:y + side, x:x + side], (PATCH_PX, PATCH_PX),
                                 interpolation=cv2.INTER_AREA), np.float32)
