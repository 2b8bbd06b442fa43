"""Augmentation: surfaces unlike their scans, cluttered desks, effects of a camera."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SHADOWED = 0.6  # part of the crops with a shadow across
# Cameras in rooms give darker images than light of a mean of one, with deep blacks and strong
# colours: factors of brightness, exponents of the levels, factors of colour against grey. In the
# middle of the crops of 20 photographs of LM-O, the mean level is 91, its spread within a crop 39,
# and the spread of a pixel 0.41 of its largest channel. In training crops these are 117, 43 and
# 0.36 without the factors, and 94, 40 and 0.42 with them.
BRIGHTNESS, CONTRAST, COLOUR = (0.7, 1.1), (1.0, 1.5), (0.9, 1.2)
# white noise; images use windows of it, because drawing it would be a tenth of the work
_NOISE = np.random.default_rng(0).standard_normal(1 << 20, np.float32)


def recolour(rng: np.random.Generator, colour: NDArray[np.uint8],
             strength: float) -> NDArray[np.uint8]:
    """Change the colours of a scanned surface as a whole: tone curve, saturation, tint.

    :param colour: (..., 3) uint8.
    :param strength: 0 for none to 1 for the widest ranges.
    :return: (..., 3) uint8.
    """
    levels = np.arange(256) / 255.0
    gamma, gain = around(rng, 0.6, 1.7, strength), around(rng, 0.7, 1.3, strength)
    tone = np.clip(255 * gain * levels**gamma, 0, 255).astype(np.uint8)
    k = float(around(rng, 0.5, 2.2, strength))  # scans are duller than photographs
    mix = k * np.eye(3) + (1 - k) / 3
    mix = mix * around(rng, 0.85, 1.15, strength, (3, 1))
    return np.asarray(cv2.transform(cv2.LUT(colour, tone), mix), np.uint8)


def weather(rng: np.random.Generator, colour: NDArray[np.float32],
            texture: NDArray[np.uint8], strength: float) -> None:
    """Make a lit surface uneven: patches of light and shadow, soft and hard, another texture.

    Real surfaces differ from their scans in gloss, dirt, what they mirror, and the shadows that
    other things cast on them.

    :param colour: (H, W, 3) float32 in 0..255; changed in place.
    :param texture: (B, B, 3) uint8; enlarged where it is smaller than the surface.
    :param strength: 0 for none to 1 for the widest ranges.
    """
    height, width = colour.shape[:2]
    if rng.random() < 0.6:
        cells = int(rng.integers(2, 7))
        field = around(rng, 0.55, 1.4, strength, (cells, cells)).astype(np.float32)
        colour *= cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    if rng.random() < 0.5 * strength:
        field = np.ones((height, width), np.float32)
        for _ in range(int(rng.integers(1, 4))):
            _random_shape(rng, field, float(rng.uniform(0.25, 1.5)))
        if rng.random() < 0.7:
            field = cv2.blur(field, (3, 3) if rng.random() < 0.5 else (7, 7))
        colour *= field[..., None]
    if rng.random() < 0.3 * strength:
        if texture.shape[0] < height or texture.shape[1] < width:
            texture = np.asarray(cv2.resize(texture, (max(height, width),) * 2), np.uint8)
        x, y = rng.integers(0, np.array(texture.shape[1::-1]) - (width, height) + 1)
        part = np.float32(strength * rng.uniform(0.05, 0.5))
        colour += part * (texture[y:y + height, x:x + width] - colour)


def _random_shape(rng: np.random.Generator, field: NDArray[np.float32], value: float) -> None:
    """Fill a triangle, quadrangle or ellipse."""
    size = np.array(field.shape[1::-1])
    centre = rng.uniform(0, 1, 2) * size
    if rng.random() < 0.5:
        axes = rng.uniform(0.05, 0.4, 2) * size
        cv2.ellipse(field, (centre.tolist(), (2 * axes).tolist(), rng.uniform(0, 180)), value, -1,
                    cv2.LINE_AA)
    else:
        corners = centre + rng.uniform(-0.5, 0.5, (int(rng.integers(3, 5)), 2)) * size
        cv2.fillPoly(field, [corners.astype(np.int32)], value, cv2.LINE_AA)


def clutter(rng: np.random.Generator, image: NDArray[np.float32],
            texture: NDArray[np.float32], near: NDArray[np.float64]) -> None:
    """Draw hard-edged shapes, plain, textured or chequered, as on a desk full of things.

    :param image: (S, S, 3) float32 in 0..255; changed in place.
    :param texture: (S, S, 3) float32 in 0..255, which fills some of the shapes.
    :param near: (3,) mean colour of the object, which some shapes come close to.
    """
    size = image.shape[0]
    for _ in range(int(rng.integers(2, 9))):
        centre = rng.uniform(0, size, 2)
        sides = rng.uniform(0.06, 0.5, 2) * size
        box = cv2.boxPoints((centre.tolist(), sides.tolist(), rng.uniform(0, 90)))
        colour = _shape_colour(rng, near)
        kind = rng.random()
        if kind < 0.5:
            cv2.fillConvexPoly(image, box.astype(np.int32), colour, cv2.LINE_AA)
        elif kind < 0.7:
            mask = np.zeros((size, size), np.uint8)
            cv2.fillConvexPoly(mask, box.astype(np.int32), 1)
            np.copyto(image, texture, where=mask[..., None] > 0)
        elif kind < 0.85:
            cv2.ellipse(image, (centre.tolist(), sides.tolist(), rng.uniform(0, 180)), colour, -1,
                        cv2.LINE_AA)
        else:
            _chequer(rng, image, box, colour)


def _shape_colour(rng: np.random.Generator,
                  near: NDArray[np.float64]) -> tuple[float, float, float]:
    """Black, white, grey, any colour, or one like the object's."""
    kind = rng.random()
    if kind < 0.4:
        grey = float(rng.choice([10, 60, 140, 235]))
        return grey, grey, grey
    colour = near * rng.uniform(0.6, 1.4) if kind < 0.65 else rng.uniform(0, 255, 3)
    r, g, b = colour.tolist()
    return r, g, b


