"""From a detection box to a virtual camera that looks straight at it.

The crop is the image of a second camera at the same place, turned so that its optical axis goes
through the box centre. Poses estimated in it do not depend on where in the image the object is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import BoxError
from ..specs import CropSpec
from .camera import Camera
from .se3 import Array, exp_so3, rotation_to_axis

MIN_BOX_PX = 2.0


@dataclass(frozen=True, eq=False)
class CropCamera:
    """A virtual pinhole camera.

    :param R_crop_camera: (3, 3) rotation from the full camera's frame to the crop's.
    :param K_crop: (3, 3) intrinsics [px], principal point at ``(size_px - 1) / 2``.
    :param size_px: side of the square crop.
    """

    R_crop_camera: Array
    K_crop: Array
    size_px: int

    @property
    def focal_px(self) -> float:
        """Focal length of the crop, the same in both directions."""
        return float(self.K_crop[0, 0])

    @property
    def focal(self) -> float:
        """Focal length in crop widths."""
        return self.focal_px / self.size_px


def pinhole(focal_px: float, size_px: int) -> Array:
    """Return the intrinsics of a square image with a centred principal point.

    :return: (3, 3) [px].
    """
    centre = (size_px - 1) / 2.0
    return np.array([[focal_px, 0.0, centre], [0.0, focal_px, centre], [0.0, 0.0, 1.0]])


def check_box(box_xyxy: ArrayLike, width: int, height: int) -> Array:
    """Return the box as (4,) float64 when it can be cropped.

    :param box_xyxy: x1, y1, x2, y2 [px].
    :raises BoxError: when it is not finite, smaller than 2 px, or outside the image.
    """
    box = np.asarray(box_xyxy, dtype=np.float64).reshape(-1)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise BoxError(f'box must be four finite numbers x1 y1 x2 y2, got {box.tolist()}')
    x1, y1, x2, y2 = box
    if x2 - x1 < MIN_BOX_PX or y2 - y1 < MIN_BOX_PX:
        raise BoxError(f'box must be at least {MIN_BOX_PX:g} px wide and high, got {box.tolist()}')
    if outside(box, width, height):
        raise BoxError(f'box {box.tolist()} lies outside the {width}x{height} image')
    if x2 - x1 > 4 * width or y2 - y1 > 4 * height:
        raise BoxError(f'box {box.tolist()} is far larger than the {width}x{height} image')
    return box


def outside(box_xyxy: Array, width: int, height: int) -> bool:
    """Tell whether a box (4,) [px] has nothing of the image in it."""
    x1, y1, x2, y2 = box_xyxy
    return bool(x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height)


def crop_camera(camera: Camera, box_xyxy: ArrayLike, spec: CropSpec) -> CropCamera:
    """Return the virtual camera that looks at a detection box.

    :param box_xyxy: (4,) x1, y1, x2, y2 in the full image [px].
    :raises BoxError: when the box cannot be cropped.
    """
    x1, y1, x2, y2 = check_box(box_xyxy, camera.width, camera.height)
    u, v = (x1 + x2) / 2.0, (y1 + y2) / 2.0
    half_w, half_h = (x2 - x1) / 2.0, (y2 - y1) / 2.0
    rays = camera.unproject(
        [(u, v), (u - half_w, v), (u + half_w, v), (u, v - half_h), (u, v + half_h)])
    if not np.isfinite(rays).all():
        raise BoxError(
            f"box {[x1, y1, x2, y2]} reaches where the camera's distortion has no viewing ray")
    centre, left, right, top, bottom = rays
    R = rotation_to_axis(centre)
    extent = 0.0
    for first, second in ((left, right), (top, bottom)):
        a, b = R @ first, R @ second
        if a[2] <= 0 or b[2] <= 0:
            raise BoxError(f'box {[x1, y1, x2, y2]} spans 90 degrees or more of view')
        extent = max(extent, float(np.linalg.norm(a[:2] / a[2] - b[:2] / b[2])))
    focal_px = spec.size_px / (spec.padding * extent)
    return CropCamera(R, pinhole(focal_px, spec.size_px), spec.size_px)


def turned(crop: CropCamera, angle_rad: float) -> CropCamera:
    """Return a crop camera turned about its optical axis.

    Convention: the axes turn with the camera, so that its image of the scene turns back.
    """
    R = exp_so3([0.0, 0.0, -angle_rad])
    return CropCamera(R @ crop.R_crop_camera, crop.K_crop, crop.size_px)


def sample_crop(
    image: NDArray[np.uint8], camera: Camera, crop: CropCamera
) -> NDArray[np.uint8]:
    """Return the crop camera's image, bilinear, zero outside the photograph.

    :param image: (H, W, 3) uint8.
    :return: (size_px, size_px, 3) uint8.
    """
    R_camera_crop = crop.R_crop_camera.T
    size = (crop.size_px, crop.size_px)
    if camera.distortion_model == 'none':
        H_image_crop = camera.K @ R_camera_crop @ np.linalg.inv(crop.K_crop)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpPerspective(image, H_image_crop, size, flags=flags), np.uint8)
    grid = np.stack(np.meshgrid(np.arange(crop.size_px), np.arange(crop.size_px)), -1)
    focal, centre = crop.focal_px, (crop.size_px - 1) / 2.0
    rays = np.concatenate([(grid - centre) / focal, np.ones((*size, 1))], axis=-1)
    uv = camera.project(rays @ R_camera_crop.T).astype(np.float32)
    return np.asarray(cv2.remap(image, uv[..., 0], uv[..., 1], cv2.INTER_LINEAR), np.uint8)
