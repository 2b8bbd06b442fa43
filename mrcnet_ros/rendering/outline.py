"""The outline of an object in a template, as points of the object."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array


class Outline(NamedTuple):
    """Points of an object on its outline as seen in one view.

    :param points: (P, 3) float32, object frame [m].
    :param normals: (P, 3) float32 unit vectors in the image plane, across the outline, object
        frame; zero where the view does not tell: on parts that are one pixel wide.
    """

    points: NDArray[np.float32]
    normals: NDArray[np.float32]


def template_outline(depth_m: NDArray[np.float32], K: Array, R_camera_object: Array,
                     distance_m: float, count: int) -> Outline:
    """Return points that are spread evenly over the outline of a template.

    :param depth_m: (S, S), 0 where empty. A plate seen edge-on may have no pixel at all; then all
        points and normals are zero.
    :param K: (3, 3) intrinsics [px].
    :param R_camera_object: (3, 3).
    :param distance_m: of the object's origin, on the optical axis.
    :param count: number of points; a short outline repeats some.
    """
    mask = (depth_m > 0).astype(np.uint8)
    if not mask.any():
        return Outline(np.zeros((count, 3), np.float32), np.zeros((count, 3), np.float32))
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0)
    slopes = np.stack([cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)])
    v, u = np.nonzero((mask > 0) & (cv2.erode(mask, np.ones((3, 3), np.uint8)) == 0))
    around = np.argsort(np.arctan2(v - v.mean(), u - u.mean()), kind='stable')
    v, u = (a[around][np.linspace(0, len(u) - 1, count).astype(int)] for a in (v, u))
    normals = slopes[:, v, u] / (np.linalg.norm(slopes[:, v, u], axis=0) + 1e-9)
    # the outline is half a pixel outside of the middle of the last pixel
    x, y = np.stack([u, v]) - 0.5 * normals
    z = depth_m[v, u]
    rays = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones(count)], axis=1)
    points = rays * z[:, None] - [0.0, 0.0, distance_m]
    across = np.column_stack([normals.T, np.zeros(count)])
    return Outline((points @ R_camera_object).astype(np.float32),
                   (across @ R_camera_object).astype(np.float32))
