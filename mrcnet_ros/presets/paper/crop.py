"""The paper preset's crop: an affine window of the image, in four in-plane rotations.

Unlike in :mod:`mrcnet_ros.geometry.crop`, the crop is a part of the image and not the image of a
turned camera. The network gets its viewing direction as an input. Source: mrcnet.md section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import BoxError, SpecError
from ...geometry.camera import Camera
from ...geometry.crop import check_box
from ...geometry.se3 import Array
from .spec import PaperSpec

VIEW_ORIGINS = ('principal_point', 'box_centre')
# Longest side of a straightened image over that of the photograph. The corners of a fisheye lens
# would need far more, where its pixels are drawn too large to help.
MOST_LARGER = 2.0


@dataclass(frozen=True, eq=False)
class PaperCrops:
    """The views of one detection, one for each in-plane rotation.

    :param Rz: (turns, 3, 3) R_view_camera, from the camera's frame to the view's.
    :param A_crop_image: (turns, 2, 3) image pixel to crop pixel.
    :param K_crop: (turns, 3, 3) intrinsics of the crops, skewless only for ``fx == fy`` [px].
    :param view: (turns, 3) tangents x and y of the viewing direction of the crop's centre, and
        crop side over focal length.
    :param box_fractions: (turns, 4) x1 y1 x2 y2 of the box in fractions of the crop.
    :param box_rect: (turns, 4) int64 x1 y1 x2 y2 of the box map [px], end exclusive.
    :param size_px: side of the square crops.
    """

    Rz: Array
    A_crop_image: Array
    K_crop: Array
    view: Array
    box_fractions: Array
    box_rect: NDArray[np.int64]
    size_px: int

    def part(self, turns: slice) -> PaperCrops:
        return PaperCrops(self.Rz[turns], self.A_crop_image[turns], self.K_crop[turns],
                          self.view[turns], self.box_fractions[turns], self.box_rect[turns],
                          self.size_px)


def in_plane_turns(count: int) -> Array:
    """Return rotations about the optical axis by multiples of a full turn over ``count``.

    :return: (count, 3, 3), exact where the angle is a multiple of 90 degrees.
    """
    angle = 2.0 * np.pi * np.arange(count) / count
    c, s = np.cos(angle), np.sin(angle)
    R = np.zeros((count, 3, 3))
    R[:, 0, 0], R[:, 0, 1], R[:, 1, 0], R[:, 1, 1], R[:, 2, 2] = c, -s, s, c, 1.0
    exact = np.round(R)
    return np.where(np.abs(R - exact) < 1e-12, exact, R)


def paper_crops(camera: Camera, box_xyxy: ArrayLike, spec: PaperSpec) -> PaperCrops:
    """Return the views of a detection box.

    :param box_xyxy: (4,) x1, y1, x2, y2 in the full image [px], truncated to integers.
    :raises BoxError: when the box cannot be cropped.
    :raises SpecError: when ``view_origin`` is unknown.
    """
    box = np.trunc(check_box(box_xyxy, camera.width, camera.height))
    extent = box[2:] - box[:2]
    if extent.min() < 1:
        raise BoxError(f'box must hold a whole pixel, got {box.tolist()}')
    side = spec.padding * float(extent.max())
    return square_crops(camera, (box[:2] + box[2:]) / 2.0, extent, side, spec)


def square_crops(camera: Camera, centre: Array, extent: Array, side: float,
                 spec: PaperSpec) -> PaperCrops:
    """Return the views of a square of the image.

    :param centre: (2,) of the square and of the box in it [px].
    :param extent: (2,) width and height of the box [px].
    :param side: of the square [px].
    :raises SpecError: when ``view_origin`` is unknown.
    """
    if spec.view_origin not in VIEW_ORIGINS:
        raise SpecError(f'view_origin must be one of {VIEW_ORIGINS}, got {spec.view_origin!r}')
    Rz = in_plane_turns(spec.turns)
    H_turned_image = camera.K @ Rz @ np.linalg.inv(camera.K)
    turned = H_turned_image[:, :2, :2] @ centre + H_turned_image[:, :2, 2]
    origin = camera.K[:2, 2] if spec.view_origin == 'principal_point' else centre
    focal = camera.K[[0, 1], [0, 1]]
    slopes = (turned - origin) / focal
    view = np.concatenate([slopes, np.full((spec.turns, 1), side / focal[0])], axis=1)
    S = _scale_and_shift(turned, spec.size_px / side, spec.size_px)
    fractions = _turned_box(extent / side, Rz)
    return PaperCrops(Rz, (S @ H_turned_image)[:, :2], S @ camera.K, view, fractions,
                      box_rectangle(fractions, spec), spec.size_px)


def box_rectangle(box_fractions: ArrayLike, spec: PaperSpec) -> NDArray[np.int64]:
    """Return the part of the crop that a box map fills, a margin larger than the box.

    :param box_fractions: (..., 4) x1 y1 x2 y2 in fractions of the crop.
    :return: (..., 4) x1 y1 x2 y2 [px], end exclusive, within the crop.
    """
    pixels = np.rint(grown_box(box_fractions, spec)).astype(np.int64)
    return np.asarray(np.clip(pixels, 0, spec.size_px), dtype=np.int64)


def grown_box(box_fractions: ArrayLike, spec: PaperSpec) -> Array:
    """Return the rectangle of a box map before it is rounded and cut off at the crop's border.

    :param box_fractions: (..., 4) x1 y1 x2 y2 in fractions of the crop.
    :return: (..., 4) x1 y1 x2 y2 [px].
    """
    box = np.asarray(box_fractions, dtype=np.float64)
    margin = spec.box_margin * (box[..., 2:] - box[..., :2])
    grown = np.concatenate([box[..., :2] - margin, box[..., 2:] + margin], axis=-1)
    return np.asarray(grown * spec.size_px)


def box_map(rectangle: ArrayLike, size_px: int) -> NDArray[np.float32]:
    """Draw the fourth input channel.

    :param rectangle: (..., 4) of :func:`box_rectangle`.
    :return: (..., size_px, size_px) 1 inside, 0 outside.
    """
    x1, y1, x2, y2 = np.moveaxis(np.asarray(rectangle), -1, 0)[..., None]
    steps = np.arange(size_px)
    columns, rows = (steps >= x1) & (steps < x2), (steps >= y1) & (steps < y2)
    return np.asarray(rows[..., :, None] & columns[..., None, :], dtype=np.float32)


def covered_fractions(mask: NDArray[np.bool_]) -> Array:
    """Return the box around the covered pixels of a template.

    :param mask: (H, W) bool, square.
    :return: (4,) first and last column and row over the side: x1 y1 x2 y2; zeros when empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros(4)
    return np.array([columns[0], rows[0], columns[-1], rows[-1]]) / len(mask)


