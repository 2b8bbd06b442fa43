"""Samples the crops of crop cameras from a photograph.

With a pinhole camera a crop is a homography. With a lens every pixel of a crop has its own ray.
The map from crop pixels to photograph pixels is smooth, so it is computed at a few nodes,
interpolated by a polynomial and checked at points in between. If the check fails, or if the crop
reaches beyond the view of the lens, every ray is computed. If the photograph is much finer than
the crop, it is reduced first, because bilinear sampling would skip most of its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera import Camera
from .crop import CropCamera
from .se3 import Array

Image = NDArray[np.uint8]

# The photograph is reduced if it has this many pixels for one of the crop, in one direction.
# The LM-O model scores 0.585 on its photographs with 3, 4 or no filter, 0.580 with 2, 0.578 with
# 1.5: below 3 bilinear sampling is what it was trained on.
REDUCED_FROM = 3.0
# Largest error of a pixel's place; older OpenCV samples at multiples of 1/32 px.
TOLERANCE_PX = 1.0 / 64.0

# Nodes and checked points of a side. More nodes follow stronger lenses and take more time. A crop
# that is off at a checked point by more than TOLERANCE_PX is mapped ray by ray. Of a box
# of 220x300 px of an equidistant lens of 573 px, 5 nodes leave 0.09 px, 6 0.005 and 7 0.002 px.
_NODES, _CHECKS = 7, 3
_NOWHERE_PX = -1e4  # outside every photograph: black
_LARGEST_PX = 3e4  # OpenCV's maps hold 16 bits
# A corner of a crop whose ray is this near to 90 degrees from the camera's axis counts as behind
# it.
_BEHIND = 1e-6


class _Grid(NamedTuple):
    """Where the map of a square crop is computed, and how it is interpolated.

    :param points: (P, 2) columns and rows of all nodes, then of the points that are checked.
    :param pixels: (S, nodes) float32 from nodes to pixels, in one direction.
    :param turned: (nodes, S) the same in the other one.
    :param checks: (checks, nodes) from nodes to points that are checked.
    :param step: pixels between the nodes on both sides of the middle one.
    """

    points: Array
    pixels: NDArray[np.float32]
    turned: NDArray[np.float32]
    checks: Array
    step: float


class _Part(NamedTuple):
    """A part of a photograph, made smaller.

    :param image: (h, w, 3) uint8.
    :param offset: (2,) of its first pixel in the photograph [px].
    :param factor: pixels of the photograph for one of it, in one direction.
    """

    image: Image
    offset: Array
    factor: int

    def from_photograph(self, uv: Array) -> Array:
        """Return where pixels (2, ...) of the photograph are."""
        offset = self.offset.reshape(2, *[1] * (uv.ndim - 1))
        return np.asarray((uv - offset + 0.5) / self.factor - 0.5, np.float64)


def sample_crop(image: Image, camera: Camera, crop: CropCamera) -> Image:
    """Return the picture of one crop camera, see :func:`sample_crops`.

    :return: (size_px, size_px, 3) uint8.
    """
    return np.asarray(sample_crops(image, camera, [crop])[0], np.uint8)


def sample_crops(image: Image, camera: Camera, crops: Sequence[CropCamera]) -> Image:
    """Return the pictures of crop cameras: bilinear, low-passed where that leaves out pixels.

    What is outside the photograph, behind the camera or beyond the reach of the lens is black.

    :param image: (H, W, 3) uint8.
    :param crops: all of the same size.
    :return: (N, size_px, size_px, 3) uint8.
    """
    if not crops:
        return np.zeros((0, 0, 0, 3), np.uint8)
    size = crops[0].size_px
    # OpenCV draws into these arrays, so that nothing is copied
    pictures = np.empty((len(crops), size, size, 3), np.uint8)
    (_by_homography if camera.lens is None else _through_lens)(image, camera, crops, pictures)
    return pictures


def _by_homography(image: Image, camera: Camera, crops: Sequence[CropCamera],
                   pictures: Image) -> None:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size, last = pictures.shape[1:3], pictures.shape[1] - 1.0
    for crop, picture in zip(crops, pictures, strict=True):
        H = camera.K @ crop.R_crop_camera.T
        H[:, 2] -= (last / 2.0 / crop.focal_px) * (H[:, 0] + H[:, 1])
        H[:, :2] /= crop.focal_px
        corners = H @ _corners(last)
        depths = corners[2].tolist()
        if min(depths) <= _BEHIND * max(depths):
            _ray_by_ray(image, camera, crop, picture)
            continue
        factor = _factor(_homography_scale(H.tolist(), last / 2.0))
        part = _Part(image, np.zeros(2), 1)
        if factor > 1:
            part = _reduced(image, corners[:2] / corners[2], factor)
            shrink = np.diag([1.0 / part.factor, 1.0 / part.factor, 1.0])
            shrink[:2, 2] = part.from_photograph(np.zeros(2))
            H = shrink @ H
        cv2.warpPerspective(part.image, H, size, picture, flags)


def _through_lens(image: Image, camera: Camera, crops: Sequence[CropCamera],
                  pictures: Image) -> None:
    size, count = crops[0].size_px, _NODES**2
    grid = _grid(size)
    uv = camera.project(_rays(crops, grid.points)).transpose(2, 0, 1)
    nodes: Array = uv[..., :count].reshape(2, -1, _NODES, _NODES)
    checked = uv[..., count:].reshape(2, -1, _CHECKS, _CHECKS)
    # a node that has no pixel is nan, and so is the error
    error = np.abs(grid.checks @ nodes @ grid.checks.T - checked).max(axis=(0, 2, 3))
    smooth = (error < TOLERANCE_PX).tolist()
    factors = [_factor(scale) for scale in _map_scales(nodes, grid)]
    if all(smooth) and max(factors) == 1:  # at once: OpenCV's threads share large maps best
        _remap(image, _maps(nodes, grid).reshape(2, -1, size), pictures.reshape(-1, size, 3))
        return
    for i, crop in enumerate(crops):
        if smooth[i]:
            part = _reduced(image, nodes[:, i].reshape(2, -1), factors[i])
            _remap(part.image, _maps(part.from_photograph(nodes[:, i]), grid), pictures[i])
        else:
            _ray_by_ray(image, camera, crop, pictures[i])


def _maps(nodes: Array, grid: _Grid) -> NDArray[np.float32]:
    """Return the places of all pixels, (..., S, S), from those of the nodes."""
    return np.asarray(grid.pixels @ (nodes.astype(np.float32, 'C') @ grid.turned), np.float32)


def _ray_by_ray(image: Image, camera: Camera, crop: CropCamera, picture: Image) -> None:
    """Draw the picture of a crop with every ray computed."""
    every = np.stack(np.meshgrid(*[np.arange(crop.size_px, dtype=np.float64)] * 2), -1)
    rays = _rays([crop], every.reshape(-1, 2))[0]
    uv: Array = np.full((len(rays), 2), np.nan)
    before = rays[:, 2] > 0
    uv[before] = camera.project(rays[before])
    uv = uv.T.reshape(2, crop.size_px, crop.size_px)
    part = _reduced(image, uv.reshape(2, -1), _factor(_pixel_scale(uv)))
    uv = np.nan_to_num(part.from_photograph(uv), nan=_NOWHERE_PX).clip(_NOWHERE_PX, _LARGEST_PX)
    _remap(part.image, uv.astype(np.float32), picture)


def _remap(image: Image, uv: NDArray[np.float32], picture: Image) -> None:
    """Draw the pixels (2, h, w) of an image."""
    cv2.remap(image, uv[0], uv[1], cv2.INTER_LINEAR, picture)


def _rays(crops: Sequence[CropCamera], points: Array) -> Array:
    """Return the rays of pixels (P, 2) of crops in the photograph's camera, (N, P, 3)."""
    focal = np.array([crop.focal_px for crop in crops])[:, None, None]
    xy = (points - (crops[0].size_px - 1) / 2.0) / focal
    R_crop_camera = np.array([crop.R_crop_camera for crop in crops])
    return np.asarray(xy @ R_crop_camera[:, :2] + R_crop_camera[:, 2:], np.float64)


