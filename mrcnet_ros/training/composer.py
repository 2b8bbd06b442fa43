"""Training images: views of objects lit, occluded and pasted over backgrounds, with exact poses.

Sample ``i`` of seed ``s`` is a function of (s, i) alone, so any sample can be made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.bins import encode_translation
from ..geometry.crop import CropCamera, pinhole
from ..geometry.se3 import Array, rotation_to_axis
from ..specs import CropSpec, ViewPrior
from .augmentation import augment, clutter, recolour, weather
from .lighting import Light, draw_light
from .view_bank import RELATIVE_SIZE, VIEW_PX, ViewBank

LAYOUT_PX = VIEW_PX // 2
MIN_VISIBLE = 0.15
RECOLOURED = 0.6
SHADED_CAVITIES = 0.6
Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sample:
    """One training image and what the network should say of it.

    :param image: (S, S, 3) uint8 RGB crop.
    :param class_index: row of the object.
    :param R_ray_object: (3, 3) rotation seen from the ray through the object's origin.
    :param xy: (2,) offset of the origin from the crop's centre in crop widths.
    :param log_size: log relative size.
    :param focal: focal length of the crop in crop widths.
    :param coordinates: (3, S/4, S/4) float32 object coordinates in half diameters.
    :param mask: (S/4, S/4) float32 visible part of each cell, 0 to 1.
    :param visible_fraction: of the silhouette.
    """

    image: NDArray[np.uint8]
    class_index: int
    R_ray_object: Array
    xy: Array
    log_size: float
    focal: float
    coordinates: NDArray[np.float32]
    mask: NDArray[np.float32]
    visible_fraction: float


@dataclass(frozen=True)
class ComposerSpec:
    """Chances and ranges of the composed images.

    :param crop: the network's crops.
    :param box_shift: largest shift of a box in parts of its side.
    :param box_scale: largest change of the logarithm of a box's longer side.
    :param occluded: chance that other objects lie in front.
    :param distracted: chance that other objects lie behind.
    :param cluttered: chance of hard-edged shapes in the background.
    :param varied: chance that the object's surface differs from its scanned colours.
    """

    crop: CropSpec
    box_shift: float = 0.12
    box_scale: float = 0.15
    occluded: float = 0.6
    distracted: float = 0.7
    cluttered: float = 0.75
    varied: float = 0.8


class Composer:
    """Makes samples from view banks, background patches and light."""

    def __init__(self, banks: Sequence[ViewBank], priors: Sequence[ViewPrior | None],
                 patches: NDArray[np.uint8], lights: Array, spec: ComposerSpec,
                 targets: Sequence[int] | None = None) -> None:
        """Keep the material.

        :param banks: one for each class, in class order.
        :param priors: likewise.
        :param patches: (P, B, B, 3) uint8 backgrounds.
        :param lights: (M, 3, 4, 4) irradiance matrices.
        :param targets: classes that take turns as the target, all by default; the others are
            only occluders and distractors.
        """
        self.targets = list(range(len(banks)) if targets is None else targets)
        self.banks, self.priors, self.patches = banks, priors, patches
        self.lights, self.spec = lights, spec

    def sample(self, seed: int, index: int) -> Sample:
        """Make sample ``index`` of a seed; classes take turns."""
        rng = np.random.default_rng([seed, index])
        class_index = self.targets[index % len(self.targets)]
        bank = self.banks[class_index]
        view = int(rng.integers(len(bank.albedo)))
        prior = self.priors[class_index]
        tilt = rng.uniform(-1, 1) * np.radians(prior.tilt_max_deg if prior else 180.0)
        A_layout_view = _similarity(1.0, tilt, 0.0, 0.0)
        mask = _layout_mask(bank.albedo[view], A_layout_view)
        others = self._others(rng, mask)
        hidden = np.zeros_like(mask)
        for _, _, _, in_front, other_mask in others:
            if in_front:
                hidden |= other_mask
        visible = mask & ~hidden
        fraction = float(visible.sum()) / max(int(mask.sum()), 1)
        if fraction < MIN_VISIBLE:
            others, visible, fraction = [], mask, 1.0
        crop, H_crop_layout = self._crop(rng, visible, bank, view)
        image, alpha = self._paint(rng, class_index, view, A_layout_view, others, H_crop_layout)
        t_view = np.array([0.0, 0.0, bank.distance_m[view]])
        R_crop_view = crop.R_crop_camera @ _roll(tilt)
        R_crop_object = R_crop_view @ bank.R_camera_object[view]
        t = R_crop_view @ t_view
        code = encode_translation(t, crop.focal, bank.diameter_m)
        H_view_crop = np.asarray(np.linalg.inv(H_crop_layout @ A_layout_view), np.float64)
        coordinates, cells = _dense_targets(bank, view, H_view_crop, alpha)
        return Sample(image, class_index, rotation_to_axis(t) @ R_crop_object, code[:2],
                      float(code[2]), crop.focal, coordinates, cells, fraction)

    def _others(self, rng: np.random.Generator, mask: NDArray[np.bool_]) -> list[_Other]:
        """Place other objects behind and in front, in the layout image."""
        found: list[_Other] = []
        behind = int(rng.integers(1, 5)) if rng.random() < self.spec.distracted else 0
        front = int(rng.integers(1, 3)) if rng.random() < self.spec.occluded else 0
        for in_front in [False] * behind + [True] * front:
            c = int(rng.integers(len(self.banks)))
            view = int(rng.integers(len(self.banks[c].albedo)))
            direction = rng.uniform(-np.pi, np.pi)
            radius = rng.uniform(0.25 if in_front else 0.1, 0.7 if in_front else 0.75) * VIEW_PX
            A = _similarity(rng.uniform(0.6, 1.6), rng.uniform(-0.9, 0.9),
                            radius * np.cos(direction), radius * np.sin(direction))
            found.append((c, view, A, in_front, _layout_mask(self.banks[c].albedo[view], A)))
        return found

    def _crop(self, rng: np.random.Generator, visible: NDArray[np.bool_], bank: ViewBank,
              view: int) -> tuple[CropCamera, Matrix]:
        """Jitter the visible box and look at it."""
        columns, rows = np.flatnonzero(visible.any(0)), np.flatnonzero(visible.any(1))
        step = VIEW_PX / LAYOUT_PX
        low = np.array([columns[0], rows[0]]) * step - 0.5
        high = np.array([columns[-1] + 1, rows[-1] + 1]) * step - 0.5
        sides = high - low
        centre = (low + high) / 2 + self.spec.box_shift * rng.uniform(-1, 1, 2) * sides
        side = sides.max() * np.exp(self.spec.box_scale * rng.uniform(-1, 1))
        K = bank.K(view)
        ray = np.linalg.inv(K) @ np.array([*centre, 1.0])
        R = rotation_to_axis(ray)
        size = self.spec.crop.size_px
        focal = K[0, 0] * np.linalg.norm(ray) * size / (self.spec.crop.padding * side)
        crop = CropCamera(R, pinhole(focal, size), size)
        return crop, crop.K_crop @ R @ np.linalg.inv(K)

    def _paint(self, rng: np.random.Generator, class_index: int, view: int, A: Matrix,
               others: list[_Other], H_crop_layout: Matrix
               ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Draw background, objects behind, the object, objects in front; then the camera."""
        size = self.spec.crop.size_px
        patch = self.patches[int(rng.integers(len(self.patches)))]
        image = _background(rng, patch, size)
        if rng.random() < self.spec.cluttered:
            other = self.patches[int(rng.integers(len(self.patches)))]
            albedo = self.banks[class_index].albedo[view]
            near = albedo[albedo[..., 3] > 0][:, :3].mean(0)
            clutter(rng, image, _background(rng, other, size), near)
        light = draw_light(rng, self.lights[int(rng.integers(len(self.lights)))])
        layers = [(c, v, B) for c, v, B, in_front, _ in others if not in_front]
        layers.append((class_index, view, A))
        layers.extend((c, v, B) for c, v, B, in_front, _ in others if in_front)
        own = len(layers) - 1 - sum(1 for o in others if o[3])
        alpha = np.zeros((size, size), np.float32)
        for number, (c, v, B) in enumerate(layers):
            chance = self.spec.varied if number == own else RECOLOURED
            drawn = self._draw(rng, self.banks[c], v, H_crop_layout @ B, light,
                               rng.random() < chance, number == own)
            if drawn is None:
                continue
            window, colour, a = drawn
            image[window] += a[..., None] * (colour - image[window])
            if number == own:
                alpha[window] = a
            elif number > own:
                alpha[window] *= 1 - a
        return augment(rng, image), alpha

    def _draw(self, rng: np.random.Generator, bank: ViewBank, view: int, H_crop_view: Matrix,
              light: Light, varied: bool, target: bool
              ) -> tuple[Window, NDArray[np.float32], NDArray[np.float32]] | None:
        """Light a view in the crop; return where it is, its colours and its opacity.

        :param varied: whether its surface differs from the scan.
        :param target: whether it is the object of the sample, not one that only disturbs.
        """
        size = (self.spec.crop.size_px,) * 2
        flat = cv2.warpPerspective(bank.albedo[view], H_crop_view, size)
        x, y, width, height = cv2.boundingRect(flat[..., 3])
        if width == 0:
            return None
        window = (slice(y, y + height), slice(x, x + width))
        codes = cv2.warpPerspective(bank.normals[view], H_crop_view, size,
                                    flags=cv2.INTER_NEAREST)[window]
        albedo, opacity = flat[window][..., :3], flat[window][..., 3]
        if varied:
            albedo = recolour(rng, albedo)
            if not target:
                albedo = albedo[..., rng.permutation(3)]
        shade = light.table(bank.R_camera_object[view], rng.uniform(8, 80)).take(codes, axis=0)
        if rng.random() < SHADED_CAVITIES:
            cavity = cv2.warpPerspective(bank.cavity[view], H_crop_view, size)[window]
            shade *= (1 - np.float32(rng.uniform(0, 0.8) / 255) * cavity)[..., None]
        colour = albedo * shade[..., :3]
        colour += shade[..., 3:]
        if varied and target:
            weather(rng, colour, self.patches[int(rng.integers(len(self.patches)))])
        return window, np.clip(colour, 0, 255, out=colour), opacity * np.float32(1 / 255)


