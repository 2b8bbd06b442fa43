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
from ..specs import STRIDE, ViewPrior
from .augmentation import augment, in_a_room, photograph
from .painting import ComposedScene, ComposerSpec, TrainingPainter, beyond_border
from .placing import Placer, roll, similarity
from .table_plane import table_under
from .view_bank import RELATIVE_SIZE, VIEW_PX, ViewBank

# Where things lie is computed at half the resolution, in a quarter of the time.
LAYOUT_PX = VIEW_PX // 2
# How many other objects lie behind and in front, where there are any: low, and high plus one.
BEHIND, IN_FRONT = (1, 7), (1, 3)
MIN_VISIBLE = 0.15  # of the sample's object; when less is left, nothing hides it
# Focal lengths of cameras in pixels: from a webcam at 640x480 to a narrow lens at 1280x960.
# They say how many pixels a distant object has, and so how blurred its enlarged crop is.
CAMERA_FOCAL_PX = (450.0, 1300.0)
# Of what lies outside the image when its border runs through the crop: largest part of the
# visible box cut off, and largest gap between box and border, in sides of the box.
BORDER_CUTS, BORDER_GAP = 0.25, 0.25
BORDER_TURN_DEG = 15.0  # cameras are rolled a little, so that borders are not quite upright


@dataclass(frozen=True, eq=False)
class Sample:
    """One training image and its targets.

    :param image: (S, S, 3) uint8 RGB crop.
    :param R_ray_object: (3, 3) rotation seen from the ray through the object's origin.
    :param xy: (2,) offset of the origin from the crop's centre in crop widths.
    :param log_size: log relative size.
    :param focal: focal length of the crop in crop widths.
    :param coordinates: (3, S/4, S/4) float32 object coordinates in half diameters.
    :param mask: (S/4, S/4) float32 visible part of each cell, 0 to 1.
    :param visible_fraction: of the silhouette.
    :param template: rotation bin of the template to compare with; -1 where stage 1 chooses it.
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
    template: int = -1


class Composer:
    """Makes samples from view banks, background patches and light."""

    def __init__(self, banks: Sequence[ViewBank], priors: Sequence[ViewPrior | None],
                 patches: NDArray[np.uint8], lights: Array, spec: ComposerSpec,
                 targets: Sequence[int] | None = None) -> None:
        """Keep the material.

        :param banks: one for each class, in class order, then those of bodies that only disturb.
        :param patches: (P, B, B, 3) uint8 backgrounds.
        :param lights: (M, 3, 4, 4) irradiance matrices.
        :param targets: classes that take turns as the target, all by default; the others are
            only occluders and distractors.
        """
        self.targets = list(range(len(priors)) if targets is None else targets)
        self.banks, self.priors, self.spec = banks, priors, spec
        self.painter = TrainingPainter(banks, len(priors), patches, lights, spec)
        self.placer = Placer(banks, priors)

    def sample(self, seed: int, index: int) -> Sample:
        """Make sample ``index`` of a seed; classes take turns."""
        rng = np.random.default_rng([seed, index])
        class_index = self.targets[index % len(self.targets)]
        bank = self.banks[class_index]
        view = int(rng.integers(len(bank.albedo)))
        scene, visible, fraction = self._arrange(rng, class_index, view)
        crop, template = self._crop(rng, visible, scene)
        H_crop_layout = crop.K_crop @ crop.R_crop_camera @ np.linalg.inv(scene.K)
        image, alpha = self.painter.paint(rng, scene, H_crop_layout)
        camera_focal_px = np.exp(rng.uniform(*np.log(CAMERA_FOCAL_PX)))
        taken = photograph(rng, augment(rng, in_a_room(rng, image), self.spec.photometric),
                           float(camera_focal_px / crop.K_crop[0, 0]))
        taken, alpha = beyond_border(scene.border, H_crop_layout, taken, alpha)
        R_crop_object = crop.R_crop_camera @ scene.R_layout_object
        t = crop.R_crop_camera @ np.array([0.0, 0.0, bank.distance_m[view]])
        code = encode_translation(t, crop.focal, bank.diameter_m)
        H_view_crop = np.asarray(np.linalg.inv(H_crop_layout @ scene.A_layout_view), np.float64)
        coordinates, cells = _dense_targets(bank, view, H_view_crop, alpha)
        return Sample(taken, class_index, rotation_to_axis(t) @ R_crop_object, code[:2],
                      float(code[2]), crop.focal, coordinates, cells, fraction, template)

    def _arrange(self, rng: np.random.Generator, class_index: int, view: int
                 ) -> tuple[ComposedScene, NDArray[np.bool_], float]:
        """Place the object among others.

        :return: scene, visible part of the object in the layout image, and its fraction.
        """
        bank, prior = self.banks[class_index], self.priors[class_index]
        tilt = float(rng.uniform(-1, 1) * np.radians(prior.tilt_max_deg if prior else 180.0))
        A_layout_view = similarity(1.0, tilt, 0.0, 0.0)
        R = roll(tilt) @ bank.R_camera_object[view]
        table = None
        if rng.random() < self.spec.on_table:
            table = table_under(rng, R, np.array([0.0, 0.0, bank.distance_m[view]]), bank.hull,
                                np.array([0.0, 0.0, 1.0]) if prior else None)
        behind = int(rng.integers(*BEHIND)) if rng.random() < self.spec.distracted else 0
        front = int(rng.integers(*IN_FRONT)) if rng.random() < self.spec.occluded else 0
        K = bank.K(view)
        others = self.placer.place(rng, table, K, bank.diameter_m, (behind, front))
        whole = visible = _layout_mask(bank.albedo[view], A_layout_view)
        for other in others:
            if other.in_front:
                albedo = self.banks[other.bank].albedo[other.view]
                visible = visible & ~_layout_mask(albedo, other.A_layout_view)
        border, inside = self._border(rng, visible)
        visible = visible & inside
        fraction = float(visible.sum()) / max(int(whole.sum()), 1)
        if fraction < MIN_VISIBLE:
            others, visible, fraction, border = [], whole, 1.0, ()
        return ComposedScene(class_index, view, A_layout_view, K, R, table, tuple(others),
                             border), visible, fraction

    def _border(self, rng: np.random.Generator, visible: NDArray[np.bool_]
                ) -> tuple[tuple[Array, ...], NDArray[np.bool_]]:
        """Draw where the image ends: lines ``a x + b y + c = 0`` [px], positive outside."""
        inside = np.ones_like(visible)
        if rng.random() >= self.spec.border or not visible.any():
            return (), inside
        step = VIEW_PX // LAYOUT_PX
        y, x = np.nonzero(visible)
        rows, columns = np.indices(visible.shape)
        lines = []
        for _ in range(1 if rng.random() < 0.75 else 2):
            angle = np.pi / 2 * rng.integers(4) + np.radians(BORDER_TURN_DEG) * rng.uniform(-1, 1)
            a, b = np.cos(angle), np.sin(angle)
            reach = step * (a * x + b * y)
            offset = reach.max() + np.ptp(reach) * rng.uniform(-BORDER_CUTS, BORDER_GAP)
            lines.append(np.array([a, b, -offset]))
            inside &= step * (a * columns + b * rows) <= offset
        return tuple(lines), inside

    def _crop(self, rng: np.random.Generator, visible: NDArray[np.bool_],
              scene: ComposedScene) -> tuple[CropCamera, int]:
        """Jitter the visible box and return its crop, and the template to compare with, if any.

        The camera that the crop is turned from is that of the layout.
        """
        columns, rows = np.flatnonzero(visible.any(0)), np.flatnonzero(visible.any(1))
        step = VIEW_PX / LAYOUT_PX
        low = np.array([columns[0], rows[0]]) * step - 0.5
        high = np.array([columns[-1] + 1, rows[-1] + 1]) * step - 0.5
        sides = high - low
        centre = (low + high) / 2 + self.spec.box_shift * rng.uniform(-1, 1, 2) * sides
        side = sides.max() * np.exp(self.spec.box_scale * rng.uniform(-1, 1))
        K = scene.K
        ray = np.linalg.inv(K) @ np.array([*centre, 1.0])
        R = rotation_to_axis(ray)
        size = self.spec.crop.size_px
        focal = K[0, 0] * np.linalg.norm(ray) * size / (self.spec.crop.padding * side)
        return CropCamera(R, pinhole(focal, size), size), -1


def _layout_mask(albedo: NDArray[np.uint8], A_layout_view: Array) -> NDArray[np.bool_]:
    step = VIEW_PX // LAYOUT_PX
    S = np.diag([1 / step, 1 / step, 1.0])
    A = S @ A_layout_view @ np.linalg.inv(S)

    def warp(small: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(cv2.warpAffine(small, A[:2], (LAYOUT_PX, LAYOUT_PX)), np.uint8)

    mask = warp(np.ascontiguousarray(albedo[::step, ::step, 3])) > 127
    if not mask.any():  # thinner than every second pixel, or out of the image
        mask = warp(albedo[..., 3].reshape(LAYOUT_PX, step, LAYOUT_PX, step).max((1, 3))) > 0
    return mask


def _dense_targets(bank: ViewBank, view: int, H_view_crop: Array, alpha: NDArray[np.float32]
                   ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Object coordinates and visible part at the middle of every cell."""
    cells = alpha.shape[0] // STRIDE
    axis = STRIDE * np.arange(cells) + (STRIDE - 1) / 2
    u, v = np.meshgrid(axis, axis)
    q = H_view_crop @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
    pixel = np.rint(q[:2] / q[2]).astype(np.int64).clip(0, VIEW_PX - 1)
    inside = bank.albedo[view][pixel[1], pixel[0], 3] > 0
    relative = bank.depth[view][pixel[1], pixel[0]].astype(np.float64)
    distance = bank.distance_m[view] / bank.diameter_m
    rays = (pixel - (VIEW_PX - 1) / 2) / (RELATIVE_SIZE * VIEW_PX * distance)
    points = np.stack([*(rays * (distance + relative)), relative])
    coordinates = 2.0 * bank.R_camera_object[view].T @ points
    mask = alpha.reshape(cells, STRIDE, cells, STRIDE).mean((1, 3))
    mask = mask * inside.reshape(cells, cells)
    return (coordinates.reshape(3, cells, cells).astype(np.float32), mask.astype(np.float32))
