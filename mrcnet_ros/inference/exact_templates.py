"""The default preset without its shortcut: a template rendered for each detection.

A cached template shows an object on the optical axis at one distance; stage 2 shifts and scales
its features to where stage 1 sees the object. This ignores perspective: an object that is
nearer, or beside the crop's axis, looks different. Here the object is rendered at the pose of
stage 1 by the crop's own camera, shifted and scaled so that stage 2 moves it back to that pose.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..geometry.bins import decode_translation
from ..geometry.crop import CropCamera
from ..geometry.se3 import Array, make_transform, rotation_to_axis
from ..objects import ObjectModel
from ..rendering.coordinates import object_coordinates
from ..rendering.renderer import Renderer
from ..rendering.template_store import TemplateStore
from ..specs import DEFAULT_CROPS, DEFAULT_HYPOTHESES, TemplateSpec
from .backend import Backend
from .decoding import Outputs
from .detection_crops import DetectionCrop
from .estimator import PoseEstimator
from .model_directory import ModelDirectory


class ExactPoseEstimator(PoseEstimator):
    """Estimates poses as :class:`PoseEstimator` does, with a template of each detection's own.

    :param backend: with the model's graphs loaded.
    :param store: of templates, which only say here which bins there are.
    :raises MeshError: when a mesh is missing, in another unit, or another one than the model's.
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(self, model: ModelDirectory, backend: Backend, store: TemplateStore, *,
                 crops: int = DEFAULT_CROPS, hypotheses: int = DEFAULT_HYPOTHESES) -> None:
        super().__init__(model, backend, store, crops=crops, hypotheses=hypotheses, cache_bytes=0)
        self._exact = ExactTemplates(backend, self.spec.template, self.centred)

    def close(self) -> None:
        """Free the renderer; the backend stays open for whoever gave it."""
        self._exact.close()

    def _templates(self, crops: Sequence[DetectionCrop], coarse: Outputs,
                   bins: NDArray[np.int64]) -> tuple[Outputs, int, int]:
        """Render and embed a template for every crop; all count as misses."""
        diameter_m = np.array([self.centred[crop.class_index].diameter_m for crop in crops])
        cameras = [crop.camera for crop in crops]
        t = decode_translation(coarse['xy'], coarse['log_size'], [c.focal for c in cameras],
                               diameter_m)
        R = np.swapaxes(rotation_to_axis(t), 1, 2) @ self.grid[bins]
        classes = np.array([crop.class_index for crop in crops], np.int64)
        return self._exact.features(classes, make_transform(R, t), cameras), 0, len(crops)


class ExactTemplates:
    """Renders and embeds objects at poses in crops.

    :param objects: by class index, in their centred frames.
    :raises MeshError: when a mesh cannot be read.
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(self, backend: Backend, spec: TemplateSpec,
                 objects: Sequence[ObjectModel]) -> None:
        self._backend, self._spec, self._objects = backend, spec, objects
        self._renderer = Renderer(spec.size_px, spec.size_px)
        for item in objects:
            self._renderer.add_mesh(item.label, item.load_mesh())

    def close(self) -> None:
        self._renderer.close()

    def features(self, classes: NDArray[np.int64], T_crop_object: Array,
                 crops: Sequence[CropCamera]) -> Outputs:
        """Return what stage 2 takes of templates, (N, ...) by name.

        :param classes: (N,) class indices.
        :param T_crop_object: (N, 4, 4) [m].
        """
        images, coordinates = [], []
        for index, T, crop in zip(classes, T_crop_object, crops, strict=True):
            item, (R, t) = self._objects[index], (T[:3, :3], T[:3, 3])
            K = template_intrinsics_at(t, crop, self._spec, item.diameter_m)
            drawn = self._renderer.render(item.label, T, K, shading='template')
            images.append(drawn.rgb)
            coordinates.append(object_coordinates(
                drawn.depth_m[None], K, R[None], t, item.diameter_m)[0])
        found = self._backend.run('template', {'image': np.stack(images), 'class_index': classes})
        kept = self._backend.stack([self._backend.keep(c) for c in coordinates])
        return {**found, 'coordinates': kept}


def template_intrinsics_at(t_crop_object: Array, crop: CropCamera, spec: TemplateSpec,
                           diameter_m: float) -> Array:
    """Return the crop's intrinsics, shifted and scaled to those of a template.

    An object at ``t_crop_object`` comes out in the middle, as large as in a cached template; the
    warp of stage 2 undoes exactly this.

    :param t_crop_object: (3,) [m].
    :return: (3, 3) [px].
    """
    focal_px = spec.relative_size * spec.size_px * float(t_crop_object[2]) / diameter_m
    middle_px = (spec.size_px - 1) / 2
    x, y = t_crop_object[:2] / t_crop_object[2]
    return np.array([[focal_px, 0.0, middle_px - focal_px * x],
                     [0.0, focal_px, middle_px - focal_px * y], [0.0, 0.0, 1.0]])
