"""The last stage, where it is asked for: stage 2 starts once more, at the pose itself.

Stage 2 has compared the crop with cached templates, which show the object as far as 15 degrees
away and without its perspective. Here the object is drawn at the pose that the crops agree on, and
stage 2 says what is still wrong. Its answer is one more measurement of the same crop, so the mean
of all is the pose. It costs a drawing and a run of two graphs for each object and pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from ..geometry.se3 import Array, rotation_angle
from ..objects import ObjectModel
from ..runtimes.backend import Backend
from ..specs import MOST_REFINEMENTS, SEEN, TemplateSpec
from .consensus import AGREE_DIAMETERS, AGREE_RAD, mean_pose
from .decoding import AgreedPose, Outputs
from .detection_crops import DetectionCrop, crops_each
from .exact_stage2 import ExactStage2


class Refiner:
    """Measures poses anew, as often as is asked for, the crops of a detection in turns.

    With passes it is used and closed by the thread that made it.

    :param objects: by class index, centred.
    :param passes: for each pose; none needs no OpenGL.
    :raises SpecError: when that is no whole number from 0 to 3.
    :raises MeshError: when a mesh cannot be read.
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(self, backend: Backend, spec: TemplateSpec, objects: Sequence[ObjectModel],
                 passes: int) -> None:
        if passes not in range(MOST_REFINEMENTS + 1) or isinstance(passes, bool):
            raise SpecError(f'refine must be a whole number from 0 to {MOST_REFINEMENTS}, '
                            f'got {passes!r}')
        self._objects, self.passes = objects, int(passes)
        self._stage2 = ExactStage2(backend, spec, objects) if self.passes else None

    def close(self) -> None:
        """Free the renderer."""
        if self._stage2 is not None:
            self._stage2.close()

    def refine(self, agreed: Sequence[AgreedPose], crops: Sequence[DetectionCrop], seen: Outputs
               ) -> list[AgreedPose]:
        """Return the means of poses and of what is measured when stage 2 starts there.

        Answers that are far from the pose they start at, or not finite, do not count. The others
        say how good the pose is, in place of the answers that it comes from.

        :param agreed: those that are not finite stay so.
        :param crops: those of one detection stand together.
        :param seen: what stage 1 says of the crops.
        """
        good = [a for a in agreed if a.evidence is not None]
        if not good:
            return list(agreed)
        better = iter(self._refined(good, crops, seen))
        return [a if a.evidence is None else next(better) for a in agreed]

    def _refined(self, agreed: Sequence[AgreedPose], crops: Sequence[DetectionCrop],
                 seen: Outputs) -> list[AgreedPose]:
        assert self._stage2 is not None
        T = np.stack([a.T_camera_object for a in agreed])
        classes = np.array([a.crop.class_index for a in agreed], np.int64)
        counts, qualities = np.ones(len(agreed)), np.zeros(len(agreed))
        for number in range(self.passes):
            rows = _turn(np.array([a.crop_row for a in agreed]), number, crops_each(crops))
            ends, quality = self._stage2.run(T, classes, [crops[row].camera for row in rows],
                                             {name: seen[name][rows] for name in SEEN})
            for i in np.flatnonzero(self._near(T, ends, classes) & np.isfinite(quality)):
                T[i] = mean_pose(np.stack([T[i], ends[i]]), np.array([counts[i], 1.0]))
                counts[i] += 1.0
                qualities[i] += quality[i]
        return [_improved(a, T[i], qualities[i] / (counts[i] - 1.0),
                          self._objects[a.crop.class_index].diameter_m) if counts[i] > 1.0 else a
                for i, a in enumerate(agreed)]

    def _near(self, T_start: Array, T_end: Array, classes: NDArray[np.int64]
              ) -> NDArray[np.bool_]:
        """Return which answers agree with the poses they start at, (N,), as crops agree."""
        diameter_m = np.array([self._objects[c].diameter_m for c in classes])
        moved = np.linalg.norm(T_end[:, :3, 3] - T_start[:, :3, 3], axis=1) / diameter_m
        turned = np.array([rotation_angle(a.T @ b)
                           for a, b in zip(T_start[:, :3, :3], T_end[:, :3, :3], strict=True)])
        return np.asarray((moved < AGREE_DIAMETERS) & (turned < AGREE_RAD))


def _turn(rows: NDArray[np.int64], number: int, count: int) -> NDArray[np.int64]:
    """Return the crops of the same detections whose turn it is.

    :param rows: (N,) first crops.
    :param number: of the pass; 0 returns ``rows``.
    :param count: of the crops of each detection.
    """
    return rows // count * count + (rows + number) % count


def _improved(agreed: AgreedPose, T_camera_object: Array, quality: float, diameter_m: float
              ) -> AgreedPose:
    evidence = agreed.evidence
    assert evidence is not None
    distance = float(np.linalg.norm(T_camera_object[:3, 3])) / diameter_m
    return agreed._replace(T_camera_object=T_camera_object, evidence=dataclasses.replace(
        evidence, quality=float(quality) * evidence.share, distance=distance))
