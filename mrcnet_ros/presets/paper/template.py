"""The published shading: a grey object under a light at the camera.

Source: mrcnet.md section 5. Computed from rendered normals, whose eight bits leave about one grey
level of error.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...geometry.se3 import Array, make_transform
from ...rendering.renderer import Renderer, Rendering
from .crop import box_map, box_rectangle, covered_fractions
from .spec import PaperSpec

# As published: grey of the object, Phong shading with a light at the camera.
GREY = 0.6
AMBIENT, DIFFUSE, SPECULAR, SHININESS = 0.8, 0.5 * 0.6, 0.1 * 0.6, 10


def draw_template(renderer: Renderer, key: Hashable, R: Array, t_m: Array, K: Array,
                  spec: PaperSpec) -> NDArray[np.float32]:
    """Draw an object at a pose as the network takes it.

    :param renderer: of images of ``spec.size_px``, with a mesh under the key.
    :param R: (3, 3) R_camera_object.
    :param t_m: (3,) t_camera_object [m].
    :param K: (3, 3) intrinsics of the crop [px].
    :return: (4, size_px, size_px): three times the brightness, and the box map.
    """
    drawn = renderer.render(key, make_transform(R, t_m), K, shading='normals')
    grey = phong_brightness(drawn, R, K)
    rectangle = box_rectangle(covered_fractions(drawn.mask), spec)
    return np.stack([grey, grey, grey, box_map(rectangle, spec.size_px)])


def phong_brightness(rendering: Rendering, R_camera_object: ArrayLike,
                     K: ArrayLike) -> NDArray[np.float32]:
    """Return the brightness of an object drawn with the shading ``normals``.

    :param rendering: of the object at a pose.
    :param R_camera_object: (3, 3) of that pose.
    :param K: (3, 3) intrinsics of the image [px].
    :return: (H, W) in 0..1, 0 where empty.
    """
    mask = rendering.mask
    brightness = np.zeros(mask.shape, np.float32)
    normals = rendering.rgb[mask] / 127.5 - 1.0
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    n = normals @ np.asarray(R_camera_object, dtype=np.float64).T
    v, u = np.nonzero(mask)
    rays = np.stack([u, v, np.ones(len(u))], axis=1) @ np.linalg.inv(np.asarray(K, float)).T
    toward_eye = -rays / np.linalg.norm(rays, axis=1, keepdims=True)
    light = np.array([0.0, 0.0, -1.0])
    facing = n @ light
    reflected = 2.0 * facing[:, None] * n - light
    glance = np.maximum(np.sum(reflected * toward_eye, axis=1), 0.0) * (facing > 0)
    brightness[mask] = (GREY * (AMBIENT + DIFFUSE * np.maximum(facing, 0.0))
                        + SPECULAR * glance**SHININESS)
    return brightness
