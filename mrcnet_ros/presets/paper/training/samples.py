"""Training samples of the paper preset, cut from the images of a BOP dataset.

Lengths of poses are in millimetres, as the published losses and bins have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ....errors import DatasetError
from ....geometry.camera import Camera
from ....reading.picture import read_mask, read_rgb
from ..crop import PaperCrops, network_input, square_crops
from ..spec import PaperSpec
from .index import PaperIndex

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

# As published: part of the samples with other colours, part and size of the dropped rectangles,
# centre of the contrast.
COLOUR_CHANCE = 0.8
DROPOUT_SHARE, DROPOUT_SIZE = 0.2, 0.05
GREY = np.float32(127.0)
# As published: how far boxes are moved and scaled, in sides of the box.
SHIFT, SCALE = 0.25, 0.25
# As published: part of the images with MANY or more instances of the object that get another
# background, so that the others do not show.
BACKGROUND_CHANCE, MANY = 0.8, 3
MASK_STRIDE = 4  # pixels of the crop for one of the predicted mask
ORDER, DRAW = 1, 2  # streams of random numbers: order of an epoch, one sample


def vary_colours(rng: np.random.Generator, image: Image, mask: Mask) -> tuple[Image, Mask]:
    """Apply noise, dropout, blur, add, invert, multiply (twice) and contrast, each by chance.

    What is dropped from the image is no longer visible in the mask either.

    :param image: (H, W, 3).
    :param mask: (H, W) bool, visible pixels of the object.
    :return: image, in 0..255, and mask.
    """
    if rng.random() < 0.5:
        image = _noise(rng, image)
    if rng.random() < 0.5:
        kept = _kept(rng, mask.shape)
        image, mask = image * kept[..., None], mask & kept
    if rng.random() < 0.5:
        image = _blur(image, rng.uniform(0.0, 1.2))
    if rng.random() < 0.5:
        image = image + np.rint(_each_channel(rng, -25.0, 25.0, 0.3), dtype=np.float32)
    if rng.random() < 0.3:
        image = np.where(rng.random(3) < 0.2, np.float32(255) - image, image)
    if rng.random() < 0.5:
        image = image * _each_channel(rng, 0.6, 1.4, 0.5)
    if rng.random() < 0.5:
        image = image * _each_channel(rng, 0.6, 1.4, 0.0)
    if rng.random() < 0.5:
        image = _each_channel(rng, 0.5, 2.2, 0.3) * (image - GREY) + GREY
    return np.clip(image, 0, 255).astype(np.float32), mask


def cut_background(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return the middle of a picture as a background of another size, its aspect kept.

    :param picture: (h, w, 3) uint8.
    :return: (height, width, 3) uint8.
    """
    h, w = picture.shape[:2]
    scale = max(width / w, height / h)
    part_w, part_h = min(w, round(width / scale)), min(h, round(height / scale))
    x, y = (w - part_w) // 2, (h - part_h) // 2
    return np.asarray(cv2.resize(picture[y:y + part_h, x:x + part_w], (width, height),
                                 interpolation=cv2.INTER_LINEAR), np.uint8)


def _each_channel(rng: np.random.Generator, low: float, high: float, chance: float) -> Image:
    """Draw one number for all channels or, by chance, one for each, (3,)."""
    count = 3 if rng.random() < chance else 1
    return np.broadcast_to(rng.uniform(low, high, count).astype(np.float32), 3)


def _noise(rng: np.random.Generator, image: Image) -> Image:
    """Add white noise, equal in all channels or independent."""
    channels = 3 if rng.random() < 0.5 else 1
    sigma = np.float32(rng.uniform(0.0, 0.01 * 255))
    return image + sigma * rng.standard_normal((*image.shape[:2], channels), np.float32)


def _kept(rng: np.random.Generator, shape: tuple[int, ...]) -> Mask:
    """Return where an image is kept when coarse rectangles are dropped, (H, W) bool."""
    cells = [max(3, round(DROPOUT_SIZE * n)) for n in shape]
    coarse = (rng.random(cells) >= DROPOUT_SHARE).astype(np.uint8)
    fine = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(fine, np.bool_)


def _blur(image: Image, sigma: float) -> Image:
    if sigma < 1e-3:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


class PaperBatch(NamedTuple):
    """Samples stacked.

    :param image: (N, 4, S, S) float32, crop and box map as the network takes them.
    :param class_index: (N,) int64.
    :param view: (N, 3) float32 geometry input of stage 1.
    :param K_crop: (N, 3, 3) float32 [px].
    :param R: (N, 3, 3) float32 R_crop_object.
    :param t: (N, 3) float32 t_crop_object [mm].
    :param mask: (N, S/4, S/4) float32, 1 where the object is seen.
    """

    image: Tensor
    class_index: Tensor
    view: Tensor
    K_crop: Tensor
    R: Tensor
    t: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> PaperBatch:
        return PaperBatch(*(tensor.to(device, non_blocking=True) for tensor in self))


