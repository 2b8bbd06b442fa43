"""Stage 2, started at any pose, with a template that is drawn at that pose."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from ..geometry.bins import encode_translation
from ..geometry.crop import CropCamera
from ..geometry.se3 import Array, make_transform, rotation_to_axis
from ..geometry.spread import sigmoid
from ..inference.decoding import Outputs, decode_poses
from ..objects import ObjectModel
from ..runtimes.backend import Backend
from ..specs import SEEN, TemplateSpec
from .exact_templates import ExactTemplates


class ExactStage2(AbstractContextManager['ExactStage2']):
    """Starts stage 2 at poses. Used and closed by the thread that made it.

    :param objects: by class index, in their centred frames.
    :raises MeshError: when a mesh cannot be read.
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(self, backend: Backend, spec: TemplateSpec, objects: Sequence[ObjectModel]
                 ) -> None:
        self._backend, self._objects = backend, objects
        self._templates = ExactTemplates(backend, spec, objects)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the renderer."""
        self._templates.close()

    def run(self, T_camera_object: Array, classes: NDArray[np.int64],
            crops: Sequence[CropCamera], seen: Outputs) -> tuple[Array, Array]:
        """Start at poses, once each.

        :param T_camera_object: (N, 4, 4) [m] of objects as large as their meshes.
        :param classes: (N,) class index of each.
        :param crops: (N,) crop of each.
        :param seen: what stage 1 says of these crops, at least :data:`~mrcnet_ros.specs.SEEN`.
        :return: (N, 4, 4) where stage 2 ends [m], and (N,) how good it thinks that is, 0..1.
        """
        diameter_m = np.array([self._objects[c].diameter_m for c in classes])
        R_crop_camera = np.stack([crop.R_crop_camera for crop in crops])
        R = R_crop_camera @ T_camera_object[:, :3, :3]
        t = (R_crop_camera @ T_camera_object[:, :3, 3:])[..., 0]
        code = encode_translation(t, [crop.focal for crop in crops], diameter_m)
        fine = self._backend.run('stage2', {
            **{name: seen[name] for name in SEEN}, 'xy': code[:, :2].astype(np.float32),
            'log_size': code[:, 2].astype(np.float32), 'class_index': classes,
            **self._templates.features(classes, make_transform(R, t))})
        T_end = decode_poses(fine['six'], fine['fine_xy'], fine['fine_log_size'],
                             rotation_to_axis(t) @ R, crops, diameter_m)
        return T_end, sigmoid(fine['quality'])
