"""Light on rendered views, and what a camera does to an image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array

RECOLOURED = 0.6
SHADOWED = 0.6
TEXTURED = 0.4


def light(rng: np.random.Generator, albedo: NDArray[np.uint8], normals: NDArray[np.uint8],
          lamp: Array, azimuth: float, gloss: float, R_camera_object: Array) -> NDArray[np.uint8]:
    """Light a view by an environment, a lamp and a highlight.

    :param albedo: (S, S, 4) uint8 colour and mask.
    :param normals: (S, S, 3) uint8 object-frame normals.
    :param lamp: (3, 4, 4) irradiance of an environment whose up is the object's z axis.
    :param azimuth: of the environment about z [rad].
    :param gloss: 0 to 1, below 0.5 without a highlight.
    :return: (S, S, 4) uint8.
    """
    result = np.array(albedo)
    rows, columns = np.nonzero(albedo[..., 3])
    n = normals[rows, columns].astype(np.float32) * np.float32(1 / 127.5) - np.float32(1)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(azimuth), -np.sin(azimuth)], [np.sin(azimuth), np.cos(azimuth)]]
    Q = (turn.T @ lamp @ turn).astype(np.float32)
    h = np.concatenate([n, np.ones((len(n), 1), np.float32)], 1)
    softness = np.float32(rng.uniform(0.0, 0.7))
    ambient = softness + (1 - softness) * np.stack([((h @ q) * h).sum(1) for q in Q], 1)
    direction = rng.normal(size=3)
    direction[2] = abs(direction[2])
    direction = (direction / np.linalg.norm(direction)).astype(np.float32)
    lamp_strength = np.float32(rng.uniform(0, 0.8) * (rng.random() < 0.6))
    shade = ambient + (lamp_strength * np.maximum(n @ direction, 0))[:, None]
    gain = np.sqrt(np.maximum(shade, 0.02)) * np.float32(rng.uniform(0.75, 1.25))
    colour = albedo[rows, columns, :3] * gain
    if gloss > 0.5:
        toward = -R_camera_object[2].astype(np.float32)
        half = direction + toward
        half /= np.linalg.norm(half) + np.float32(1e-6)
        highlight = np.maximum(n @ half, 0) ** np.float32(rng.uniform(8, 40))
        colour += (np.float32(240 * (gloss - 0.5)) * highlight)[:, None]
    result[rows, columns, :3] = np.clip(colour, 0, 255)
    return result


def light_simply(rng: np.random.Generator, albedo: NDArray[np.uint8],
                 normals: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Light a view by one direction and an ambient part: enough for objects that only disturb.

    :param albedo: (S, S, 4) uint8 colour and mask.
    :param normals: (S, S, 3) uint8 object-frame normals.
    :return: (S, S, 4) uint8.
    """
    direction = rng.normal(size=3)
    direction *= rng.uniform(0, 0.5) / (127.5 * np.linalg.norm(direction))
    offset = rng.uniform(0.4, 1.1) - 127.5 * direction.sum()
    row = np.array([[*direction, offset]])
    gain = cv2.transform(normals.astype(np.float32), np.repeat(row, 3, axis=0))
    colour = albedo[..., :3]
    if rng.random() < RECOLOURED:
        colour = colour[..., rng.permutation(3)]
        gain = gain * rng.uniform(0.3, 1.5, 3).astype(np.float32)
    result = np.array(albedo)
    result[..., :3] = np.clip(colour * gain, 0, 255)
    return result


def vary_surface(rng: np.random.Generator, view: NDArray[np.uint8],
                 texture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Change how an object's surface looks: real ones differ from their scanned colours.

    Tint, uneven brightness, and sometimes another texture shining through.

    :param view: (S, S, 4) uint8 lit colour and mask.
    :param texture: (B, B, 3) uint8 with B >= S.
    :return: (S, S, 4) uint8.
    """
    size = view.shape[0]
    cells = int(rng.integers(2, 6))
    field = rng.uniform(0.6, 1.35, (cells, cells)).astype(np.float32)
    field = cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC)
    tint = (rng.uniform(0.75, 1.3) * rng.uniform(0.8, 1.2, 3)).astype(np.float32)
    colour = view[..., :3] * (field[..., None] * tint)
    if rng.random() < TEXTURED:
        part = np.float32(rng.uniform(0.05, 0.45))
        x, y = rng.integers(0, texture.shape[0] - size + 1, 2)
        colour += part * (texture[y:y + size, x:x + size] - colour)
    result = np.array(view)
    result[..., :3] = np.clip(colour, 0, 255)
    return result


def clutter(rng: np.random.Generator, image: NDArray[np.float32],
            texture: NDArray[np.float32], near: NDArray[np.float64]) -> None:
    """Draw hard-edged shapes, plain, textured or chequered, as on a desk full of things.

    :param image: (S, S, 3) float32 in 0..255; changed in place.
    :param texture: likewise, shows through some of the shapes.
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


def augment(rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Cast soft shadows, change colour, sharpness and noise, and drop rectangles.

    :param image: (S, S, 3) float32 in 0..255; changed in place.
    :return: (S, S, 3) uint8.
    """
    size = image.shape[0]
    if rng.random() < SHADOWED:
        cells = int(rng.integers(2, 7))
        field = rng.uniform(0.45, 1.3, (cells, cells)).astype(np.float32)
        image *= cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC)[..., None]
    if rng.random() < 0.25:
        for _ in range(int(rng.integers(1, 4))):
            w, h = rng.integers(size // 16, size // 4, 2)
            x, y = rng.integers(0, size - w), rng.integers(0, size - h)
            image[y:y + h, x:x + w] = rng.uniform(0, 255, 3)
    if rng.random() < 0.4:
        small = int(size * rng.uniform(0.35, 0.9))
        image = cv2.resize(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA),
                           (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.3))
    gain = rng.uniform(0.6, 1.4) * rng.uniform(0.85, 1.15, 3)
    contrast, mean = rng.uniform(0.6, 1.4), float(image.mean())
    image = (image - mean) * (contrast * gain).astype(np.float32) + (
        mean * gain + rng.uniform(-25, 25)).astype(np.float32)
    if rng.random() < 0.3:
        grey = image.mean(2, keepdims=True)
        image = grey + np.float32(rng.uniform(0.2, 1.4)) * (image - grey)
    if rng.random() < 0.6:
        noise = rng.standard_normal(image.shape, np.float32)
        image = image + np.float32(rng.uniform(1, 10)) * noise
    return np.asarray(np.clip(image, 0, 255), np.uint8)
