"""The swap test: how much of an error comes from the object, and how much from the background.

The photographed and the rendered object are each shown on the photographed and on a smooth
background. All four images have the same truth and the same box.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

import cv2
import numpy as np
from numpy.typing import NDArray

from ..datasets.known_view import KnownView
from ..geometry.crop import crop_camera
from ..geometry.sampling import sample_crop
from ..geometry.se3 import Array
from ..objects import ObjectModel
from ..rendering.drawing import Image, scaled_intrinsics
from ..rendering.renderer import Renderer
from ..specs import CropSpec
from .mosaic import Row, draw_mosaic

PHOTOGRAPH = 'photograph'
CUT_OUT = 'photographed object, smooth background'
RENDERED = 'rendered object, smooth background'
PASTED = 'rendered object, photographed background'
WAYS = (PHOTOGRAPH, CUT_OUT, RENDERED, PASTED)

MIN_VISIBLE = 0.9  # what is hidden cannot be cut out of the photograph
# renders are this much larger than photographs and then averaged, for soft edges
FINER = 3
# the background's blur in sides of the box: nothing the size of the object is left in it
BLUR_SIDES = 0.5
# of the object's edge, which annotations miss by a pixel or two, kept out of the background
MARGIN_PX = 3
COLUMNS = 10  # examples in the picture; more make it too wide for a screen


class Swapper(AbstractContextManager['Swapper']):
    """Makes the four images of a view.

    :param objects: by label, with coloured meshes, as the model was trained with.
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(self, objects: Mapping[str, ObjectModel]) -> None:
        """Keep the objects; meshes are uploaded with the first image of each size."""
        self._objects = objects
        self._renderers: dict[tuple[int, int], Renderer] = {}

    def __exit__(self, *_: object) -> None:
        for renderer in self._renderers.values():
            renderer.close()

    def views(self, view: KnownView) -> dict[str, KnownView]:
        """Return the four views by name of the way."""
        colour, opacity = self._render(view)
        photograph = view.image.astype(np.float32)
        smooth = smooth_background(photograph, opacity > 0, view.box_xyxy)
        part = opacity[..., None]
        images = {
            CUT_OUT: part * photograph + (1 - part) * smooth,
            RENDERED: colour + (1 - part) * smooth,
            PASTED: colour + (1 - part) * photograph}
        return {PHOTOGRAPH: view, **{
            name: dataclasses.replace(view, image=np.rint(image).astype(np.uint8))
            for name, image in images.items()}}

    def _render(self, view: KnownView) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw the mesh where the object is, as large as the object.

        :return: (H, W, 3) colours, black where empty, and (H, W) opacity 0..1.
        """
        T = np.array(view.T_camera_object)
        T[:3, 3] /= self._objects[view.label].size_ratio
        size = (view.camera.width, view.camera.height)
        K = scaled_intrinsics(view.camera.K, FINER)
        drawn = self._renderer(*size).render(view.label, T, K)
        colour, opacity = (
            np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), np.float32)
            for fine in (drawn.rgb.astype(np.float32), drawn.mask.astype(np.float32)))
        return colour, opacity

    def _renderer(self, width: int, height: int) -> Renderer:
        if (width, height) not in self._renderers:
            renderer = self._renderers[width, height] = Renderer(FINER * width, FINER * height)
            for label, item in self._objects.items():
                renderer.add_mesh(label, item.load_mesh())
        return self._renderers[width, height]


def smooth_background(image: NDArray[np.float32], mask: NDArray[np.bool_],
                      box_xyxy: Array) -> NDArray[np.float32]:
    """Return an image without an object and without detail: the mean of what is around.

    :param image: (H, W, 3).
    :param mask: (H, W) of the object.
    :param box_xyxy: (4,) of the object [px].
    """
    margin = np.ones((2 * MARGIN_PX + 1,) * 2, np.uint8)
    outside = (cv2.dilate(mask.astype(np.uint8), margin) == 0).astype(np.float32)
    sigma = max(BLUR_SIDES * float((box_xyxy[2:] - box_xyxy[:2]).max()), 1.0)
    weight = np.maximum(cv2.GaussianBlur(outside, (0, 0), sigma), np.float32(1e-6))
    blurred = cv2.GaussianBlur(image * outside[..., None], (0, 0), sigma)
    return np.asarray(blurred / weight[..., None], np.float32)


def nearly_whole(views: Iterable[KnownView]) -> list[KnownView]:
    """Return the views of objects that are nearly all visible."""
    return [view for view in views if view.visible_fraction > MIN_VISIBLE]


def picture(swapped: Sequence[Mapping[str, KnownView]], spec: CropSpec) -> Image:
    """Draw crops of a few views, one column each, spread over all.

    :param swapped: views by name of the way.
    :return: (H, W, 3) uint8 RGB.
    """
    some = [swapped[i] for i in np.unique(np.linspace(0, len(swapped) - 1, COLUMNS).astype(int))]

    def crop(view: KnownView) -> Image:
        return sample_crop(view.image, view.camera, crop_camera(view.camera, view.box_xyxy, spec))

    return draw_mosaic([Row(tuple(name.replace(', ', ' ').split(' ')),
                            [crop(views[name]) for views in some]) for name in WAYS], 'swap test')
