"""Whole scenes to train the detector on: several objects on a table, with their visible boxes.

Scene ``i`` of seed ``s`` is a function of (s, i) alone, so any scene can be made again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.crop import pinhole
from ..geometry.se3 import Array
from ..network.detector_losses import IGNORED, WANTED
from ..specs import ViewPrior
from .augmentation import cast_clouds, clutter, expose, in_a_room, photograph
from .lighting import Light, draw_light
from .painting import TrainingPainter, background
from .placing import PlacedView
from .scene_layout import SceneLayout, SceneObject
from .table_plane import Table, cast_shadow, lay_print
from .view_bank import ViewBank

# How many objects and other bodies a scene holds.
OBJECTS, BODIES = (3, 9), (3, 16)
# Part of the backgrounds that are put together of four patches, as sharp as the camera sees them;
# one patch alone is enlarged.
QUARTERED = 0.6
# Objects of which less is visible are not asked for, and no error is made by finding them.
LEAST_VISIBLE = 0.1
# Smaller visible parts are ignored [px of the longer side].
SMALLEST_PX = 5
# Part of the scenes with a table, size of its prints [m], pixels of the camera for one of a scene.
ON_TABLE, PRINT_M = 0.85, 0.2
CAMERA_PIXELS = (0.7, 1.5)  # for one of the scene; below 1 the scene looks enlarged
# Shadows are drawn at half the resolution: they are soft.
SHADOW_STEP = 2


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """An image and what the detector should find in it.

    :param image: (S, S, 3) uint8 RGB.
    :param boxes: (G, 4) float32 of what is visible [px] between pixels.
    :param class_index: (G,) int64.
    :param kind: (G,) int64, WANTED or IGNORED.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    class_index: NDArray[np.int64]
    kind: NDArray[np.int64]


