"""A pinhole camera with the lens distortions that ROS knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import CameraError
from .lens import Lens, find_lens
from .se3 import Array

# Number of coefficients of each model, in the order of sensor_msgs/CameraInfo.
DISTORTION_LENGTHS = {
    'none': (0,),
    'plumb_bob': (4, 5),
    'rational_polynomial': (8,),
    'equidistant': (4,),
}

# No lens is beyond these; products and inverses of such matrices are not to be trusted.
SHORTEST_FOCAL_PX, LARGEST_PX = 1e-3, 1e8
# A larger distance from a camera [m] is in another unit: millimetres give 100 and more.
FARTHEST_M = 100.0
# Calibrations stay far below; powers of larger numbers are not to be trusted.
LARGEST_COEFFICIENT = 1e6


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
    :param part: whether the image is a part of another, whose middle may be anywhere.
    :raises CameraError: when a number cannot be used.
    """

    K: Array
    width: int
    height: int
    distortion_model: str = 'none'
    distortion: tuple[float, ...] = ()
    part: bool = False

    def __post_init__(self) -> None:
        """Check every number once, so that a Camera is always usable."""
        try:
            K = np.array(self.K, dtype=np.float64)
            # OpenCV has coefficients as (1, N) or (N, 1)
            distortion = tuple(np.array(self.distortion, dtype=np.float64).ravel().tolist())
            width, height = int(self.width), int(self.height)
        except (TypeError, ValueError, OverflowError) as error:
            raise CameraError('K, width, height and distortion of a camera must be numbers: '
                              f'{error}') from error
        if (width, height) != (self.width, self.height):
            raise CameraError('image size must be whole numbers, got '
                              f'{self.width}x{self.height}')
        for name, value in (('width', width), ('height', height), ('distortion', distortion)):
            object.__setattr__(self, name, value)
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
            raise CameraError('distortion must be finite, got '
                              f'{list(self.distortion)}')
        if any(abs(k) > LARGEST_COEFFICIENT for k in self.distortion):
            raise CameraError(f'distortion coefficients must be below {LARGEST_COEFFICIENT:g}, '
                              f'got {list(self.distortion)}')
        try:
            find_lens(self.distortion_model, self.distortion)
        except (ArithmeticError, ValueError) as error:  # LinAlgError is a ValueError
            raise CameraError(f'{self.distortion_model} with the coefficients '
                              f'{list(self.distortion)} is no lens ({error})'
                              ) from error
        if lengths != (0,) and np.asarray(self.K)[0, 1] != 0:
            raise CameraError(
                f'{self.distortion_model} has no skew, got K[0,1]={np.asarray(self.K)[0, 1]}; '
                'calibrate without skew, or rectify the images')

    @property
    def lens(self) -> Lens | None:
        """Return what bends the rays, None when the camera is a pinhole."""
        return find_lens(self.distortion_model, self.distortion)

    def unproject(self, uv: ArrayLike) -> Array:
        """Return the viewing rays of pixels, distortion removed.

        :param uv: (..., 2) [px].
        :return: (..., 3) rays in the camera frame with z = 1; nan where no ray has this pixel.
        """
        uv = np.asarray(uv, dtype=np.float64)
        flat, lens = uv.reshape(-1, 2), self.lens
        if lens is None or not flat.size:
            inverse = np.linalg.inv(self.K)
            xy = flat @ inverse[:2, :2].T + inverse[:2, 2]
        else:
            xy = lens.undistort((flat - self.K[:2, 2]) / self.K.diagonal()[:2])
        rays = np.ones((len(xy), 3))
        rays[:, :2] = xy
        return rays.reshape(*uv.shape[:-1], 3)

    def project(self, points: ArrayLike) -> Array:
        """Return the pixels of points in front of the camera, distortion applied.

        :param points: (..., 3) in the camera frame [m], z > 0.
        :return: (..., 2) [px]; of a camera with a lens nan where the lens sees no such point:
            behind the camera, and beyond the fold of the distortion.
        """
        points = np.asarray(points, dtype=np.float64)
        flat, lens = points.reshape(-1, 3), self.lens
        if lens is None or not flat.size:
            uv = (flat / flat[:, 2:]) @ self.K[:2].T
        else:
            z = flat[:, 2]
            if not z.min() > 0.0:
                z = np.where(z > 0.0, z, np.nan)
            u, v = lens.distort(flat[:, 0] / z, flat[:, 1] / z)
            (fx, _, cx), (_, fy, cy), _ = self.K.tolist()
            uv = np.empty((len(flat), 2))
            uv[:, 0], uv[:, 1] = u * fx + cx, v * fy + cy
        return np.asarray(uv, dtype=np.float64).reshape(*points.shape[:-1], 2)
