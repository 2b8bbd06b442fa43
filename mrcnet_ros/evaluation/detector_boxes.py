"""Boxes of the package's own detector, instead of those from ground truth or a file."""

from __future__ import annotations

import itertools
import time
from collections import Counter

from ..datasets.bop import BopFrame
from ..datasets.boxes import FoundBox
from ..datasets.same_objects import KnownObject
from ..detector.decode import FoundObject
from ..detector.object_detector import ObjectDetector
from ..inference.detection_choice import SPARE

# The best boxes of each target count, however low their scores; below this they are noise.
LEAST_SCORE = 0.02


class DetectorBoxes:
    """Runs a detector over the images and takes the best boxes of each target object.

    It takes a few more than there are instances; the scores of the poses decide among them.

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
        """Return a few more boxes of each target object than there are instances, best first.

        Without known targets, return all boxes of the image.
        """
        found, ids = self.look(frame), self.detector.object_ids
        targets = (Counter(ids[f.class_index] for f in found) if frame.targets_unknown
                   else frame.targets)
        boxes = []
        for object_id, count in sorted(targets.items()):
            own = (f for f in found if ids[f.class_index] == object_id)
            boxes += [FoundBox(object_id, f.box_xyxy, f.score)
                      for f in itertools.islice(own, count + SPARE)]
        return boxes

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
