"""Stage 2 alone, started from any pose: what the response test asks."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.known_view import KnownView
from ..geometry.bins import encode_translation
from ..geometry.crop import CropCamera, crop_camera
from ..geometry.sampling import sample_crop
from ..geometry.se3 import Array, make_transform, rotation_to_axis
from ..inference.estimator import PoseEstimator, decode_poses
from ..inference.exact_templates import template_intrinsics_at
from ..objects import ObjectModel
from ..rendering.coordinates import object_coordinates
from ..rendering.renderer import Renderer


class Stage2:
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
        size = self._spec.template.size_px
        self._renderer = Renderer(size, size)
        for item in self._model.objects:
            self._renderer.add_mesh(item.label, item.centred().load_mesh())

    def __enter__(self) -> Stage2:
        """Return the stage itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        """Free the renderer."""
        self._renderer.close()

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
            **self._templates(item, crop, R, t, classes)})
        R_ray = rotation_to_axis(t) @ R
        ends = decode_poses(fine['six'], fine['fine_xy'], fine['fine_log_size'], R_ray,
                            [crop] * count, np.full(count, item.diameter_m))
        ends[:, :3, 3] *= item.size_ratio
        return list(item.from_centred(ends))

    def _templates(self, item: ObjectModel, crop: CropCamera, R: Array, t: Array,
                   classes: NDArray[np.int64]) -> dict[str, Any]:
        """Render and embed every start.

        :param R: (N, 3, 3) R_crop_object.
        :param t: (N, 3) [m].
        """
        images, coordinates = [], []
        for R_start, t_start in zip(R, t, strict=True):
            K = template_intrinsics_at(t_start, crop, self._spec.template, item.diameter_m)
            drawn = self._renderer.render(item.label, make_transform(R_start, t_start), K,
                                          shading='template')
            images.append(drawn.rgb)
            coordinates.append(object_coordinates(drawn.depth_m[None], K, R_start[None], t_start,
                                                  item.diameter_m)[0])
        features = self._backend.run('template', {'image': np.stack(images),
                                                  'class_index': classes})
        kept = self._backend.stack([self._backend.keep(c) for c in coordinates])
        return {**features, 'coordinates': kept}