class SceneComposer:
    """Makes scenes from view banks, background patches and light."""

    def __init__(self, banks: Sequence[ViewBank], priors: Sequence[ViewPrior | None],
                 painter: TrainingPainter, camera: tuple[float, int],
                 distance_m: tuple[float, float]) -> None:
        """Keep the material.

        :param banks: one for each class, in class order, then those of bodies that only disturb.
        :param camera: focal length of a scene and its side [px].
        """
        self.banks, self.classes, self.painter = banks, len(priors), painter
        self.focal_px, self.size_px = camera
        self.layout = SceneLayout(banks, priors, distance_m)

    def scene(self, seed: int, index: int) -> TrainingScene:
        """Make scene ``index`` of a seed."""
        rng = np.random.default_rng([seed, 7, index])
        K = pinhole(self.focal_px, self.size_px)
        table = self.layout.table(rng)
        objects = self.layout.place(rng, table, K, self._choose(rng))
        light = draw_light(rng, self.painter.environment(rng))
        image = self._surroundings(rng)
        if rng.random() < ON_TABLE:
            self._lay_table(rng, image, table, K, objects, light)
        owner = self._draw(rng, image, objects, light)
        boxes, classes, kinds = self._boxes(owner, objects)
        strength = self.painter.spec.photometric
        image = in_a_room(rng, image)
        cast_clouds(rng, image, strength)
        taken = photograph(rng, expose(rng, image, strength), float(rng.uniform(*CAMERA_PIXELS)))
        return TrainingScene(taken, boxes, classes, kinds)

    def _choose(self, rng: np.random.Generator) -> list[int]:
        """Draw which banks are in a scene; an object is there once, or now and then twice."""
        count = min(int(rng.integers(*OBJECTS, endpoint=True)), 2 * self.classes)
        order = np.concatenate([rng.permutation(self.classes) for _ in range(2)])
        if rng.random() < 0.2:
            order = rng.permutation(order)
        chosen = order[:min(count, self.classes) if count <= self.classes else count].tolist()
        others = len(self.banks) - self.classes
        if others:
            chosen += (self.classes + rng.integers(0, others, int(rng.integers(
                *BODIES, endpoint=True)))).tolist()
        return [int(c) for c in rng.permutation(chosen)]

    def _surroundings(self, rng: np.random.Generator) -> NDArray[np.float32]:
        painter = self.painter
        image = background(rng, painter.patch(rng), self.size_px)
        if rng.random() < QUARTERED:
            half = self.size_px // 2
            for y, x in ((0, 0), (0, half), (half, 0), (half, half)):
                image[y:y + half, x:x + half] = background(rng, painter.patch(rng), half)
        for _ in range(2):
            if rng.random() < painter.spec.cluttered:
                bank = self.banks[int(rng.integers(self.classes))]
                albedo = bank.albedo[int(rng.integers(len(bank.albedo)))]
                near = albedo[albedo[..., 3] > 0][:, :3].mean(0)
                clutter(rng, image, background(rng, painter.patch(rng), self.size_px), near)
        return image

    def _lay_table(self, rng: np.random.Generator, image: NDArray[np.float32], table: Table,
                   K: Array, objects: Sequence[SceneObject], light: Light) -> None:
        for _ in range(int(rng.integers(1, 5))):
            sheet = self.painter.prints[int(rng.integers(len(self.painter.prints)))]
            moved = dataclasses.replace(
                table, point_m=table.point_m + table.axes @ rng.normal(0, 0.15, 2))
            lay_print(rng, image, moved, K, sheet, PRINT_M)
        turn = np.column_stack([table.axes, table.normal])
        lamp = turn @ light.lamp  # its height over the table is the object's; its bearing is free
        small = self.size_px // SHADOW_STEP
        shade = np.ones((small, small, 1), np.float32)
        K_small = np.diag([1 / SHADOW_STEP, 1 / SHADOW_STEP, 1.0]) @ K
        for placed in objects:
            if placed.corners_m is not None:
                cast_shadow(rng, shade, table, K_small, placed.corners_m, lamp)
        image *= cv2.resize(shade, image.shape[1::-1])[..., None]

    def _draw(self, rng: np.random.Generator, image: NDArray[np.float32],
              objects: Sequence[SceneObject], light: Light) -> NDArray[np.int16]:
        """Draw the objects; return (S, S) which of them is seen in each pixel, -1 for none."""
        owner = np.full(image.shape[:2], -1, np.int16)
        for number, placed in enumerate(objects):
            window = self._window(placed)
            if window is None:
                continue
            x, y, width, height = window
            H = np.array([[1.0, 0, -x], [0, 1, -y], [0, 0, 1]]) @ placed.A_image_view
            layer = PlacedView(placed.bank, placed.view, placed.A_image_view, True)
            of_class = placed.bank < self.classes
            drawn = self.painter.draw(rng, layer, H, light, of_class, (width, height),
                                      self.painter.clothes(rng, layer))
            if drawn is None:
                continue
            (rows, columns), colour, alpha = drawn
            at = (slice(y + rows.start, y + rows.stop), slice(x + columns.start, x + columns.stop))
            image[at] += alpha[..., None] * (colour - image[at])
            owner[at][alpha > 0.5] = number
        return owner

    def _window(self, placed: SceneObject) -> tuple[int, int, int, int] | None:
        """Return x, y, width and height [px] of where an object may be seen in the image."""
        x, y, w, h = cv2.boundingRect(self.banks[placed.bank].albedo[placed.view][..., 3])
        corners = np.array([[x, y], [x + w, y], [x, y + h], [x + w, y + h]]) - 0.5
        seen = corners @ placed.A_image_view[:2, :2].T + placed.A_image_view[:2, 2]
        low = np.clip(np.floor(seen.min(0)) - 1, 0, self.size_px).astype(int)
        high = np.clip(np.ceil(seen.max(0)) + 2, 0, self.size_px).astype(int)
        width, height = (high - low).tolist()
        return (int(low[0]), int(low[1]), width, height) if min(width, height) > 0 else None

    def _boxes(self, owner: NDArray[np.int16], objects: Sequence[SceneObject]
               ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Return the boxes of what is visible of each object, its class, and whether it counts."""
        boxes, classes, kinds = [], [], []
        for number, placed in enumerate(objects):
            if placed.bank >= self.classes:
                continue
            x, y, w, h = cv2.boundingRect((owner == number).view(np.uint8))
            if w == 0:
                continue
            silhouette = np.count_nonzero(self.banks[placed.bank].albedo[placed.view][..., 3])
            whole = silhouette * float(np.linalg.det(placed.A_image_view[:2, :2]))
            fraction = np.count_nonzero(owner[y:y + h, x:x + w] == number) / whole
            boxes.append((x, y, x + w, y + h))
            classes.append(placed.bank)
            wanted = fraction >= LEAST_VISIBLE and max(w, h) >= SMALLEST_PX
            kinds.append(WANTED if wanted else IGNORED)
        return (np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64),
                np.array(kinds, np.int64))
