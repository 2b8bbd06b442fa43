"""Poses as published: four rotated crops of each detection, a template rendered for each.

It runs published weights. Nothing is cached or approximated, so it is also the reference for the
shortcuts of the default preset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...datasets.bop_scene import MM
from ...geometry.camera import Camera
from ...geometry.rotation_grid import grid_of
from ...geometry.se3 import Array, rotation_from_6d
from ...geometry.spread import sigmoid
from ...inference.base_estimator import BaseEstimator
from ...inference.decoding import Outputs
from ...inference.poses import Detection, FrameResult, PoseEstimate, Skipped, StageClock
from ...rendering.renderer import Renderer
from ...runtimes.backend import Backend
from .crop import PaperCrops, network_input, paper_crops, straightened, straightened_box
from .decode import cell_centres_xy, depth_centres, select_pose, translation
from .spec import PaperModel, read_paper_model
from .template import draw_template


@dataclass(frozen=True, eq=False)
class _Task:
    """A detection that can be answered."""

    detection_index: int
    detection: Detection
    object_index: int
    crops: PaperCrops


class _Coarse(NamedTuple):
    """The stage-1 poses of one detection's views: (turns, ...) each, depth and t in mm."""

    R: Array
    xy: Array
    depth: Array
    t: Array


class PaperEstimator(BaseEstimator[PaperModel]):
    """Estimates the poses of known objects in detection boxes with a published network.

    :param backend: with the model's graphs loaded.
    :raises MeshError: when a mesh is missing, in another unit, or another one than the model's.
    :raises BackendError: when there is no headless OpenGL.
    """

    def __init__(self, model: PaperModel, backend: Backend) -> None:
        super().__init__(model, backend)
        self.spec = model.spec
        self._rotations = grid_of(self.spec)
        self._cells, self._depths = cell_centres_xy(self.spec), depth_centres(self.spec)
        self._renderer = Renderer(self.spec.size_px, self.spec.size_px)
        for i, item in enumerate(model.objects):
            self._renderer.add_mesh(i, item.load_mesh())

    @classmethod
    def load(cls, model_dir: Path, meshes_dir: Path | None = None,
             **runtime: Any) -> PaperEstimator:
        """Load a model directory into a runtime.

        :param meshes_dir: folder of the meshes; ``meshes`` in the model directory by default.
        :param runtime: fields of :class:`RuntimeOptions`: backend, device, precision, threads...
        :raises ModelError: when the model directory is incomplete, damaged or of other specs.
        :raises MeshError: when a mesh cannot be used.
        :raises BackendError: when the runtime cannot be used.
        """
        return cls._opened(read_paper_model(model_dir, meshes_dir), runtime)

    def close(self) -> None:
        """Free the renderer and the backend's device."""
        try:
            self._renderer.close()
        finally:
            super().close()

    def _estimate(self, image: NDArray[np.uint8], camera: Camera,
                  detections: Sequence[Detection]) -> FrameResult:
        """Answer the detections one after the other."""
        poses, skipped, clock = [], [], StageClock()
        pinhole = camera
        if camera.lens is not None and detections:
            image, pinhole = straightened(image, camera)
        for i, detection in enumerate(detections):
            task = self._task(i, detection, camera, pinhole)
            answer = task if isinstance(task, Skipped) else self._answer(task, image, clock)
            if isinstance(answer, Skipped):
                skipped.append(answer)
            else:
                poses.append(answer)
        return FrameResult(poses, skipped, clock.seconds)

    def _task(self, i: int, detection: Detection, camera: Camera,
              pinhole: Camera) -> _Task | Skipped:
        def locate(index: int) -> _Task:
            box = straightened_box(detection.box_xyxy, camera, pinhole)
            return _Task(i, detection, index, paper_crops(pinhole, box, self.spec))

        return self._locate(i, detection, locate)

    def _answer(self, task: _Task, image: NDArray[np.uint8],
                clock: StageClock) -> PoseEstimate | Skipped:
        crops = task.crops
        classes = np.full(self.spec.turns, self.model.class_indices[task.object_index], np.int64)
        pixels = network_input(image, crops)
        clock.lap('crop')
        found = self.backend.run('embed', {'image': pixels, 'class_index': classes})
        view = crops.view.astype(np.float32)
        logits = self.backend.run('stage1', {'x16': found['x16'], 'view': view})
        coarse = self._coarse(logits, crops)
        clock.lap('stage1')
        drawn = self._templates(task, coarse)
        templates = self.backend.run('embed', {'image': drawn, 'class_index': classes})
        clock.lap('template')
        toward = np.concatenate([coarse.t[:, :2] / coarse.t[:, 2:], crops.view[:, 2:]], axis=1)
        fine = self.backend.run('stage2', {
            **found, **{f't{name[1:]}': a for name, a in templates.items()},
            'view': toward.astype(np.float32)})
        clock.lap('stage2')
        T = self._decode(logits, coarse, fine, crops)
        clock.lap('decode')
        if not np.isfinite(T).all() or T[2, 3] <= 0:
            return Skipped(task.detection_index, 'non_finite',
                           f'the pose of {task.detection.label!r} is not in front of the camera')
        return self._posed(task.detection_index, task.detection, T,
                           float(sigmoid(logits['rotation_logits'].max())),
                           int(logits['rotation_logits'].argmax()))

    def _coarse(self, logits: Outputs, crops: PaperCrops) -> _Coarse:
        R = self._rotations[logits['rotation_logits'].argmax(axis=1)]
        xy = self._cells[logits['cell_logits'].argmax(axis=1)]
        depth = self._depths[logits['depth_logits'].argmax(axis=1)]
        return _Coarse(R, xy, depth, translation(xy, depth, crops.K_crop, crops.size_px))

    def _templates(self, task: _Task, coarse: _Coarse) -> NDArray[np.float32]:
        """Draw the object at each view's stage-1 pose, (turns, 4, S, S)."""
        return np.stack([
            draw_template(self._renderer, task.object_index, R, MM * t, K, self.spec)
            for R, t, K in zip(coarse.R, coarse.t, task.crops.K_crop, strict=True)])

    def _decode(self, logits: Outputs, coarse: _Coarse, fine: Outputs, crops: PaperCrops) -> Array:
        R = rotation_from_6d(fine['six']) @ coarse.R
        t = translation(coarse.xy + fine['xy'], coarse.depth + fine['depth'][:, 0],
                        crops.K_crop, crops.size_px)
        return select_pose(logits['rotation_logits'], logits['depth_logits'], R, MM * t, crops.Rz)