def _chequer(rng: np.random.Generator, image: NDArray[np.float32], box: NDArray[np.float32],
             colour: tuple[float, float, float]) -> None:
    """Fill a box with a random pattern of black, white and a colour, like print or a marker."""
    cells = int(rng.integers(3, 8))
    pattern = np.where(rng.random((cells, cells, 1)) < 0.5, np.float32(15), np.float32(240))
    pattern = np.repeat(pattern, 3, 2)
    pattern[rng.random((cells, cells)) < 0.15] = colour
    source = np.array([[0, 0], [cells, 0], [cells, cells]], np.float32) - 0.5
    A = cv2.getAffineTransform(source, box[:3])
    shape = image.shape[1::-1]
    warped = cv2.warpAffine(pattern, A, shape, flags=cv2.INTER_NEAREST)
    mask = cv2.warpAffine(np.ones((cells, cells), np.uint8), A, shape, flags=cv2.INTER_NEAREST)
    np.copyto(image, warped, where=mask[..., None] > 0)


def augment(rng: np.random.Generator, image: NDArray[np.float32],
            strength: float) -> NDArray[np.float32]:
    """Cast soft shadows, drop rectangles, and change exposure, contrast and colour balance.

    :param image: (S, S, 3) float32 in 0..255; may be changed in place.
    :param strength: 0 for none to 1 for the widest ranges.
    :return: (S, S, 3) float32.
    """
    size = image.shape[0]
    cast_clouds(rng, image, strength)
    if rng.random() < 0.25 * strength:
        for _ in range(int(rng.integers(1, 4))):
            w, h = rng.integers(size // 16, size // 4, 2)
            x, y = rng.integers(0, size - w), rng.integers(0, size - h)
            image[y:y + h, x:x + w] = rng.uniform(0, 255, 3)
    return expose(rng, image, strength)


def cast_clouds(rng: np.random.Generator, image: NDArray[np.float32], strength: float) -> None:
    """Cast soft shadows over most images.

    :param image: (S, S, 3) float32 in 0..255; changed in place.
    :param strength: 0 for none to 1 for the widest ranges.
    """
    if rng.random() < SHADOWED:
        cells = int(rng.integers(2, 7))
        field = around(rng, 0.45, 1.3, strength, (cells, cells)).astype(np.float32)
        image *= cv2.resize(field, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)[..., None]


def in_a_room(rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Darken an image, deepen its blacks and strengthen its colours, as cameras in rooms do.

    :param image: (S, S, 3) float32 in 0..255, or above where light is strong.
    :return: (S, S, 3) float32.
    """
    levels = np.maximum(image, 0) * np.float32(rng.uniform(*BRIGHTNESS) / 255)
    image = 255 * levels ** np.float32(rng.uniform(*CONTRAST))
    grey = image.mean(2, keepdims=True)
    return np.asarray(grey + np.float32(rng.uniform(*COLOUR)) * (image - grey), np.float32)


def expose(rng: np.random.Generator, image: NDArray[np.float32],
           strength: float) -> NDArray[np.float32]:
    """Change exposure, contrast and colour balance.

    :param image: (S, S, 3) float32 in 0..255.
    :param strength: 0 for none to 1 for the widest ranges.
    :return: (S, S, 3) float32.
    """
    gain = around(rng, 0.7, 1.3, strength) * around(rng, 0.85, 1.15, strength, 3)
    contrast, mean = around(rng, 0.7, 1.4, strength), float(image.mean())
    image = (image - mean) * (contrast * gain).astype(np.float32) + (
        mean * gain + strength * rng.uniform(-25, 25)).astype(np.float32)
    if rng.random() < 0.3:
        grey = image.mean(2, keepdims=True)
        image = grey + np.float32(around(rng, 0.2, 1.4, strength)) * (image - grey)
    return image


def photograph(rng: np.random.Generator, image: NDArray[np.float32],
               resolution: float) -> NDArray[np.uint8]:
    """Take a picture with a camera: its lens, its pixels, its noise, its compression.

    :param image: (S, S, 3) float32 in 0..255; may be changed in place.
    :param resolution: pixels of the camera for a pixel of the crop; below 1 the crop was enlarged.
    :return: (S, S, 3) uint8.
    """
    size = image.shape[0]
    pixels = max(16, round(size * min(resolution, 1.0)))
    if pixels < size:
        image = cv2.resize(image, (pixels, pixels), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.8:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9))
    if rng.random() < 0.1:
        image = _shake(rng, image)
    if rng.random() < 0.8:
        start = int(rng.integers(len(_NOISE) - image.size + 1))
        noise = _NOISE[start:start + image.size].reshape(image.shape)
        if rng.random() < 0.5:  # interpolated from a mosaic of colour filters
            noise = 2 * cv2.blur(noise, (3, 3))
        image = image + np.float32(rng.uniform(0.5, 7)) * noise
    taken = np.asarray(np.clip(image, 0, 255), np.uint8)
    if rng.random() < 0.15:
        code = cv2.imencode('.jpg', taken, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 96))])
        taken = np.asarray(cv2.imdecode(code[1], cv2.IMREAD_COLOR), np.uint8)
    if pixels < size:
        taken = np.asarray(cv2.resize(taken, (size, size), interpolation=cv2.INTER_LINEAR),
                           np.uint8)
    return taken


def _shake(rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blur along a line of 2 to 5 pixels."""
    length, angle = rng.uniform(1.0, 2.5), rng.uniform(0, np.pi)
    kernel = np.zeros((7, 7), np.float32)
    end = (length * np.array([np.cos(angle), np.sin(angle)]) * 16).astype(int)
    cv2.line(kernel, (48 - end[0], 48 - end[1]), (48 + end[0], 48 + end[1]), 1.0, 1, cv2.LINE_AA,
             4)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.float32)


def around(rng: np.random.Generator, low: float, high: float, strength: float,
           shape: int | tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """Draw factors between two bounds, log-uniformly.

    :param low: lowest factor at full strength, below 1.
    :param high: highest, above 1.
    :param strength: 0 for factors of 1 to 1 for the whole range.
    """
    return np.asarray(np.exp(strength * rng.uniform(np.log(low), np.log(high), shape)))
