"""Stage 2 alone, started from any pose: what the response test asks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np

from ..datasets.known_view import KnownView
from ..geometry.bins import encode_translation
from ..geometry.crop import crop_camera
from ..geometry.sampling import sample_crop
from ..geometry.se3 import Array, make_transform, rotation_to_axis
from ..inference.decoding import decode_poses
from ..inference.estimator import PoseEstimator
from ..inference.exact_templates import ExactTemplates


class Stage2Alone(AbstractContextManager['Stage2Alone']):
    """Starts stage 2 with an exact render of the start in place of a cached template.

    :param estimator: with the model; stays open.
    :raises BackendError: when there is no headless OpenGL.
    :raises MeshError: when a mesh cannot be read.
    """

    def __init__(self, estimator: PoseEstimator) -> None:
        """Upload all meshes."""
        self._model, self._backend = estimator.model, estimator.backend
        self._spec = estimator.spec
        self._index = {item.label: i for i, item in enumerate(self._model.objects)}
        self._exact = ExactTemplates(self._backend, self._spec.template,
                                     [item.centred() for item in self._model.objects])

    def __exit__(self, *_: object) -> None:
        """Free the renderer."""
        self._exact.close()

    def refine(self, view: KnownView, starts: Sequence[Array]) -> list[Array]:
        """Return where each start ends, (4, 4) T_camera_object [m]."""
        index, count = self._index[view.label], len(starts)
        item = self._model.objects[index]
        crop = crop_camera(view.camera, view.box_xyxy, self._spec.crop)
        T = item.to_centred(np.stack(starts))
        t = T[:, :3, 3] / item.size_ratio @ crop.R_crop_camera.T
        R = crop.R_crop_camera @ T[:, :3, :3]
        classes = np.full(count, index, np.int64)
        image = sample_crop(view.image, view.camera, crop)
        coarse = self._backend.run('stage1', {
            'image': np.repeat(image[None], count, 0), 'class_index': classes})
        code = encode_translation(t, crop.focal, item.diameter_m).astype(np.float32)
        fine = self._backend.run('stage2', {
            **{name: coarse[name] for name in ('x4', 'x8', 'x16', 'dense')},
            'xy': code[:, :2], 'log_size': code[:, 2], 'class_index': classes,
            **self._exact.features(classes, make_transform(R, t), [crop] * count)})
        R_ray = rotation_to_axis(t) @ R
        ends = decode_poses(fine['six'], fine['fine_xy'], fine['fine_log_size'], R_ray,
                            [crop] * count, np.full(count, item.diameter_m))
        ends[:, :3, 3] *= item.size_ratio
        return list(item.from_centred(ends))
