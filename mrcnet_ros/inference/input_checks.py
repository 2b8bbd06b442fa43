"""Checks of what a program gives to an estimator: image, depth, camera, detections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraError, ImageError, SpecError
from ..geometry.camera import Camera
from ..geometry.camera_doubts import check_focal_lengths
from .depth_correction import check_depth

ItemT = TypeVar('ItemT')


def all_of(given: Iterable[ItemT], kind: type[ItemT]) -> list[ItemT]:
    """Return detections or starts as a list; a generator could be read only once.

    :raises SpecError: when one is of another type.
    """
    listed = list(given) if isinstance(given, Iterable) else []
    wrong = [item for item in listed if not isinstance(item, kind)]
    if wrong or not isinstance(given, Iterable):
        raise SpecError(f'expected a list of {kind.__name__} objects, got '
                        f'{type(wrong[0] if wrong else given).__name__}')
    return listed


def checked_counts(most: Mapping[str, int]) -> dict[str, int]:
    """Return how often objects are there at most, by label.

    :raises SpecError: when a count is no whole number, or negative.
    """
    if not isinstance(most, Mapping):
        raise SpecError(f'most must give a count for each label, got {most!r}')
    for label, count in most.items():
        if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 0:
            raise SpecError(f'most: {label!r} must be a whole number that is not negative, got '
                            f'{count!r}')
    return {label: int(count) for label, count in most.items()}


def check_inputs(image: NDArray[np.uint8], camera: Camera,
                 depth_m: NDArray[np.float32] | None = None) -> None:
    """Check that image and depth are of a camera.

    :raises ImageError: when one has another type or another size.
    :raises CameraError: when the camera is none.
    """
    for name, value in (('image', image), ('depth', depth_m)):
        if not isinstance(value, np.ndarray) and not (name == 'depth' and value is None):
            raise ImageError(f'{name} must be a NumPy array, got {type(value).__name__}; '
                             'numpy.asarray makes one of a picture of Pillow')
    if not isinstance(camera, Camera):
        raise CameraError(f'camera must be a Camera, got {type(camera).__name__}; make one with '
                          'Camera(K, width, height)')
    _check_image(image, camera)
    check_focal_lengths(camera, 'the camera')
    if depth_m is not None:
        check_depth(depth_m, camera)


def _check_image(image: NDArray[np.uint8], camera: Camera) -> None:
    """Check an image's type and that it is of the size its camera is calibrated for.

    :raises ImageError: when it is not.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f'image must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}')
    if image.shape[:2] != (camera.height, camera.width):
        raise ImageError(
            f'image is {image.shape[1]}x{image.shape[0]}, but the camera is calibrated for '
            f'{camera.width}x{camera.height}; calibrate for this size or scale the intrinsics')
