"""From an image to the boxes of known objects: scale, network, boxes."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, SpecError
from ..geometry.camera import Camera
from ..inference.input_checks import check_inputs
from ..inference.poses import Detection
from ..runtimes.backend import Backend, RuntimeOptions
from ..runtimes.runtime_choice import open_backend
from ..specs import DETECTOR_STRIDES
from .decode import FoundObject, cell_grid, decode_detections
from .entry import DETECTOR, DetectorEntry, read_detector

# Two of three boxes on the LM-O photographs are right above this score, where F1 is highest.
LEAST_SCORE = 0.25
# Boxes of one image at most, so that a noisy image cannot ask for hundreds of poses.
MOST_DETECTIONS = 64
# Of the size that the detector expects: objects that a wide lens shows smaller are told.
SMALLEST_LOOK = 0.95
# Images that are made smaller than this are averaged. Above it, two pixels of each row and column
# are enough, which takes a seventh of the time: 0.2 in place of 1.4 ms for 640x480 pixels.
SMOOTHED_BELOW = 0.7
# Image sizes whose cells are remembered: cameras come in few.
_REMEMBERED = 4


class ObjectDetector:
    """Finds the objects of a model in an image, each with the box of what is visible.

    :param least_score: boxes below are left out.
    :param most: largest number of boxes that are returned for an image, the best first.
    :raises SpecError: when a number cannot be used.
    """

    closed = False
    _told_wide = False  # of a wide lens, in the log

    def __init__(self, entry: DetectorEntry, backend: Backend, *,
                 least_score: float = LEAST_SCORE, most: int = MOST_DETECTIONS) -> None:
        if not 0 < least_score < 1 or most < 1:
            raise SpecError(f'least_score must be between 0 and 1 and most at least 1, got '
                            f'{least_score} and {most}')
        self.labels, self.object_ids = entry.labels, entry.object_ids
        self.spec, self.path, self.diameters_m = entry.spec, entry.path, entry.diameters_m
        self.backend, self.least_score, self.most = backend, least_score, most
        self._cells: dict[tuple[int, int], NDArray[np.float32]] = {}

    @classmethod
    def load(cls, model_dir: Path | str, *, least_score: float = LEAST_SCORE,
             most: int = MOST_DETECTIONS, **runtime: Any) -> ObjectDetector:
        """Load the detector of a model directory.

        It runs in the same runtimes as the poses. It has precisions of its own: by default the
        lowest one that ``mrcnet verify --detector`` accepted here, else fp32.

        :param model_dir: directory whose ``model.json`` names a detector.
        :param least_score: boxes below are left out.
        :param most: largest number of boxes that are returned for an image, the best first.
        :param runtime: of :class:`~mrcnet_ros.runtimes.backend.RuntimeOptions`, such as
            ``backend``, ``precision`` and ``threads``.
        :raises ModelError: when the directory has no detector, or it is damaged.
        :raises BackendError: when the runtime or the precision cannot be used.
        """
        entry = read_detector(Path(model_dir))
        options = RuntimeOptions(**runtime)
        backend = open_backend(
            entry, replace(options, say=lambda text: options.say(f'detector: {text}')))
        return cls(entry, backend, least_score=least_score, most=most)

    def detect(self, image_rgb: NDArray[np.uint8], camera: Camera) -> list[Detection]:
        """Return the objects that an image shows, best first.

        :param image_rgb: (H, W, 3) uint8.
        :param camera: of the image; its focal length says how large objects can be.
        :return: boxes in pixels of the image, clipped to it.
        :raises ImageError: when the image is of another kind, or of another size than the
            camera's.
        :raises BackendError: when the detector is closed.
        """
        return [Detection(self.labels[f.class_index], f.box_xyxy, f.score)
                for f in self.find(image_rgb, camera)]

    def find(self, image_rgb: NDArray[np.uint8], camera: Camera) -> list[FoundObject]:
        """Return what :meth:`detect` does, with class rows in place of labels."""
        if self.closed:
            raise BackendError('the detector is closed; load it again')
        check_inputs(image_rgb, camera)
        pixels, scale = self._scaled(image_rgb, camera)
        outputs = self.backend.run(DETECTOR, {'image': pixels})
        found = decode_detections(
            np.asarray(outputs['logits'])[0], np.asarray(outputs['distances'])[0],
            self._grid(pixels.shape[2:4]), self.least_score)
        boxes = []
        for f in found:
            box = f.box_xyxy / np.tile(scale, 2)
            box = np.clip(box, 0, np.tile([camera.width, camera.height], 2))
            if (box[2:] - box[:2]).min() >= 1 and np.isfinite(box).all():
                boxes.append(FoundObject(f.class_index, f.score, box))
        return boxes[:self.most]

    def close(self) -> None:
        """Let go of the device; nothing can be found afterwards."""
        self.closed = True
        self.backend.close()

    def _scaled(self, image: NDArray[np.uint8], camera: Camera
                ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the network's input (1, 3, h, w), and its pixels for one of the image, x and y.

        It is filled up to the right and below, to a multiple of the largest stride.
        """
        focal = float(np.sqrt(camera.K[0, 0] * camera.K[1, 1]))
        longest = max(camera.width, camera.height)
        wanted = min(self.spec.focal_px / focal, self.spec.longest_px / longest)
        look = wanted * focal / self.spec.focal_px
        if look < SMALLEST_LOOK and not self._told_wide:
            self._told_wide = True
            logging.getLogger(__name__).warning(
                'the lens is wide for the detector (focal length %.0f px, image %dx%d px): '
                'objects look %.0f %% smaller than it expects, and small ones may be missed; '
                'use a longer lens, or a part of the image (roi of camera_info)',
                focal, camera.width, camera.height, 100 * (1 - look))
        width = max(1, round(wanted * camera.width))
        height = max(1, round(wanted * camera.height))
        how = cv2.INTER_AREA if wanted < SMOOTHED_BELOW else cv2.INTER_LINEAR
        small = cv2.resize(image, (width, height), interpolation=how)
        step = DETECTOR_STRIDES[-1]
        filled = np.zeros((1, 3, -(-height // step) * step, -(-width // step) * step), np.float32)
        filled[0, :, :height, :width] = small.transpose(2, 0, 1)
        return filled, np.array([width / camera.width, height / camera.height])

    def _grid(self, size: tuple[int, ...]) -> NDArray[np.float32]:
        height, width = size
        if (height, width) not in self._cells:
            if len(self._cells) >= _REMEMBERED:
                self._cells.clear()
            self._cells[height, width] = cell_grid(height, width)
        return self._cells[height, width]