def warp_crops(image: NDArray[np.uint8], crops: PaperCrops) -> NDArray[np.float32]:
    """Return the crops in the network's channel order, without the box map.

    Convention: bilinear, integer pixel centres, zero outside the photograph.

    :param image: (H, W, 3) uint8 RGB.
    :return: (turns, 3, size_px, size_px) blue, green, red in 0..1.
    """
    padded = np.pad(image[..., ::-1], ((1, 1), (1, 1), (0, 0))).astype(np.float32) / 255.0
    warped = [_bilinear(padded, A, crops.size_px) for A in crops.A_crop_image]
    return np.stack(warped).transpose(0, 3, 1, 2)


def network_input(image: NDArray[np.uint8], crops: PaperCrops) -> NDArray[np.float32]:
    """Return crops and box maps as the network takes them.

    :param image: (H, W, 3) uint8 RGB.
    :return: (turns, 4, size_px, size_px).
    """
    maps = box_map(crops.box_rect, crops.size_px)
    return np.concatenate([warp_crops(image, crops), maps[:, None]], axis=1)


def _bilinear(padded: NDArray[np.float32], A_crop_image: Array,
              size_px: int) -> NDArray[np.float32]:
    """Sample an image with a border of one zero pixel, to the last digit.

    OpenCV's warp rounds positions to fractions of a pixel, which the published numbers do not.

    :return: (size_px, size_px, channels).
    """
    height, width = padded.shape[:2]
    linear = np.linalg.inv(A_crop_image[:, :2])
    steps = np.arange(size_px, dtype=np.float64)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1) - A_crop_image[:, 2]
    position = grid @ linear.T + 1.0
    u, v = np.clip(position[..., 0], 0, width - 1), np.clip(position[..., 1], 0, height - 1)
    column = np.minimum(u.astype(np.int64), width - 2)
    row = np.minimum(v.astype(np.int64), height - 2)
    right, down = ((x - i)[..., None].astype(np.float32) for x, i in ((u, column), (v, row)))
    top = padded[row, column] * (1 - right) + padded[row, column + 1] * right
    bottom = padded[row + 1, column] * (1 - right) + padded[row + 1, column + 1] * right
    return np.asarray(top * (1 - down) + bottom * down, dtype=np.float32)


