"""What a depth image holds where poses say that the surfaces of objects are.

Convention: depth is z along the optical axis [m], of the pixels of the colour image, 0 or not
finite where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array
from .depth_surface import FLATTEST_COSINE, SampledSurface

Bools = NDArray[np.bool_]

# Fewer points tell nothing of an object.
LEAST_POINTS = 20
# Least width of the search for the distance, and least gates, [m]: the noise of a depth camera at
# a metre.
SMALLEST_KERNEL_M = 0.004
# A point that should be seen but lies further behind than this many diameters contradicts the
# pose; one further in front is hidden by something else and says nothing.
CONTRADICTION = 0.06


@dataclass(frozen=True, eq=False)
class Look:
    """What the depth image holds where poses say that objects are seen.

    :param z_m: (N, K) of the points of the objects.
    :param measured_m: (N, K) by the depth image.
    :param facing_m: (N, K) distance of the camera from the plane of each point, negative.
    :param J: (N, K, 6) how a motion of the object moves its points along their normals.
    :param visible: (N, K) whether a point should be seen.
    :param known: (N, K) whether it should and was measured.
    """

    z_m: Array
    measured_m: Array
    facing_m: Array
    J: Array
    visible: Bools
    known: Bools

    @property
    def ahead_m(self) -> Array:
        """Return how far behind the points the surface was measured, (N, K)."""
        return self.measured_m - self.z_m

    @property
    def off_m(self) -> Array:
        """Return how far outside of the points' planes the surface was measured, (N, K)."""
        return (self.measured_m / self.z_m - 1.0) * self.facing_m


class DepthEyes:
    """Looks up what a depth image holds where objects are.

    :param depth_m: (H, W) registered to the image of ``camera``.
    """

    def __init__(self, surfaces: Sequence[SampledSurface], depth_m: NDArray[np.float32],
                 camera: Camera) -> None:
        self._surfaces, self._camera = surfaces, camera
        self._depth_m = np.ravel(depth_m)
        self.diameter_m = np.array([surface.diameter_m for surface in surfaces])

    def turn_to(self, T: Array) -> None:
        """Choose the points that are seen in poses, (N, 4, 4)."""
        seen = [surface.seen_from(pose) for surface, pose in zip(self._surfaces, T, strict=True)]
        self._vectors = np.stack([s.vectors for s in seen])
        self._real = np.stack([s.real for s in seen])

    def look(self, T: Array) -> Look:
        """Compare poses, (N, 4, 4), with the depth image."""
        count, points = self._real.shape
        Rt = np.swapaxes(T[:, :3, :3], 1, 2)
        turned = (self._vectors.reshape(count, 3 * points, 3) @ Rt).reshape(count, points, 3, 3)
        P = turned[:, :, 0] + T[:, None, :3, 3]
        z = P[..., 2]
        facing = (P * turned[:, :, 1]).sum(axis=-1)
        visible = self._real & (z > 1e-3) & (
            facing < -FLATTEST_COSINE * np.sqrt((P * P).sum(axis=-1)))
        z = P[..., 2] = np.where(visible, z, 1.0)
        measured = self._measured(P)
        known = visible & (measured > 0) & (measured < np.inf)
        measured = np.where(known, measured, 0.0)
        return Look(z, measured, facing, turned[:, :, 1:].reshape(count, points, 6), visible,
                     known)

    def _measured(self, P: Array) -> Array:
        """Return the depth where points, (N, K, 3), are seen, (N, K) [m], 0 outside the image."""
        camera = self._camera
        uv = camera.project(P)
        if camera.lens is not None:  # it may not see a point at all
            uv = np.nan_to_num(uv, nan=-9.0)
        pixel = np.rint(uv).astype(np.int64)
        column, row = pixel[..., 0], pixel[..., 1]
        inside = (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
        return np.where(inside, self._depth_m[(row * camera.width + column) * inside], 0.0)


def median(values: Array, chosen: Bools) -> Array:
    """Return the median of the chosen values of each row, (N,); nan where there are none."""
    ordered = np.sort(np.where(chosen, values, np.inf), axis=1)
    rows, count = np.arange(len(values)), chosen.sum(axis=1)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[1] - 1)
    middle = (ordered[rows, low] + ordered[rows, high]) / 2
    return np.where(count > 0, middle, np.nan)