class PaperSamples(Dataset[PaperBatch]):
    """Samples by number, which do not depend on the process that draws them.

    Every instance comes once in an epoch; each epoch has another order.

    :param backgrounds: pictures for images that show an object several times; none to leave
        these as they are.
    """

    def __init__(self, index: PaperIndex, spec: PaperSpec, backgrounds: Sequence[Path],
                 seed: int) -> None:
        self.index, self.spec, self.seed = index, spec, seed
        self.backgrounds = list(backgrounds)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def row(self, number: int) -> int:
        """Return the instance that a sample shows."""
        epoch, position = divmod(number, len(self.index))
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, ORDER, epoch])
            self._epoch, self._order = epoch, rng.permutation(len(self.index))
        return int(self._order[position])

    def __getitem__(self, number: int) -> PaperBatch:
        """Return a sample as a batch of one.

        :raises ImageError: when an image or mask cannot be decoded.
        :raises DatasetError: when a mask is missing or of another size.
        """
        row = self.row(number)
        rng = np.random.default_rng([self.seed, DRAW, number])
        image = _read(self.index.image_path(row)).astype(np.float32)
        mask = self._mask(row, image.shape[:2])
        if rng.random() < COLOUR_CHANCE:
            image, mask = vary_colours(rng, image, mask)
        if self.backgrounds and self.index.alike[row] >= MANY \
                and rng.random() < BACKGROUND_CHANCE:
            image = np.where(mask[..., None], image, self._background(rng, image))
        crops = self._crops(rng, row, image.shape[1], image.shape[0])
        return self._batch(row, crops, np.rint(image).astype(np.uint8), mask)

    def _mask(self, row: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        path = self.index.mask_path(row)
        mask = read_mask(path) if path.is_file() else None
        if mask is None or mask.shape != shape:
            found = 'missing' if mask is None else f'{mask.shape[1]}x{mask.shape[0]}'
            raise DatasetError(f'mask {path}: is {found}, expected {shape[1]}x{shape[0]} like its '
                               'image; extract the masks of the split again')
        return mask

    def _background(self, rng: np.random.Generator,
                    image: NDArray[np.float32]) -> NDArray[np.uint8]:
        path = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
        return cut_background(_read(path), image.shape[1], image.shape[0])

    def _crops(self, rng: np.random.Generator, row: int, width: int, height: int) -> PaperCrops:
        """Return the view of a box that is moved and scaled by chance, turned by chance."""
        x, y, w, h = self.index.box_xywh[row].astype(np.float64)
        size = np.array([w, h])
        centre = np.array([x, y]) + size / 2 + size * rng.uniform(-SHIFT, SHIFT, 2)
        scale = 1 + rng.uniform(-SCALE, SCALE)
        side = min(self.spec.padding * size.max() * scale, max(width, height))
        camera = Camera(self.index.K[self.index.image[row]], width, height)
        crops = square_crops(camera, centre, scale * size, float(side), self.spec)
        turn = int(rng.integers(self.spec.turns))
        return crops.part(slice(turn, turn + 1))

    def _batch(self, row: int, crops: PaperCrops, image_bgr: NDArray[np.uint8],
               mask: NDArray[np.bool_]) -> PaperBatch:
        Rz = crops.Rz[0]
        side = self.spec.size_px // MASK_STRIDE
        seen = cv2.warpAffine(mask.astype(np.float32), crops.A_crop_image[0] / MASK_STRIDE,
                              (side, side), flags=cv2.INTER_LINEAR) > 0.5
        values = (network_input(image_bgr[..., ::-1], crops), crops.view, crops.K_crop,
                  (Rz @ self.index.R[row])[None], (Rz @ self.index.t_mm[row])[None], seen[None])
        pixels, view, K, R, t, visible = (torch.from_numpy(np.asarray(v, np.float32))
                                          for v in values)
        classes = torch.tensor([int(self.index.class_index[row])])
        return PaperBatch(pixels, classes, view, K, R, t, visible)


def stack(samples: Sequence[PaperBatch]) -> PaperBatch:
    """Join batches."""
    return PaperBatch(*(torch.cat(tensors) for tensors in zip(*samples, strict=True)))


def _read(path: Path) -> NDArray[np.uint8]:
    """Return an image, (H, W, 3) uint8 BGR.

    :raises ImageError: when it cannot be decoded.
    """
    return np.ascontiguousarray(read_rgb(path)[..., ::-1])
