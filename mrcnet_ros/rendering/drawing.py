"""Outlines and labels on photographs."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.se3 import Array

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

# Bright ones, which photographs rarely have; text has a black box.
GREEN: Color = (60, 255, 60)
WHITE: Color = (255, 255, 255)
BLACK: Color = (0, 0, 0)

_SUBPIXEL_BITS = 4  # lines are drawn at sixteenths of a pixel
_FARTHEST_PX = 30000.0  # points beyond are left out: OpenCV's fixed-point coordinates overflow


def scaled_intrinsics(K: Array, scale: float) -> Array:
    """Return the intrinsics of an image enlarged about its corner, not its first pixel centre.

    :param K: (3, 3) [px], integer coordinates at pixel centres.
    :return: (3, 3) [px] of the enlarged image.
    """
    half = (scale - 1.0) / 2.0
    return np.array([[scale, 0.0, half], [0.0, scale, half], [0.0, 0.0, 1.0]]) @ K


def draw_lines(image: Image, lines: Sequence[Array], color: Color, thickness: int = 1) -> None:
    """Draw lines through points between pixels into the image.

    :param image: (H, W, 3) uint8, changed.
    :param lines: (N, 2) [px] each; a line is interrupted where a point is nan.
    """
    scale = 1 << _SUBPIXEL_BITS
    pieces = []
    for line in lines:
        # nan is not below anything
        seen = np.asarray((np.abs(line) < _FARTHEST_PX).all(axis=1))
        runs = np.split(np.arange(len(line)), np.flatnonzero(np.diff(seen)) + 1)
        pieces += [np.rint(line[run] * scale).astype(np.int32) for run in runs
                   if len(run) > 1 and seen[run[0]]]
    cv2.polylines(image, pieces, False, color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def draw_text(image: Image, corner_uv: tuple[int, int], text: str, color: Color) -> None:
    """Write text on a dark plate above a point, inside the image.

    :param image: (H, W, 3) uint8, changed.
    :param corner_uv: where the plate's lower left corner should be [px].
    """
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    (width, height), below = cv2.getTextSize(text, font, size, 1)
    x = int(np.clip(corner_uv[0], 0, max(image.shape[1] - width - 2, 0)))
    y = int(np.clip(corner_uv[1] - below - 2, height + 2, image.shape[0] - below - 1))
    cv2.rectangle(image, (x, y - height - 2), (x + width + 2, y + below), BLACK, cv2.FILLED)
    cv2.putText(image, text, (x + 1, y), font, size, color, 1, cv2.LINE_AA)
