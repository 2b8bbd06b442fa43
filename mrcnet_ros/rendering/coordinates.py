"""Object coordinates of rendered templates, at the resolution of the feature maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array
from ..specs import STRIDE


def template_coordinates(depth_m: NDArray[np.float32], K: Array, R_camera_object: Array,
                         distance_m: float, diameter_m: float) -> NDArray[np.float32]:
    """Average the object coordinates of the pixels of every cell.

    :param depth_m: (M, S, S) depth of templates, 0 where empty.
    :param K: (3, 3) their intrinsics [px].
    :param R_camera_object: (M, 3, 3).
    :param distance_m: of the object's origin, on the optical axis.
    :return: (M, 4, S / STRIDE, S / STRIDE): coordinates in half diameters times the covered part
        of the cell, and that part.
    """
    return object_coordinates(depth_m, K, R_camera_object, np.array([0.0, 0.0, distance_m]),
                              diameter_m)


def object_coordinates(depth_m: NDArray[np.float32], K: Array, R_camera_object: Array,
                       t_camera_object: Array, diameter_m: float) -> NDArray[np.float32]:
    """Do what :func:`template_coordinates` does, with the object's origin anywhere.

    :param t_camera_object: (3,) of the object's origin, the same in all images [m].
    """
    count, size = depth_m.shape[:2]
    cells = size // STRIDE
    axis = np.arange(size)
    u, v = np.meshgrid((axis - K[0, 2]) / K[0, 0], (axis - K[1, 2]) / K[1, 1])
    rays = np.stack([u, v, np.ones_like(u)], -1).astype(np.float32)
    mask = (depth_m > 0).astype(np.float32)
    points = rays * depth_m[..., None]
    points -= t_camera_object.astype(np.float32)
    scaled = np.matmul(points.reshape(count, -1, 3), R_camera_object.astype(np.float32))
    scaled *= 2.0 / diameter_m
    maps = np.concatenate([scaled.reshape(count, size, size, 3) * mask[..., None],
                           mask[..., None]], -1)
    blocks = maps.reshape(count, cells, STRIDE, cells, STRIDE, 4).mean((2, 4))
    return np.ascontiguousarray(np.moveaxis(blocks, -1, 1))