def _scale_and_shift(centres: Array, scale: float, size_px: int) -> Array:
    """Return (N, 3, 3) maps that scale and put a point on the crop's centre."""
    S = np.tile(np.diag([scale, scale, 1.0]), (len(centres), 1, 1))
    S[:, :2, 2] = size_px / 2.0 - scale * centres
    return S


def _turned_box(extent: Array, Rz: Array) -> Array:
    """Return the box around a turned box that is centred in the crop, in crop fractions."""
    half = np.abs(Rz[:, :2, :2]) @ (extent / 2.0)
    return np.concatenate([0.5 - half, 0.5 + half], axis=1)


def straightened(image: NDArray[np.uint8], camera: Camera) -> tuple[NDArray[np.uint8], Camera]:
    """Return an image without distortion, of the same focal length, and its camera.

    It is as large as all that the photograph shows needs, but no side is longer than
    ``MOST_LARGER`` times that of the photograph.
    """
    import cv2

    pinhole = _pinhole_around(camera)
    grid = np.stack(np.meshgrid(np.arange(pinhole.width), np.arange(pinhole.height)), axis=-1)
    uv = camera.project(pinhole.unproject(grid))
    # rays that the lens does not see are black
    uv = np.nan_to_num(uv, nan=-1e4).astype(np.float32)
    straight = cv2.remap(image, uv[..., 0], uv[..., 1], cv2.INTER_LINEAR)
    return np.asarray(straight, np.uint8), pinhole


def _pinhole_around(camera: Camera) -> Camera:
    """Return the camera of an image without distortion that shows what a photograph shows."""
    size = np.array([camera.width, camera.height])
    columns, rows = np.linspace(0, size[0] - 1, 64), np.linspace(0, size[1] - 1, 64)
    border = np.concatenate([
        *(np.stack([columns, np.full(64, v)], 1) for v in (0, size[1] - 1)),
        *(np.stack([np.full(64, u), rows], 1) for u in (0, size[0] - 1))])
    rays = camera.unproject(border)
    ahead = np.isfinite(rays).all(axis=1) & (rays[:, 2] > 0)
    seen = Camera(camera.K, *size.tolist()).project(rays[ahead])
    more = (MOST_LARGER - 1) / 2 * size
    before = np.ceil(np.clip(-seen.min(axis=0, initial=0.0), 0, more))
    behind = np.ceil(np.clip(seen.max(axis=0, initial=0.0) - (size - 1), 0, more))
    K = camera.K.copy()
    K[:2, 2] += before
    return Camera(K, *(size + before + behind).astype(int).tolist())


def straightened_box(box_xyxy: Array, camera: Camera, pinhole: Camera) -> Array:
    """Return the box around where the edges of a box are in the straightened image.

    :raises BoxError: when an edge has no viewing ray.
    """
    if camera is pinhole or not np.isfinite(box_xyxy).all():
        return box_xyxy
    x1, y1, x2, y2 = box_xyxy
    u, v = (x1 + x2) / 2.0, (y1 + y2) / 2.0
    rays = camera.unproject([(x1, v), (u, y1), (x2, v), (u, y2)])
    if not np.isfinite(rays).all():
        raise BoxError(f"box {np.asarray(box_xyxy).tolist()} reaches where the camera's "
                       'distortion has no viewing ray')
    left, top, right, bottom = pinhole.project(rays)
    return np.array([left[0], top[1], right[0], bottom[1]])
