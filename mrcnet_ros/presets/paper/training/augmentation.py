"""What the published training does to the colours of an image, and to its background.

Images are float32 in 0..255, channels in any order. Source: mrcnet.md section 6.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

# As published: part of the samples with other colours, part and size of the dropped rectangles,
# centre of the contrast.
COLOUR_CHANCE = 0.8
DROPOUT_SHARE, DROPOUT_SIZE = 0.2, 0.05
GREY = np.float32(127.0)


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
    """Return where an image survives the loss of coarse rectangles, (H, W) bool."""
    cells = [max(3, round(DROPOUT_SIZE * n)) for n in shape]
    coarse = (rng.random(cells) >= DROPOUT_SHARE).astype(np.uint8)
    fine = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(fine, np.bool_)


def _blur(image: Image, sigma: float) -> Image:
    if sigma < 1e-3:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
