"""What every estimator asks of an image before it looks at it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..geometry.camera import Camera


def check_image(image: NDArray[np.uint8], camera: Camera) -> None:
    """Check an image's type and that it is of the size its camera is calibrated for.

    :raises ImageError: when it is not.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f'image must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}')
    if image.shape[:2] != (camera.height, camera.width):
        raise ImageError(
            f'image is {image.shape[1]}x{image.shape[0]}, but the camera is calibrated for '
            f'{camera.width}x{camera.height}; calibrate for this size or scale the intrinsics')
