"""Photographs of a dataset with the outlines of what is in them and of what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import cv2

from ..datasets.bop import BopFrame, ResultRow
from ..errors import DatasetError
from ..geometry.camera import Camera
from ..objects import ObjectModel
from ..rendering.drawing import WHITE, Image, scaled_intrinsics
from ..rendering.pose_overlay import DrawnObject, PoseOverlay, pose_text

SCALE = 2  # pictures are this many times larger than photographs: outlines stay thin


class OverlayWriter(AbstractContextManager['OverlayWriter']):
    """Writes one picture an image: truth in white, estimates in green with label and score.

    Where depth corrected a pose, its distance from the measured surface stands there too.

    Pictures are twice as large as the photographs, so that outlines stay thin.

    :param folder: where to, made when missing.
    :param objects: by object id.
    :raises BackendError: when there is no headless OpenGL.
    :raises MeshError: when a mesh cannot be read.
    """

    def __init__(self, folder: Path, objects: Mapping[int, ObjectModel],
                 labels: Mapping[int, str]) -> None:
        """Make the folder and read the meshes."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._labels = folder, labels
        self._overlay = PoseOverlay({str(i): model for i, model in objects.items()})
        for i in objects:
            self._overlay.upload(str(i))

    def __exit__(self, *_: object) -> None:
        self._overlay.close()

    def write(self, frame: BopFrame, image: Image, rows: Sequence[ResultRow]) -> Path:
        """Draw and save one picture.

        :param image: (H, W, 3) uint8 RGB.
        :param rows: the estimates for the image.
        :return: the file.
        :raises DatasetError: when it cannot be written.
        """
        large = cv2.resize(image, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_LINEAR)
        camera = Camera(scaled_intrinsics(frame.camera.K, SCALE), large.shape[1], large.shape[0])
        truths = frame.target_ground_truth() if frame.annotated else ()
        drawn = [DrawnObject(str(t.object_id), t.T_camera_object, '', WHITE, axes=False)
                 for t in truths]
        drawn += [DrawnObject(str(row.object_id), row.T_camera_object,
                              pose_text(self._labels[row.object_id], row.score, row.residual_m),
                              axes=False) for row in rows]
        picture = self._overlay.draw(large, camera, drawn)
        path = self._folder / f'{frame.scene_id:06d}_{frame.image_id:06d}.png'
        if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise DatasetError(f'{path}: cannot be written; check the folder given to --overlays')
        return path
