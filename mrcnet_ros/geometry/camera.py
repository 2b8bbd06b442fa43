"""A pinhole camera with the lens distortions that ROS knows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ..errors import CameraError
from .se3 import Array

DISTORTION_LENGTHS = {
    'none': (0,),
    'plumb_bob': (4, 5),
    'rational_polynomial': (8,),
    'equidistant': (4,),
}

# No lens is beyond these; products and inverses of such matrices are not to be trusted.
SHORTEST_FOCAL_PX, LARGEST_PX = 1e-3, 1e8

_NEWTON_STEPS = 20
_NEWTON_STOP_PX = 1e-9
_NEWTON_DIFFERENCE = 1e-6
_REACHED_PX = 1e-6


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics of one image.

    Convention: integer pixel coordinates are pixel centres, ``(u, v)`` = (column, row).

    :param K: (3, 3) float64 [px].
    :param width: image width [px].
    :param height: image height [px].
    :param distortion_model: one of ``none``, ``plumb_bob``, ``rational_polynomial``,
        ``equidistant``.
    :param distortion: its coefficients, in the order of ROS and OpenCV.
    :raises CameraError: when a number cannot be used.
    """

    K: Array
    width: int
    height: int
    distortion_model: str = 'none'
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check every number once, so that a Camera is always usable."""
        K = np.array(self.K, dtype=np.float64)
        if K.shape != (3, 3) or not (np.abs(K) < LARGEST_PX).all():
            raise CameraError(
                f'camera matrix must be 3x3, finite and below {LARGEST_PX:g} px: {K.tolist()}')
        if K[0, 0] < SHORTEST_FOCAL_PX or K[1, 1] < SHORTEST_FOCAL_PX:
            raise CameraError(
                f'focal lengths must be positive, got fx={K[0, 0]}, fy={K[1, 1]}; '
                'is the camera calibrated?'
            )
        if not np.array_equal(K[2], (0.0, 0.0, 1.0)) or K[1, 0] != 0:
            raise CameraError(
                f'camera matrix must be upper triangular with K[2,2]=1: {K.tolist()}')
        if self.width < 1 or self.height < 1:
            raise CameraError(f'image size must be positive, got {self.width}x{self.height}')
        self._check_distortion()
        K.setflags(write=False)
        object.__setattr__(self, 'K', K)

    def _check_distortion(self) -> None:
        lengths = DISTORTION_LENGTHS.get(self.distortion_model)
        if lengths is None:
            raise CameraError(
                f'unknown distortion model {self.distortion_model!r}; '
                f'known: {", ".join(DISTORTION_LENGTHS)}'
            )
        if len(self.distortion) not in lengths:
            raise CameraError(
                f'{self.distortion_model} takes {" or ".join(map(str, lengths))} coefficients, '
                f'got {len(self.distortion)}'
            )
        if not np.isfinite(self.distortion).all():
            raise CameraError(f'distortion must be finite, got {self.distortion}')
        if lengths != (0,) and np.asarray(self.K)[0, 1] != 0:
            raise CameraError(
                f'{self.distortion_model} has no skew, got K[0,1]={np.asarray(self.K)[0, 1]}; '
                'calibrate without skew, or rectify the images')

    def unproject(self, uv: ArrayLike) -> Array:
        """Return the viewing rays of pixels, distortion removed.

        :param uv: (..., 2) [px].
        :return: (..., 3) rays in the camera frame with z = 1; nan where no ray has this pixel.
        """
        uv = np.asarray(uv, dtype=np.float64)
        flat = uv.reshape(-1, 2)
        if self.distortion_model == 'none' or not flat.size:
            inverse = np.linalg.inv(self.K)
            xy = flat @ inverse[:2, :2].T + inverse[:2, 2]
        else:
            xy = self._undistort(flat)
        return np.concatenate([xy, np.ones((len(xy), 1))], axis=1).reshape(*uv.shape[:-1], 3)

    def _undistort(self, uv: Array) -> Array:
        """Refine OpenCV's approximate inverse by Newton steps on the exact projection.

        A distortion polynomial folds over at some radius: rays from beyond the fold are refused.

        :param uv: (N, 2) [px].
        :return: (N, 2) x and y of the rays at z = 1, nan where no ray is found.
        """
        approximate = (cv2.fisheye.undistortPoints if self.distortion_model == 'equidistant'
                       else cv2.undistortPoints)
        xy = approximate(np.ascontiguousarray(uv[:, None]), self.K, np.array(self.distortion))
        rays = np.concatenate([xy[:, 0], np.ones((len(uv), 1))], axis=1)
        with np.errstate(all='ignore'):
            for _ in range(_NEWTON_STEPS):
                residual, slopes = uv - self.project(rays), self._slopes(rays)
                if np.abs(residual).max() < _NEWTON_STOP_PX:
                    break
                a, b, c, d = np.moveaxis(slopes.reshape(-1, 4), -1, 0)
                inverse = np.stack([d, -b, -c, a], -1).reshape(-1, 2, 2)
                inverse /= (a * d - b * c)[:, None, None]
                rays[:, :2] += np.einsum('nij,nj->ni', inverse, residual)
            reached = np.abs(residual).max(axis=1) < _REACHED_PX
            same_side = np.sum((uv - self.K[:2, 2]) * rays[:, :2], axis=1) >= 0
            rays[~(reached & same_side & (np.linalg.det(slopes) > 0)), :2] = np.nan
        return rays[:, :2]

    def _slopes(self, rays: Array) -> Array:
        """Return how pixels move with x and y of rays at z = 1, (N, 2, 2) [px]."""
        step = _NEWTON_DIFFERENCE * np.eye(3)[:2]
        ahead, behind = self.project(np.stack([rays[:, None] + step, rays[:, None] - step]))
        return np.asarray(np.swapaxes(ahead - behind, 1, 2) / (2 * _NEWTON_DIFFERENCE))

    def project(self, points: ArrayLike) -> Array:
        """Return the pixels of points in front of the camera, distortion applied.

        :param points: (..., 3) in the camera frame [m], z > 0.
        :return: (..., 2) [px].
        """
        points = np.asarray(points, dtype=np.float64)
        flat = points.reshape(-1, 3)
        rays = flat / flat[:, 2:]
        if self.distortion_model == 'none' or not flat.size:
            uv = rays @ self.K[:2].T
        else:
            zero = np.zeros(3)
            rays = np.ascontiguousarray(rays[:, None])
            project = (cv2.fisheye.projectPoints if self.distortion_model == 'equidistant'
                       else cv2.projectPoints)
            uv = project(rays, zero, zero, self.K, np.array(self.distortion))[0][:, 0]
        return np.asarray(uv, dtype=np.float64).reshape(*points.shape[:-1], 2)
