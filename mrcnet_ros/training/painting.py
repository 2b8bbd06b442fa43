"""Draws the scene of a training image: background, table, objects and their light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array
from ..meshes.mesh import NEUTRAL_GREY
from ..specs import CropSpec
from .augmentation import clutter, recolour, weather
from .lighting import Light, draw_light
from .placing import PlacedView
from .printed_sheets import draw_prints
from .table_plane import Table, cast_shadow, lay_print
from .view_bank import ViewBank

# Part of the objects around that have other colours than their scans, and of all objects whose
# holes and creases are darkened.
RECOLOURED, SHADED = 0.6, 0.8
# Part of the bodies that have a colour of one of the objects, which alone must not tell it.
LIKE_OBJECTS = 0.6
# Part of the bodies that are printed with a piece of a photograph: packages, toys, tins.
PRINTED = 0.3
# Environment maps give coloured light, most of which a camera's white balance removes: part of the
# colour that is left.
LEFT_COLOUR = (0.2, 1.0)
# Brightness of objects whose files have no colours, relative to the neutral grey they are drawn
# in: plastic is white (255 is 1.6 times the grey) as often as grey, rarely dark.
PAINT = (0.5, 1.6)
# Views that tell whether an object has colours; each is from another side. A mark that one in ten
# shows is missed once in 800 times, and the others would take seconds to read.
LOOKED_AT = 64
# As many as fit into 25 MB of each process.
PRINTS = 320
Window = tuple[slice, slice]
Drawn = tuple[Window, NDArray[np.float32], NDArray[np.float32]]
# A colour (3,) float32 relative to a body's own, or None; a print (B, B, 3) uint8, or None.
Clothes = tuple[NDArray[np.float32] | None, NDArray[np.uint8] | None]


@dataclass(frozen=True)
class ComposerSpec:
    """Chances and ranges of the composed images.

    :param box_shift: largest shift of a box in parts of its side.
    :param box_scale: largest change of the logarithm of a box's longer side.
    :param occluded: chance that other objects lie in front.
    :param distracted: chance that other objects lie behind.
    :param cluttered: chance of hard-edged shapes in the background.
    :param varied: chance that the object's surface differs from its scanned colours.
    :param on_table: chance that a table with print is drawn under the object.
    :param border: chance that the image ends within the crop.
    :param photometric: how strongly colour, light and surface are changed, 0 to 1.
    """

    crop: CropSpec
    box_shift: float = 0.12
    box_scale: float = 0.15
    occluded: float = 0.6
    distracted: float = 0.7
    cluttered: float = 0.75
    varied: float = 0.8
    on_table: float = 0.7
    border: float = 0.12
    photometric: float = 0.5


@dataclass(frozen=True, eq=False)
class ComposedScene:
    """What one image shows: an object in the layout camera and what is around it.

    :param A_layout_view: (3, 3) map of the object's view to the layout image.
    :param K: (3, 3) of the layout camera [px].
    :param R_layout_object: (3, 3), of the object on the layout's axis.
    """

    class_index: int
    view: int
    A_layout_view: Array
    K: Array
    R_layout_object: Array
    table: Table | None
    others: tuple[PlacedView, ...]
    border: tuple[Array, ...]


class TrainingPainter:
    """Draws scenes into crops.

    :param banks: one for each class, then those of bodies that only disturb.
    :param classes: how many of the banks are classes.
    :param patches: (P, B, B, 3) uint8 backgrounds.
    :param lights: (M, 3, 4, 4) irradiance matrices.
    """

    def __init__(self, banks: Sequence[ViewBank], classes: int, patches: NDArray[np.uint8],
                 lights: Array, spec: ComposerSpec) -> None:
        self.banks, self.classes, self.patches = banks, classes, patches
        self.lights, self.spec = lights, spec
        self.prints = draw_prints(patches, PRINTS, 0)
        self._unpainted = [_unpainted(bank) for bank in banks[:classes]]

    def paint(self, rng: np.random.Generator, scene: ComposedScene, H_crop_layout: Array
               ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw background and table, objects behind, the object, objects in front.

        :return: (S, S, 3) float32 in 0..255, and (S, S) opacity of the object, 0 to 1.
        """
        size = self.spec.crop.size_px
        image = self._surroundings(rng, scene, size)
        light = draw_light(rng, self.environment(rng))
        if scene.table is not None:
            self._lay_table(rng, image, scene, H_crop_layout @ scene.K, light)
        own = PlacedView(scene.class_index, scene.view, scene.A_layout_view, False)
        layers = [o for o in scene.others if not o.in_front] + [own]
        layers += [o for o in scene.others if o.in_front]
        alpha = np.zeros((size, size), np.float32)
        for layer in layers:
            drawn = self.draw(rng, layer, H_crop_layout @ layer.A_layout_view, light,
                              layer is own, (size, size), self.clothes(rng, layer))
            if drawn is None:
                continue
            window, colour, a = drawn
            image[window] += a[..., None] * (colour - image[window])
            alpha[window] = a if layer is own else alpha[window] * (1 - a)
        return image, alpha

    def _surroundings(self, rng: np.random.Generator, scene: ComposedScene,
                      size: int) -> NDArray[np.float32]:
        image = background(rng, self.patch(rng), size)
        if rng.random() < self.spec.cluttered:
            albedo = self.banks[scene.class_index].albedo[scene.view]
            near = albedo[albedo[..., 3] > 0][:, :3].mean(0)
            clutter(rng, image, background(rng, self.patch(rng), size), near)
        return image

    def _lay_table(self, rng: np.random.Generator, image: NDArray[np.float32],
                   scene: ComposedScene, K_crop: Array, light: Light) -> None:
        """Draw the table, what is printed on it, and the shadows of what stands there."""
        table, bank = scene.table, self.banks[scene.class_index]
        assert table is not None
        for _ in range(int(rng.integers(1, 3))):
            sheet = self.prints[int(rng.integers(len(self.prints)))]
            lay_print(rng, image, table, K_crop, sheet, bank.diameter_m)
        lamp = scene.R_layout_object @ light.lamp
        lamp = lamp - 2 * min(0.0, float(lamp @ table.normal)) * table.normal
        corners = bank.hull @ scene.R_layout_object.T
        corners[:, 2] += bank.distance_m[scene.view]
        for standing in [corners, *(o.corners_m for o in scene.others)]:
            if standing is not None:
                cast_shadow(rng, image, table, K_crop, standing, lamp)

    def patch(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Draw a background patch."""
        return np.asarray(self.patches[int(rng.integers(len(self.patches)))], np.uint8)

    def environment(self, rng: np.random.Generator) -> Array:
        """Draw the light of an environment as a camera balances it, (3, 4, 4)."""
        environment = self.lights[int(rng.integers(len(self.lights)))]
        white = environment.mean(0, keepdims=True)
        return np.asarray(white + rng.uniform(*LEFT_COLOUR) * (environment - white))

    def clothes(self, rng: np.random.Generator, layer: PlacedView) -> Clothes:
        """Draw how a body that only disturbs looks: a colour or None for any, a print or None."""
        if layer.bank < self.classes:
            return None, None
        paint = self._colour_of_an_object(rng, layer) if rng.random() < LIKE_OBJECTS else None
        return paint, self._piece(rng) if rng.random() < PRINTED else None

    def _piece(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Cut a piece out of a background, (B, B, 3)."""
        patch = self.patch(rng)
        side = int(rng.integers(patch.shape[0] // 4, patch.shape[0] + 1))
        x, y = rng.integers(0, patch.shape[0] - side + 1, 2)
        return np.ascontiguousarray(patch[y:y + side, x:x + side])

    def _colour_of_an_object(self, rng: np.random.Generator,
                             body: PlacedView) -> NDArray[np.float32]:
        """Draw a colour that some object has somewhere, relative to that of a body."""
        bank = self.banks[int(rng.integers(self.classes))]
        albedo = bank.albedo[int(rng.integers(len(bank.albedo)))].reshape(-1, 4)
        seen = np.flatnonzero(albedo[:, 3] == 255)
        colour = albedo[seen[int(rng.integers(len(seen)))], :3] if len(seen) else np.full(3, 127)
        own = self.banks[body.bank].albedo[body.view].reshape(-1, 4)
        mean = own[own[:, 3] == 255][:, :3].mean() if (own[:, 3] == 255).any() else 127.0
        return np.asarray(colour * rng.uniform(0.7, 1.3) / max(mean, 1.0), np.float32)

    def draw(self, rng: np.random.Generator, layer: PlacedView, H_crop_view: Array, light: Light,
             target: bool, size: tuple[int, int], clothes: Clothes) -> Drawn | None:
        """Light a view in the crop; return where it is, its colours and its opacity.

        :param target: whether it is the object of the sample, not one that only disturbs.
        :param size: width and height of the crop.
        :param clothes: see :meth:`clothes`.
        """
        paint, printed = clothes
        bank, view, strength = self.banks[layer.bank], layer.view, self.spec.photometric
        flat = cv2.warpPerspective(bank.albedo[view], H_crop_view, size)
        x, y, width, height = cv2.boundingRect(flat[..., 3])
        if width == 0:
            return None
        window = (slice(y, y + height), slice(x, x + width))
        opacity = flat[window][..., 3]
        whole = np.float32(255) / np.maximum(opacity, 1)
        albedo = _uint8(flat[window][..., :3] * whole[..., None])
        codes = cv2.warpPerspective(bank.normals[view], H_crop_view, size,
                                    flags=cv2.INTER_NEAREST)[window]
        inside = cv2.warpPerspective(bank.albedo[view][..., 3], H_crop_view, size,
                                     flags=cv2.INTER_NEAREST)[window] > 0
        codes = np.where(inside, codes, cv2.dilate(codes * inside, np.ones((3, 3), np.uint8)))
        varied = rng.random() < (self.spec.varied if target else RECOLOURED)
        if varied:
            albedo = recolour(rng, albedo, strength if target else 1.0)
            if not target:
                albedo = albedo[..., rng.permutation(3)]
        shade = light.table(bank.R_camera_object[view], rng.uniform(8, 80)).take(codes, axis=0)
        if printed is not None:
            albedo = np.asarray(cv2.resize(printed, (width, height), interpolation=cv2.INTER_AREA))
        elif layer.bank >= self.classes:
            shade[..., :3] *= rng.uniform(0.15, 1.3, 3).astype(np.float32) if paint is None \
                else paint
        elif self._unpainted[layer.bank]:
            shade[..., :3] *= np.float32(rng.uniform(*PAINT))
        if rng.random() < SHADED:
            openness = cv2.warpPerspective(bank.openness[view], H_crop_view, size)[window] * whole
            closed = np.float32(1) - np.minimum(openness, 255) * np.float32(1 / 255)
            shade *= (1 - np.float32(rng.uniform(0.2, 1)) * closed)[..., None]
        colour = albedo * shade[..., :3]
        colour += shade[..., 3:]
        if varied and target:
            weather(rng, colour, self.patch(rng), strength)
        return window, np.clip(colour, 0, 255, out=colour), opacity * np.float32(1 / 255)


def _unpainted(bank: ViewBank) -> bool:
    """Whether all that is seen of an object has the grey of files without colours."""
    return all((view[view[..., 3] == 255][:, :3] == NEUTRAL_GREY).all()
               for view in bank.albedo[:LOOKED_AT])


def _uint8(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def beyond_border(border: Sequence[Array], H_crop_layout: Array, image: NDArray[np.uint8],
                   alpha: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Blacken what lies outside the image, as crops of the node are black there."""
    v, u = np.indices(alpha.shape)
    for line in border:
        a, b, c = line @ np.linalg.inv(H_crop_layout)
        outside = a * u + b * v + c > 0
        image, alpha = np.where(outside[..., None], np.uint8(0), image), np.where(
            outside, np.float32(0), alpha)
    return image, alpha


def background(rng: np.random.Generator, patch: NDArray[np.uint8],
               size: int) -> NDArray[np.float32]:
    """Enlarge a random window of a patch to a square image, mirrored or not.

    An image of twice the patch or more shows the whole patch.
    """
    side = int(rng.integers(min(size // 2, patch.shape[0]), patch.shape[0] + 1))
    x, y = rng.integers(0, patch.shape[0] - side + 1, 2)
    window = patch[y:y + side, x:x + side]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    flat = cv2.resize(np.ascontiguousarray(window), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(flat, np.float32)
