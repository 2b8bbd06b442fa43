"""Light on rendered views: one table over surface directions for every drawing of an object.

A view keeps its normals as codes of a fixed set of directions, so that lighting it anew is a look
into a table of a few thousand rows, however elaborate the light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array

SIDE = 64  # of the table of directions: normals are at most 4 degrees off
# Of a symmetric 4x4 form, each once.
_PAIRS = ((0, 0), (1, 1), (2, 2), (3, 3), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))


def normal_codes(normals: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the nearest of the fixed directions (octahedral map, at most 4 degrees off).

    :param normals: (..., 3) uint8, ``127.5 * (n + 1)``.
    :return: (...) uint16, rows of :func:`directions`.
    """
    n = normals.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)
    n /= np.maximum(np.abs(n).sum(-1, keepdims=True), np.float32(1e-6))
    x, y = n[..., 0], n[..., 1]
    below = n[..., 2] < 0
    u = np.where(below, (1 - np.abs(y)) * np.where(x < 0, -1, 1), x)
    v = np.where(below, (1 - np.abs(x)) * np.where(y < 0, -1, 1), y)
    column, row = (np.clip((w + 1) * (SIDE / 2), 0, SIDE - 1).astype(np.uint16) for w in (u, v))
    return np.asarray(row * np.uint16(SIDE) + column, np.uint16)


def directions() -> NDArray[np.float32]:
    """Return the directions that codes stand for, (SIDE**2, 3) unit vectors."""
    axis = (np.arange(SIDE) + 0.5) * (2 / SIDE) - 1
    u, v = np.meshgrid(axis, axis)
    z = 1 - np.abs(u) - np.abs(v)
    x = np.where(z < 0, (1 - np.abs(v)) * np.sign(u), u)
    y = np.where(z < 0, (1 - np.abs(u)) * np.sign(v), v)
    n = np.stack([x, y, z], -1).reshape(-1, 3)
    return np.asarray(n / np.linalg.norm(n, axis=1, keepdims=True), np.float32)


_DIRECTIONS = directions()
_HOMOGENEOUS = np.c_[_DIRECTIONS, np.ones(SIDE**2, np.float32)]
_PRODUCTS = np.stack([_HOMOGENEOUS[:, i] * _HOMOGENEOUS[:, j] for i, j in _PAIRS], 1)


@dataclass(frozen=True, eq=False)
class Light:
    """The light of one scene, in object axes: the z axis of every object is up.

    :param diffuse: (SIDE**2, 3) float32 gain of a matt surface by direction.
    :param lamp: (3,) unit vector towards the lamp.
    :param glare: brightness of a mirrored lamp in grey levels.
    """

    diffuse: NDArray[np.float32]
    lamp: NDArray[np.float32]
    glare: float

    def table(self, R_camera_object: Array, sharpness: float) -> NDArray[np.float32]:
        """Return (SIDE**2, 4): gain of red, green and blue, and what a highlight adds.

        :param sharpness: exponent of the highlight (Blinn).
        """
        result = np.zeros((SIDE**2, 4), np.float32)
        result[:, :3] = self.diffuse
        if self.glare > 0:
            half = self.lamp - R_camera_object[2].astype(np.float32)
            half /= np.linalg.norm(half) + np.float32(1e-6)
            facing = np.maximum(_DIRECTIONS @ half, 0)
            result[:, 3] = np.float32(self.glare) * facing ** np.float32(sharpness)
        return result


def draw_light(rng: np.random.Generator, environment: Array) -> Light:
    """Draw a scene's light: an environment turned about z, and perhaps a lamp.

    :param environment: (3, 4, 4) irradiance matrices.
    """
    azimuth = rng.uniform(-np.pi, np.pi)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(azimuth), -np.sin(azimuth)], [np.sin(azimuth), np.cos(azimuth)]]
    Q = turn.T @ environment @ turn
    factors = np.stack([(1 + (i != j)) * Q[:, i, j] for i, j in _PAIRS]).astype(np.float32)
    softness = np.float32(rng.uniform(0.0, 0.7))
    shade = softness + (1 - softness) * (_PRODUCTS @ factors)
    toward = rng.normal(size=3)
    toward[2] = abs(toward[2])
    lamp = np.asarray(toward / np.linalg.norm(toward), np.float32)
    if rng.random() < 0.6:
        shade += np.float32(rng.uniform(0, 0.8)) * np.maximum(_DIRECTIONS @ lamp, 0)[:, None]
    diffuse = np.asarray(np.sqrt(np.maximum(shade, 0.02)) * rng.uniform(0.75, 1.25), np.float32)
    glare = float(rng.uniform(0, 220)) if rng.random() < 0.5 else 0.0
    return Light(diffuse, lamp, glare)
