"""Projected outlines of objects on a photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..geometry.se3 import Array
from ..objects import ObjectModel
from ..rendering.renderer import Renderer
from .bop import BopFrame, ResultRow

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

GREEN: Color = (60, 255, 60)
WHITE: Color = (255, 255, 255)
BLACK: Color = (0, 0, 0)
SCALE = 2


class OverlayWriter:
    """Writes one picture an image: truth in white, estimates in green with label and score.

    Pictures are twice as large as the photographs, so that outlines stay thin.

    :param folder: where to, made when missing.
    :param objects: by object id.
    :param size: width and height of the photographs [px].
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(
        self, folder: Path, objects: Mapping[int, ObjectModel], labels: Mapping[int, str],
        size: tuple[int, int],
    ) -> None:
        """Make the folder and upload the meshes."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._labels = folder, labels
        self._renderer = Renderer(SCALE * size[0], SCALE * size[1])
        for object_id, model in objects.items():
            self._renderer.add_mesh(object_id, model.load_mesh())

    def __enter__(self) -> OverlayWriter:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free the renderer."""
        self._renderer.close()

    def write(self, frame: BopFrame, image: Image, rows: Sequence[ResultRow]) -> Path:
        """Draw and save one picture.

        :param image: (H, W, 3) uint8 RGB.
        :param rows: the estimates for the image.
        :return: the file.
        :raises DatasetError: when it cannot be written.
        """
        picture = cv2.resize(image, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_LINEAR)
        K = scaled_intrinsics(frame.camera.K, SCALE)
        for truth in frame.target_ground_truth():
            draw_outline(picture, self._mask(truth.object_id, truth.T_camera_object, K), WHITE)
        for row in rows:
            mask = self._mask(row.object_id, row.T_camera_object, K)
            draw_outline(picture, mask, GREEN)
            draw_label(picture, mask, f'{self._labels[row.object_id]} {row.score:.2f}', GREEN)
        path = self._folder / f'{frame.scene_id:06d}_{frame.image_id:06d}.png'
        if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise DatasetError(f'{path}: cannot be written; check the folder given to --overlays')
        return path

    def _mask(self, object_id: int, T_camera_object: Array, K: Array) -> NDArray[np.bool_]:
        return self._renderer.render(object_id, T_camera_object, K).mask


def scaled_intrinsics(K: Array, scale: float) -> Array:
    """Return the intrinsics of an image enlarged about its corner, not its first pixel centre.

    :param K: (3, 3) [px], integer coordinates at pixel centres.
    :return: (3, 3) [px] of the enlarged image.
    """
    half = (scale - 1.0) / 2.0
    return np.array([[scale, 0.0, half], [0.0, scale, half], [0.0, 0.0, 1.0]]) @ K


def draw_outline(image: Image, mask: NDArray[np.bool_], color: Color, thickness: int = 1) -> None:
    """Draw the border of a silhouette, holes included, into the image.

    :param image: (H, W, 3) uint8, changed.
    :param mask: (H, W) bool.
    """
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, color, thickness, cv2.LINE_AA)


def draw_label(image: Image, mask: NDArray[np.bool_], text: str, color: Color) -> None:
    """Write text on a dark plate above a silhouette, inside the image.

    :param image: (H, W, 3) uint8, changed.
    :param mask: (H, W) bool; nothing is written when it is empty.
    """
    if not mask.any():
        return
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    (width, height), below = cv2.getTextSize(text, font, size, 1)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x = int(np.clip(columns[0], 0, max(image.shape[1] - width - 2, 0)))
    y = int(np.clip(rows[0] - below - 2, height + 2, image.shape[0] - below - 1))
    cv2.rectangle(image, (x, y - height - 2), (x + width + 2, y + below), BLACK, cv2.FILLED)
    cv2.putText(image, text, (x + 1, y), font, size, color, 1, cv2.LINE_AA)
