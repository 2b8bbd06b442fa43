"""From a detection box to a virtual camera that looks straight at it.

The crop is the image of a second camera at the same place, turned so that its optical axis goes
through the box centre. Poses estimated in it do not depend on where in the image the object is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import BoxError
from ..specs import CropSpec
from .camera import Camera
from .se3 import Array, rotation_to_axis

MIN_BOX_PX = 2.0  # a smaller box shows nothing
# With a lens, the middle of the box's content may be this far from the ray of the box's middle, in
# sides of the box. Perspective alone makes 2 or 3 %, and training knows boxes that are 12 % off.
OFF_CENTRE = 0.05
LEAST_SEEN = 0.5  # of the way from a box's centre to each side must have viewing rays
# Centre, left, right, top and bottom as sums of x1, y1, x2, y2: (4, 5, 2).
_PLACES = np.array([
    [[0.5, 0.0], [1.0, 0.0], [0.0, 0.0], [0.5, 0.0], [0.5, 0.0]],
    [[0.0, 0.5], [0.0, 0.5], [0.0, 0.5], [0.0, 1.0], [0.0, 0.0]],
    [[0.5, 0.0], [0.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.5, 0.0]],
    [[0.0, 0.5], [0.0, 0.5], [0.0, 0.5], [0.0, 0.0], [0.0, 1.0]],
])


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


def crop_camera(camera: Camera, box_xyxy: ArrayLike, spec: CropSpec,
                rays: Array | None = None) -> CropCamera:
    """Return the virtual camera that looks at a detection box.

    Through a lens a box may reach where there is no viewing ray, as beside the round picture of a
    fisheye: it counts up to there. And its middle may be far from the middle of what it shows:
    then the camera looks at the latter.

    :param box_xyxy: (4,) x1, y1, x2, y2 in the full image [px].
    :param rays: (5, 3) of the box, where :func:`box_rays` has them already.
    :raises BoxError: when the box cannot be cropped.
    """
    box = check_box(box_xyxy, camera.width, camera.height)
    rays = box_rays(camera, [box])[0] if rays is None else rays
    if not np.isfinite(rays).all():
        rays = _rays_that_exist(camera, box, rays)
    R = rotation_to_axis(rays[0])
    sides = _seen_sides(R, rays, box)
    if camera.lens is not None and (middle := _aside(sides)):
        R = rotation_to_axis(np.array([*middle, 1.0]) @ R)
        sides = _seen_sides(R, rays, box)
    left, right, top, bottom = sides
    extent = max(math.dist(left, right), math.dist(top, bottom))
    focal_px = spec.size_px / (spec.padding * extent)
    return CropCamera(R, pinhole(focal_px, spec.size_px), spec.size_px)


def box_rays(camera: Camera, boxes_xyxy: Sequence[Array]) -> Array:
    """Return the rays of boxes' centres and of the middles of their four sides.

    :param boxes_xyxy: (4,) float64 each [px].
    :return: (N, 5, 3) with z = 1: centre, left, right, top, bottom; nan where there is none.
    """
    with np.errstate(all='ignore'):
        uv = np.array(boxes_xyxy).reshape(-1, 4) @ _PLACES.reshape(4, 10)
        return camera.unproject(uv.reshape(-1, 5, 2))


def _rays_that_exist(camera: Camera, box: Array, rays: Array) -> Array:
    """Move the sides of a box to where they have viewing rays.

    :param rays: (5, 3) of the box.
    :raises BoxError: when the centre, or the inner half of a side's way to it, has none.
    """
    centre, *sides = (box @ _PLACES.reshape(4, 10)).reshape(5, 2)
    found = np.stack([rays[0], *(
        ray if np.isfinite(ray).all() else _outermost(camera, centre, side - centre)
        for ray, side in zip(rays[1:], sides, strict=True))])
    if not np.isfinite(found).all():
        raise BoxError(f"box {box.tolist()} has its centre or half of a side where the camera's "
                       'distortion has no viewing ray')
    return found


def _outermost(camera: Camera, centre: Array, side: Array) -> Array:
    """Return the ray that is furthest towards a side of those that exist, nan in the inner half.

    :param centre: (2,) [px].
    :param side: (2,) from the centre to the middle of the side [px].
    :return: (3,) with z = 1.
    """
    parts = np.linspace(LEAST_SEEN, 1.0, 65)
    rays = camera.unproject(centre + parts[:, None] * side)
    missing = np.flatnonzero(~np.isfinite(rays[:, 0]))
    return np.asarray(rays[max(missing[0] - 1, 0)] if len(missing) else rays[-1], np.float64)


def _seen_sides(R: Array, rays: Array, box: Array) -> list[tuple[float, float]]:
    """Return where a turned camera sees a box's left, right, top and bottom, at z = 1.

    :raises BoxError: when one is at 90 degrees or more from its axis.
    """
    sides = (rays[1:] @ R.T).tolist()
    if min(z for _, _, z in sides) <= 0:
        raise BoxError(f'box {box.tolist()} spans 90 degrees or more of view')
    return [(x / z, y / z) for x, y, z in sides]


def _aside(sides: list[tuple[float, float]]) -> tuple[float, float] | None:
    """Return the middle of what a box shows, at z = 1; None when the camera looks there."""
    (left, _), (right, _), (_, top), (_, bottom) = sides
    x, y = (left + right) / 2.0, (top + bottom) / 2.0
    near = abs(x) <= OFF_CENTRE * (right - left) and abs(y) <= OFF_CENTRE * (bottom - top)
    return None if near else (x, y)


def turned(crop: CropCamera, angle_rad: float) -> CropCamera:
    """Return a crop camera turned about its optical axis.

    Convention: the axes turn with the camera, so that its image of the scene turns back.
    """
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    R = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return CropCamera(R @ crop.R_crop_camera, crop.K_crop, crop.size_px)
