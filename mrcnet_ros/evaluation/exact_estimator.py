"""The default preset without its shortcut: a template rendered for each detection.

A cached template shows an object on the optical axis at one distance; stage 2 shifts and scales
its features to where stage 1 sees the object. This ignores perspective: an object that is
nearer, or beside the crop's axis, looks different. Here the object is rendered at the pose of
stage 1, see :mod:`mrcnet_ros.evaluation.exact_templates`. Used to measure what the shortcut costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..geometry.bins import decode_translation
from ..geometry.se3 import make_transform, rotation_to_axis
from ..inference.decoding import Outputs
from ..inference.detection_crops import DetectionCrop
from ..inference.estimator import PoseEstimator
from ..inference.model_directory import ModelDirectory
from ..rendering.template_store import TemplateStore
from ..runtimes.backend import Backend
from ..specs import DEFAULT_CROPS, DEFAULT_HYPOTHESES, DEFAULT_REFINEMENTS
from .exact_templates import ExactTemplates


class ExactPoseEstimator(PoseEstimator):
    """Estimates poses as :class:`PoseEstimator` does, with a template of each detection's own.

    :param backend: with the model's graphs loaded.
    :param store: of templates, which only say here which bins there are.
    :raises MeshError: when a mesh is missing, in another unit, or another one than the model's.
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(self, model: ModelDirectory, backend: Backend, store: TemplateStore, *,
                 crops: int = DEFAULT_CROPS, hypotheses: int = DEFAULT_HYPOTHESES,
                 refine: int = DEFAULT_REFINEMENTS) -> None:
        super().__init__(model, backend, store, crops=crops, hypotheses=hypotheses, refine=refine,
                         cache_bytes=0, find_plane=False)
        self._exact = ExactTemplates(backend, self.spec.template, self.centred)

    def close(self) -> None:
        """Free the renderers; the backend stays open for whoever gave it."""
        self._exact.close()

    def _templates(self, crops: Sequence[DetectionCrop], coarse: Outputs,
                   bins: NDArray[np.int64]) -> tuple[Outputs, int, int]:
        """Render and embed a template for every crop; all count as misses."""
        diameter_m = np.array([self.centred[crop.class_index].diameter_m for crop in crops])
        t = decode_translation(coarse['xy'], coarse['log_size'],
                               [crop.camera.focal for crop in crops], diameter_m)
        R = np.swapaxes(rotation_to_axis(t), 1, 2) @ self.grid[bins]
        classes = np.array([crop.class_index for crop in crops], np.int64)
        return self._exact.features(classes, make_transform(R, t)), 0, len(crops)
