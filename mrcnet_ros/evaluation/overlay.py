"""Projected outlines of objects on a photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from ..datasets.bop import BopFrame, ResultRow
from ..errors import DatasetError
from ..geometry.se3 import Array
from ..objects import ObjectModel
from ..rendering.drawing import (
    GREEN,
    WHITE,
    Image,
    draw_label,
    draw_outline,
    scaled_intrinsics,
)
from ..rendering.renderer import Renderer

SCALE = 2


class OverlayWriter:
    """Writes one picture an image: truth in white, estimates in green with label and score.

    Pictures are twice as large as the photographs, so that outlines stay thin.

    :param folder: where to, made when missing.
    :param objects: by object id.
    :param size: largest width and height of the photographs [px], which may differ in size.
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
        for truth in frame.target_ground_truth() if frame.annotated else ():
            mask = self._mask(truth.object_id, truth.T_camera_object, K, picture)
            draw_outline(picture, mask, WHITE)
        for row in rows:
            mask = self._mask(row.object_id, row.T_camera_object, K, picture)
            draw_outline(picture, mask, GREEN)
            draw_label(picture, mask, f'{self._labels[row.object_id]} {row.score:.2f}', GREEN)
        path = self._folder / f'{frame.scene_id:06d}_{frame.image_id:06d}.png'
        if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise DatasetError(f'{path}: cannot be written; check the folder given to --overlays')
        return path

    def _mask(self, object_id: int, T_camera_object: Array, K: Array,
              picture: Image) -> NDArray[np.bool_]:
        """Return where an object is in a picture, (H, W) bool."""
        height, width = picture.shape[:2]
        return self._renderer.render(object_id, T_camera_object, K).mask[:height, :width]
