"""Flat things that lie on tables: marker boards, printed pages, wood, cloth, pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Side of a print. Drawn two diameters large it has about as many pixels as the crop.
PRINT_PX = 160
Picture = NDArray[np.uint8]
_LETTERS = np.array(list('ABCDEFGHIKLMNOPRSTUVaeiourstnml0123456789'))
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX,
          cv2.FONT_HERSHEY_COMPLEX)


def draw_prints(pictures: NDArray[np.uint8], count: int, seed: int) -> NDArray[np.uint8]:
    """Draw flat things that lie on tables.

    :param pictures: (P, B, B, 3) uint8 photographs that some of them show.
    :return: (count, PRINT_PX, PRINT_PX, 3) uint8.
    """
    rng = np.random.default_rng([seed, 9])
    return np.stack([_draw_print(rng, pictures[int(rng.integers(len(pictures)))], PRINT_PX)
                     for _ in range(count)])


def _draw_print(rng: np.random.Generator, picture: Picture, size_px: int) -> Picture:
    kind = rng.random()
    if kind < 0.3:
        return _markers(rng, size_px)
    if kind < 0.55:
        return _page(rng, picture, size_px)
    if kind < 0.7:
        return np.asarray(cv2.resize(picture, (size_px, size_px)), np.uint8)
    return _plain(rng, size_px)


def _markers(rng: np.random.Generator, size_px: int) -> Picture:
    """Draw black squares with a white pattern inside on white, as calibration boards have."""
    squares, modules = int(rng.integers(3, 9)), int(rng.integers(5, 9))
    gap = int(rng.integers(1, modules // 2 + 1))
    step = modules + gap
    board = np.full((squares * step, squares * step), 240, np.uint8)
    for row in range(squares):
        for column in range(squares):
            inside = np.where(rng.random((modules - 2, modules - 2)) < 0.5, 240, 15)
            if rng.random() < 0.4:  # few large cells, as rings and corners
                inside[:] = 240
                inside[:(modules - 2) // 2, :(modules - 2) // 2] = 15
            square = np.pad(inside, 1, constant_values=15)
            y, x = row * step, column * step
            board[y:y + modules, x:x + modules] = np.rot90(square, int(rng.integers(4)))
    large = cv2.resize(board, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2RGB), np.uint8)


def _page(rng: np.random.Generator, picture: Picture, size_px: int) -> Picture:
    """Draw a coloured page with words, lines of small print and perhaps a picture."""
    page = np.full((size_px, size_px, 3), rng.integers(0, 256, 3), np.uint8)
    if rng.random() < 0.5:
        page[:] = rng.choice([225, 250])
    if rng.random() < 0.5:
        side = int(size_px * rng.uniform(0.3, 0.7))
        x, y = rng.integers(0, size_px - side, 2)
        page[y:y + side, x:x + side] = cv2.resize(picture, (side, side))
    ink = tuple(int(v) for v in (rng.integers(0, 256, 3) if rng.random() < 0.5
                                 else np.full(3, rng.choice([10, 245]))))
    for _ in range(int(rng.integers(2, 14))):
        word = ''.join(rng.choice(_LETTERS, int(rng.integers(3, 12))))
        scale = float(rng.uniform(0.3, 2.0)) * size_px / 160
        at = (int(rng.integers(-20, size_px)), int(rng.integers(0, size_px)))
        cv2.putText(page, word, at, _FONTS[int(rng.integers(len(_FONTS)))], scale, ink,
                    max(1, int(1.5 * scale)), cv2.LINE_AA)
    return page


def _plain(rng: np.random.Generator, size_px: int) -> Picture:
    """Draw wood, cloth or a plain board: one colour with more or less of a grain."""
    grain = rng.standard_normal((size_px, int(rng.integers(2, size_px))), np.float32)
    if rng.random() < 0.5:
        grain = cv2.GaussianBlur(grain, (0, 0), float(rng.uniform(0.5, 3)))
    grain = cv2.resize(grain, (size_px, size_px)) * np.float32(rng.uniform(0, 25))
    base = rng.uniform(15, 245) * np.exp(rng.normal(0, 0.25, 3))
    board = grain[..., None] * rng.uniform(0.6, 1.0, 3) + base
    return np.asarray(np.clip(board, 0, 255), np.uint8)