Window = tuple[slice, slice]
_Other = tuple[int, int, Matrix, bool, NDArray[np.bool_]]


def _similarity(scale: float, angle: float, dx: float, dy: float) -> Matrix:
    """Scale and turn about a view's centre, then shift [px], as a (3, 3) image map."""
    c, s, m = scale * np.cos(angle), scale * np.sin(angle), (VIEW_PX - 1) / 2
    return np.array([[c, -s, m - c * m + s * m + dx], [s, c, m - s * m - c * m + dy], [0, 0, 1.0]])


def _roll(angle: float) -> Matrix:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _layout_mask(albedo: NDArray[np.uint8], A_layout_view: Matrix) -> NDArray[np.bool_]:
    step = VIEW_PX // LAYOUT_PX
    S = np.diag([1 / step, 1 / step, 1.0])
    A = S @ A_layout_view @ np.linalg.inv(S)

    def warp(small: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(cv2.warpAffine(small, A[:2], (LAYOUT_PX, LAYOUT_PX)), np.uint8)

    mask = warp(np.ascontiguousarray(albedo[::step, ::step, 3])) > 127
    if not mask.any():  # thinner than every second pixel, or out of the image
        mask = warp(albedo[..., 3].reshape(LAYOUT_PX, step, LAYOUT_PX, step).max((1, 3))) > 0
    return mask


def _background(rng: np.random.Generator, patch: NDArray[np.uint8],
                size: int) -> NDArray[np.float32]:
    side = int(rng.integers(size // 2, patch.shape[0] + 1))
    x, y = rng.integers(0, patch.shape[0] - side + 1, 2)
    window = patch[y:y + side, x:x + side]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    flat = cv2.resize(np.ascontiguousarray(window), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(flat, np.float32)


def _dense_targets(bank: ViewBank, view: int, H_view_crop: Matrix, alpha: NDArray[np.float32]
                   ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Object coordinates and visible part at the middle of every 4x4 cell."""
    cells = alpha.shape[0] // 4
    axis = 4.0 * np.arange(cells) + 1.5
    u, v = np.meshgrid(axis, axis)
    q = H_view_crop @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
    pixel = np.rint(q[:2] / q[2]).astype(np.int64).clip(0, VIEW_PX - 1)
    inside = bank.albedo[view][pixel[1], pixel[0], 3] > 0
    relative = bank.depth[view][pixel[1], pixel[0]].astype(np.float64)
    distance = bank.distance_m[view] / bank.diameter_m
    rays = (pixel - (VIEW_PX - 1) / 2) / (RELATIVE_SIZE * VIEW_PX * distance)
    points = np.stack([*(rays * (distance + relative)), relative])
    coordinates = 2.0 * bank.R_camera_object[view].T @ points
    mask = alpha.reshape(cells, 4, cells, 4).mean((1, 3))
    mask = mask * inside.reshape(cells, cells)
    return (coordinates.reshape(3, cells, cells).astype(np.float32), mask.astype(np.float32))