@lru_cache(maxsize=8)
def _corners(last: float) -> Array:
    """Return the corners of a crop, (3, 4), homogeneous."""
    return np.array([[0.0, last, 0.0, last], [0.0, 0.0, last, last], [1.0] * 4])


@lru_cache(maxsize=8)
def _grid(size_px: int) -> _Grid:
    """Return Chebyshev's points, the ends among them, and their interpolation."""
    half = (size_px - 1) / 2.0
    nodes = -np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
    # halfway between nodes, where the error is largest
    checks = -np.cos(np.pi * (np.arange(0, 2 * _CHECKS, 2) + 0.5) / (_NODES - 1))
    points = [np.stack(np.meshgrid(x, x), -1).reshape(-1, 2) for x in (nodes, checks)]
    pixels = _interpolation(nodes, np.linspace(-1.0, 1.0, size_px)).astype(np.float32)
    return _Grid(half + half * np.concatenate(points), pixels, np.ascontiguousarray(pixels.T),
                 _interpolation(nodes, checks),
                 float(2.0 * half * nodes[_NODES // 2 + 1]))


def _interpolation(nodes: Array, x: Array) -> Array:
    """Return Lagrange's polynomials of nodes at places, (len(x), len(nodes))."""
    rows = [np.prod([(x - other) / (node - other) for other in nodes if other != node], axis=0)
            for node in nodes]
    return np.stack(rows, axis=-1)


def _homography_scale(H: list[list[float]], centre: float) -> float:
    """Return how many pixels of the photograph a step of a pixel in the crop's middle is."""
    (a, b, c), (d, e, f), (g, h, i) = H
    w = centre * (g + h) + i
    u, v = (centre * (a + b) + c) / w, (centre * (d + e) + f) / w
    area = (a - u * g) * (e - v * h) - (b - u * h) * (d - v * g)
    return float(abs(area) ** 0.5 / abs(w))


def _map_scales(nodes: Array, grid: _Grid) -> list[float]:
    """Return the same of each map given at nodes, (2, N, nodes, nodes)."""
    i = _NODES // 2
    (a, d), (b, e) = (nodes[..., i, i + 1] - nodes[..., i, i - 1],
                      nodes[..., i + 1, i] - nodes[..., i - 1, i])
    scales: list[float] = (np.sqrt(np.abs(a * e - b * d)) / grid.step).tolist()
    return scales


def _pixel_scale(uv: Array) -> float:
    """Return the same of a map of all pixels, (2, S, S); nan when its middle has none."""
    i = uv.shape[1] // 2
    (a, d), (b, e) = (uv[:, i, i] - uv[:, i, i - 1]).tolist(), \
        (uv[:, i, i] - uv[:, i - 1, i]).tolist()
    return float(abs(a * e - b * d) ** 0.5)


def _factor(scale: float) -> int:
    """Return the power of two by which the photograph is made smaller."""
    if not np.isfinite(scale):
        return 1
    factor = 1
    while scale >= REDUCED_FROM * factor:
        factor *= 2
    return factor


def _reduced(image: Image, uv: Array, factor: int) -> _Part:
    """Return the part of a photograph that holds pixels, made smaller by averaging.

    :param uv: (2, P), nan for none.
    :param factor: a power of two.
    """
    if factor == 1:
        return _Part(image, np.zeros(2), 1)
    low, high = np.nanmin(uv, axis=1), np.nanmax(uv, axis=1)
    spans = [_span(float(low[i]), float(high[i]), image.shape[1 - i], factor) for i in (0, 1)]
    (left, right), (top, bottom) = spans
    if right <= left or bottom <= top:
        return _Part(image, np.zeros(2), 1)
    part = image[top:bottom, left:right]
    for _ in range(factor.bit_length() - 1):  # halving is by far OpenCV's fastest average
        part = cv2.resize(part, (part.shape[1] // 2, part.shape[0] // 2),
                          interpolation=cv2.INTER_AREA)
    return _Part(np.asarray(part, np.uint8), np.array([left, top], np.float64), factor)


def _span(low: float, high: float, size: int, factor: int) -> tuple[int, int]:
    """Return a range within an image that holds another and some more; a multiple of a factor."""
    first = int(max(0.0, np.floor(low) - 2 * factor))
    last = int(min(float(size), np.ceil(high) + 2 * factor + 1))
    first = max(last - -(-(last - first) // factor) * factor, 0)
    return first, first + (last - first) // factor * factor
