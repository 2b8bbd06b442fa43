"""The last stage, for models that have a refiner: what is still wrong with a pose.

Stage 2 has compared the crop of a detection's box with a template that shows the object as far as
15 degrees away. The refiner has weights of its own, and a new crop. The crop is made for the pose
found so far: it shows the object there as large, as centred and as upright as the template of the
nearest viewing direction. The refiner's answer is one more measurement, and a better one than the
start. So the pose is their mean, in which the answer has the larger weight. The refiner's
confidence is about the pose that it has looked at, so it takes the place of stage 2's.

From image to image the refiner follows an object without the other stages: the pose that is
expected is near enough to start at, and neither a box nor stage 1 is needed. Its answer then is
the pose. The tracker knows how certain the expected pose was, and joins both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError
from ..geometry.camera import Camera
from ..geometry.pose_crop import directions_seen, pose_crop
from ..geometry.rotation_grid import grid_of
from ..geometry.sampling import sample_crops
from ..geometry.se3 import Array, rotation_angle
from ..geometry.spread import sigmoid
from ..objects import ObjectModel
from ..rendering.template_store import TemplateStore
from ..runtimes.backend import Backend
from ..specs import MOST_REFINEMENTS, REFINER_GRAPHS
from .consensus import AGREE_DIAMETERS, AGREE_RAD, mean_pose
from .decoding import AgreedPose, decode_poses
from .detection_crops import MOST_CROPS
from .feature_cache import FeatureCache
from .model_directory import ModelDirectory
from .template_features import TemplateFeatures

RUN, TEMPLATE = REFINER_GRAPHS
# How much an answer counts beside the pose of stage 2. On composed images its errors are 1.5 times
# smaller, so its inverse variance is 2.3 times larger. On photographs 2, 4 and the answer alone
# score the same (.755 to .759 on LM-O), and 1 less (.743).
ANSWER_WEIGHT = 2.0


def checked_passes(passes: object) -> int:
    """Return how often poses are to be refined.

    :raises SpecError: when that is no whole number from 0 to 3.
    """
    if not isinstance(passes, int) or isinstance(passes, bool) or not (
            0 <= passes <= MOST_REFINEMENTS):
        raise SpecError(f'refine must be a whole number from 0 to {MOST_REFINEMENTS}, '
                        f'got {passes!r}')
    return passes


class Refiner:
    """Measures poses anew.

    :param model: that has a refiner.
    :param objects: by class index, centred.
    :param cache: keeps the features of templates.
    :raises MeshError: when a template must be drawn and the mesh cannot be used.
    :raises BackendError: when one must be drawn and there is no headless OpenGL.
    """

    def __init__(self, backend: Backend, model: ModelDirectory, objects: Sequence[ObjectModel],
                 store: TemplateStore, cache: FeatureCache) -> None:
        spec = model.refiner
        assert spec is not None
        self._backend, self._spec, self._objects = backend, spec, objects
        self._grid = grid_of(spec.bins)
        self._seen = [directions_seen(spec, model.view_priors[o.object_id]) for o in model.objects]
        templates = [store.load_or_build(item, spec, seen)
                     for item, seen in zip(objects, self._seen, strict=True)]
        self.features = TemplateFeatures(backend, objects, templates, cache, TEMPLATE)

    def refine(self, agreed: Sequence[AgreedPose], image: NDArray[np.uint8], camera: Camera,
               passes: int) -> tuple[list[AgreedPose], int, int]:
        """Return the weighted means of poses and of what the refiner makes of them.

        Where it ends far from its start, the pose stays as it is, and is not measured again. In
        any case the refiner says how good the pose is.

        :param agreed: those that are not finite stay as they are.
        :param image: (H, W, 3) uint8 RGB.
        :param passes: over each pose, one or more.
        :return: the poses, and for how many measurements the template was and was not in memory.
        """
        good = [a for a in agreed if a.evidence is not None]
        if not good:
            return list(agreed), 0, 0
        refined, hits, misses = self._refined(good, image, camera, passes)
        better = iter(refined)
        return [a if a.evidence is None else next(better) for a in agreed], hits, misses

    def _refined(self, agreed: Sequence[AgreedPose], image: NDArray[np.uint8], camera: Camera,
                 passes: int) -> tuple[list[AgreedPose], int, int]:
        T = np.stack([a.T_camera_object for a in agreed])
        classes = np.array([a.crop.class_index for a in agreed], np.int64)
        weights, hits, misses = np.ones(len(agreed)), 0, 0
        qualities: list[list[float]] = [[] for _ in agreed]
        rows = np.arange(len(agreed))
        for _ in range(passes):
            ends, quality, found, computed = self.measure(T[rows], classes[rows], image, camera)
            hits, misses = hits + found, misses + computed
            near = self._near(T[rows], ends, classes[rows])
            for i, good in zip(rows, quality, strict=True):
                qualities[i].append(good)
            # from a pose that has stayed, the next pass would answer the same
            rows = rows[near]
            for i, end in zip(rows, ends[near], strict=True):
                T[i] = mean_pose(np.stack([T[i], end]), np.array([weights[i], ANSWER_WEIGHT]))
                weights[i] += ANSWER_WEIGHT
            if not len(rows):
                break
        return [_improved(one, pose, float(np.mean(good)),
                          self._objects[one.crop.class_index].diameter_m)
                for one, pose, good in zip(agreed, T, qualities, strict=True)], hits, misses

    def measure(self, T_camera_object: Array, classes: NDArray[np.int64],
                image: NDArray[np.uint8], camera: Camera) -> tuple[Array, Array, int, int]:
        """Answer each pose once, as many in one batch as memory should be taken for.

        :param T_camera_object: (N, 4, 4) [m] of objects as large as their meshes.
        :param classes: (N,) class index of each, one or more.
        :param image: (H, W, 3) uint8 RGB.
        :return: (N, 4, 4) where the objects are [m], of equivalent poses those nearest to the
            starts; (N,) how good the refiner thinks they are, 0..1; and how many templates were
            and were not in memory.
        """
        parts = [self._measure(T_camera_object[first:first + MOST_CROPS],
                               classes[first:first + MOST_CROPS], image, camera)
                 for first in range(0, len(classes), MOST_CROPS)]
        ends, qualities, hits, misses = zip(*parts, strict=True)
        return np.concatenate(ends), np.concatenate(qualities), sum(hits), sum(misses)

    def _measure(self, T_camera_object: Array, classes: NDArray[np.int64],
                 image: NDArray[np.uint8], camera: Camera) -> tuple[Array, Array, int, int]:
        """Do what :meth:`measure` does in one batch."""
        diameters_m = np.array([self._objects[c].diameter_m for c in classes])
        crops, directions = zip(*(
            pose_crop(pose, diameter_m, self._spec.template, self._grid, self._seen[c])
            for pose, c, diameter_m in zip(T_camera_object, classes, diameters_m, strict=True)),
            strict=True)
        templates, hits, misses = self.features.fetch(classes.tolist(), list(directions))
        fine = self._backend.run(RUN, {
            'image': sample_crops(image, camera, crops), 'class_index': classes, **templates})
        ends = decode_poses(fine['six'], fine['fine_xy'], fine['fine_log_size'],
                            self._grid[list(directions)], crops, diameters_m)
        for i, c in enumerate(classes):
            if np.isfinite(ends[i]).all():
                ends[i] = self._objects[c].symmetries.nearest(
                    ends[i, :3, :3], ends[i, :3, 3], T_camera_object[i, :3, :3])
        return ends, sigmoid(fine['quality']), hits, misses

    def _near(self, T_start: Array, T_end: Array, classes: NDArray[np.int64]
              ) -> NDArray[np.bool_]:
        """Return which answers agree with the poses they start at, (N,), as crops agree."""
        diameter_m = np.array([self._objects[c].diameter_m for c in classes])
        moved = np.linalg.norm(T_end[:, :3, 3] - T_start[:, :3, 3], axis=1) / diameter_m
        turned = np.array([rotation_angle(a.T @ b)
                           for a, b in zip(T_start[:, :3, :3], T_end[:, :3, :3], strict=True)])
        return np.asarray((moved < AGREE_DIAMETERS) & (turned < AGREE_RAD))


def _improved(agreed: AgreedPose, T_camera_object: Array, quality: float, diameter_m: float
              ) -> AgreedPose:
    """Return a pose with what the refiner says of it; its quality where that is finite."""
    evidence = agreed.evidence
    assert evidence is not None
    distance = float(np.linalg.norm(T_camera_object[:3, 3])) / diameter_m
    known = quality * evidence.share if np.isfinite(quality) else evidence.quality
    return agreed._replace(T_camera_object=T_camera_object, evidence=dataclasses.replace(
        evidence, quality=known, distance=distance))
