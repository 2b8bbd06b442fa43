"""Boxes of the package's own detector, instead of those from ground truth or a file."""

from __future__ import annotations

import time

from ..datasets.bop import BopFrame
from ..datasets.boxes import FoundBox
from ..datasets.same_objects import KnownObject
from ..detector.decode import FoundObject
from ..detector.object_detector import ObjectDetector

# The best boxes of each target count, however low their scores; below this they are noise.
LEAST_SCORE = 0.02


class DetectorBoxes:
    """Runs a detector over the images and takes the boxes of each target object.

    :param detector: whose model names the BOP numbers of its objects.
    """

    def __init__(self, detector: ObjectDetector) -> None:
        self.detector = detector
        self._image: tuple[int, int] | None = None
        self._found: list[FoundObject] = []
        self._seconds = 0.0

    @property
    def known_objects(self) -> list[KnownObject]:
        """Return what the detector knows of its objects."""
        own = self.detector
        return [KnownObject(*values) for values in zip(
            own.object_ids, own.labels, own.diameters_m, strict=True)]

    def find(self, frame: BopFrame) -> list[FoundBox]:
        """Return all boxes of the target objects, best first; of all objects without targets."""
        ids = self.detector.object_ids
        return [FoundBox(ids[f.class_index], f.box_xyxy, f.score) for f in self.look(frame)
                if frame.targets_unknown or ids[f.class_index] in frame.targets]

    def seconds(self, frame: BopFrame) -> float:
        """Return how long the detector took for an image."""
        self.look(frame)
        return self._seconds

    def look(self, frame: BopFrame) -> list[FoundObject]:
        """Return all that the detector finds in an image, best first; it looks once."""
        key = frame.scene_id, frame.image_id
        if key != self._image:
            image = frame.load_image()
            start = time.perf_counter()
            self._found = self.detector.find(image, frame.camera)
            self._seconds, self._image = time.perf_counter() - start, key
        return self._found


def seconds_for(detector: ObjectDetector, frame: BopFrame) -> float:
    """Return how long a detector takes for an image, without reading its file."""
    image = frame.load_image()
    start = time.perf_counter()
    detector.find(image, frame.camera)
    return time.perf_counter() - start
