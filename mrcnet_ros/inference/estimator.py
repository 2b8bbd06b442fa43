"""From an image and detections to poses: crop -> stage 1 -> template -> stage 2 -> pose."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry.bins import decode_translation
from ..geometry.camera import Camera
from ..geometry.crop import CropCamera, crop_camera, sample_crop
from ..geometry.rotation_grid import rotation_grid
from ..geometry.se3 import Array, make_transform, rotation_from_6d, rotation_to_axis
from ..geometry.view_prior import allowed_bins
from ..rendering.template_store import TemplateStore
from .backend import Backend, RuntimeOptions
from .base_estimator import BaseEstimator
from .model_directory import ModelDirectory, read_model_directory
from .opening import open_backend
from .poses import Detection, FrameResult, PoseEstimate, Skipped
from .template_features import TemplateFeatures
from .uncertainty import Posed, PoseSpread, pose_spreads

DEFAULT_CACHE_BYTES = 256 << 20
IDENTITY_6D = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class _Crop:
    """A detection that can be answered, and its crop."""

    detection_index: int
    detection: Detection
    class_index: int
    camera: CropCamera
    image: NDArray[np.uint8]


class PoseEstimator(BaseEstimator[ModelDirectory]):
    """Estimates the poses of known objects in detection boxes.

    :param model: a checked model directory.
    :param backend: with the model's graphs loaded.
    :param store: of templates.
    :param cache_bytes: memory for template features.
    :param hypotheses: how many of the best rotation bins stage 2 tries.
    :param stage1_only: answer with the coarse pose, to see what stage 2 is worth; without a
        covariance, whose law is for both stages.
    :param spreads: tell with each pose what its covariance comes from.
    :raises MeshError: when a mesh is missing, in another unit, or another one than the model's.
    """

    def __init__(self, model: ModelDirectory, backend: Backend, store: TemplateStore, *,
                 cache_bytes: int = DEFAULT_CACHE_BYTES, hypotheses: int = 1,
                 stage1_only: bool = False, spreads: bool = False) -> None:
        """Load or render the templates of all objects."""
        super().__init__(model, backend)
        self.spec, self.hypotheses, self.stage1_only = model.spec, hypotheses, stage1_only
        self.spreads = spreads
        self.grid = rotation_grid(self.spec.bins.rotation_nside, self.spec.bins.rotation_in_plane)
        allowed = [allowed_bins(model.view_priors[o.object_id], self.grid) for o in model.objects]
        self._allowed = np.array(allowed)
        templates = [store.load_or_build(o, self.spec, a)
                     for o, a in zip(model.objects, allowed, strict=True)]
        self.features = TemplateFeatures(backend, model.objects, templates, cache_bytes)

    @classmethod
    def load(cls, model_dir: Path, meshes_dir: Path | None = None, *,
             cache_bytes: int = DEFAULT_CACHE_BYTES, store_root: Path | None = None,
             hypotheses: int = 1, stage1_only: bool = False, spreads: bool = False,
             **runtime: Any) -> PoseEstimator:
        """Load a model directory into a runtime.

        :param meshes_dir: folder of the meshes; ``meshes`` in the model directory by default.
        :param store_root: folder of rendered templates, in the user's cache by default.
        :param runtime: fields of :class:`RuntimeOptions`: backend, device, precision, threads...
        :raises ModelError: when the model directory is incomplete, damaged or of other specs.
        :raises MeshError: when a mesh cannot be used.
        :raises BackendError: when the runtime cannot be used.
        """
        model = read_model_directory(model_dir, meshes_dir)
        backend = open_backend(model, RuntimeOptions(**runtime))
        return cls(model, backend, TemplateStore(store_root), cache_bytes=cache_bytes,
                   hypotheses=hypotheses, stage1_only=stage1_only, spreads=spreads)

    def _estimate(self, image: NDArray[np.uint8], camera: Camera,
                  detections: Sequence[Detection]) -> FrameResult:
        """Answer all detections in one batch."""
        seconds: dict[str, float] = {}
        start = _lap(seconds, 'crop', None)
        crops, skipped = self._crops(image, camera, detections)
        start = _lap(seconds, 'crop', start)
        if not crops:
            return FrameResult([], skipped, seconds)
        classes = np.array([c.class_index for c in crops], np.int64)
        coarse = self.backend.run('stage1', {
            'image': np.stack([c.image for c in crops]), 'class_index': classes})
        bins = self._best_bins(coarse['rotation_logits'], classes)
        start = _lap(seconds, 'stage1', start)
        hits = misses = 0
        if self.stage1_only:
            fine = _coarse_answer(coarse)
        else:
            rows = np.repeat(np.arange(len(crops)), bins.shape[1])
            templates, hits, misses = self._templates(crops, coarse, bins)
            start = _lap(seconds, 'template', start)
            fine = self._refine(coarse, templates, classes, rows)
            start = _lap(seconds, 'stage2', start)
        poses = self._decode(crops, bins, fine, skipped)
        if poses and not self.stage1_only and (self.spreads or self.model.covariance_law):
            poses = self._with_covariance(poses, crops, coarse)
        _lap(seconds, 'decode', start)
        skipped.sort(key=lambda s: s.detection_index)
        return FrameResult(poses, skipped, seconds, hits, misses)

    def _crops(self, image: NDArray[np.uint8], camera: Camera,
               detections: Sequence[Detection]) -> tuple[list[_Crop], list[Skipped]]:
        crops: list[_Crop] = []
        skipped: list[Skipped] = []
        for i, detection in enumerate(detections):
            crop = self._crop(i, detection, image, camera)
            if isinstance(crop, Skipped):
                skipped.append(crop)
            else:
                crops.append(crop)
        return crops, skipped

    def _crop(self, i: int, detection: Detection, image: NDArray[np.uint8],
              camera: Camera) -> _Crop | Skipped:
        def locate(index: int) -> _Crop:
            view = crop_camera(camera, detection.box_xyxy, self.spec.crop)
            return _Crop(i, detection, index, view, sample_crop(image, camera, view))

        return self._locate(i, detection, locate)

    def _best_bins(self, logits: NDArray[np.float32], classes: NDArray[np.int64]
                   ) -> NDArray[np.int64]:
        """Return the best bins of each crop, best first, (N, hypotheses)."""
        allowed = np.where(self._allowed[classes], logits, -np.inf)
        count = 1 if self.stage1_only else self.hypotheses
        if count == 1:
            return np.asarray(np.argmax(allowed, axis=1)[:, None], np.int64)
        return np.asarray(np.argsort(-allowed, axis=1)[:, :count], np.int64)

    def _templates(self, crops: Sequence[_Crop], coarse: Outputs, bins: NDArray[np.int64]
                   ) -> tuple[Outputs, int, int]:
        """Return what stage 2 compares every hypothesis with: cached features of its bin.

        :return: arrays of the batch by name, and how many were and were not in memory.
        """
        classes = np.repeat([c.class_index for c in crops], bins.shape[1])
        return self.features.fetch(classes.tolist(), bins.ravel().tolist())

    def _refine(self, coarse: Outputs, templates: dict[str, NDArray[np.float32]],
                classes: NDArray[np.int64], rows: NDArray[np.int64]) -> Outputs:
        """Run stage 2 on every hypothesis; ``rows`` says which crop each belongs to."""
        once = self.hypotheses == 1
        crop = {name: coarse[name] if once else coarse[name][rows]
                for name in ('x4', 'x8', 'x16', 'dense', 'xy', 'log_size')}
        return self.backend.run('stage2', {
            **crop, **templates, 'class_index': classes if once else classes[rows]})

    def _decode(self, crops: Sequence[_Crop], bins: NDArray[np.int64], fine: Outputs,
                skipped: list[Skipped]) -> list[PoseEstimate]:
        poses = []
        quality = fine['quality'].reshape(bins.shape)
        best = np.argmax(quality, axis=1)
        for i, crop in enumerate(crops):
            row = i * bins.shape[1] + int(best[i])
            model = self.model.objects[crop.class_index]
            T = decode_pose(fine['six'][row], fine['fine_xy'][row],
                            float(fine['fine_log_size'][row]), self.grid[bins[i, best[i]]],
                            crop.camera, model.diameter_m)
            if not np.isfinite(T).all():
                skipped.append(Skipped(crop.detection_index, 'non_finite',
                                       f'the pose of {model.label!r} is not finite'))
                continue
            poses.append(self._posed(crop.detection_index, crop.detection, T,
                                     float(quality[i, best[i]]), int(bins[i, best[i]])))
        return poses

    def _with_covariance(self, poses: list[PoseEstimate], crops: Sequence[_Crop],
                         coarse: Outputs) -> list[PoseEstimate]:
        """Add to each pose what stage 1 leaves open about it."""
        rows = {crop.detection_index: row for row, crop in enumerate(crops)}
        chosen = [rows[pose.detection_index] for pose in poses]
        posed = []
        for pose, row in zip(poses, chosen, strict=True):
            crop = crops[row]
            posed.append(Posed(pose.T_camera_object, pose.score, crop.camera,
                               self.model.objects[crop.class_index].symmetries,
                               self._allowed[crop.class_index]))
        logits = {name: coarse[name][chosen]
                  for name in ('rotation_logits', 'cell_logits', 'scale_logits')}
        spreads = pose_spreads(logits, posed, self.spec.bins)
        covariances = self._covariances(spreads)
        return [dataclasses.replace(pose, covariance=C, spread=s if self.spreads else None)
                for pose, C, s in zip(poses, covariances, spreads, strict=True)]

    def _covariances(self, spreads: Sequence[PoseSpread]) -> list[Array | None]:
        """Return the covariances; None without a law, and where one is not finite."""
        if self.model.covariance_law is None:
            return [None] * len(spreads)
        covariances = self.model.covariance_law.covariances(spreads)
        finite = np.isfinite(covariances.sum(axis=(1, 2)))
        return [C if good else None for C, good in zip(covariances, finite, strict=True)]


def decode_pose(six: ArrayLike, xy: ArrayLike, log_size: float, R_bin: Array,
                crop: CropCamera, diameter_m: float) -> Array:
    """Turn the network's numbers into a pose in the full camera's frame.

    :param six: (6,) residual rotation.
    :param xy: (2,) offset of the object's origin from the crop's centre in crop widths.
    :param log_size: log relative size.
    :param R_bin: (3, 3) rotation bin, seen along the ray to the object's origin.
    :return: (4, 4) T_camera_object [m].
    """
    t_crop = decode_translation(xy, log_size, crop, diameter_m)
    R_ray_object = rotation_from_6d(six) @ R_bin
    R_crop_object = rotation_to_axis(t_crop).T @ R_ray_object
    R_camera_crop = crop.R_crop_camera.T
    return make_transform(R_camera_crop @ R_crop_object, R_camera_crop @ t_crop)


def _coarse_answer(coarse: Outputs) -> Outputs:
    """Shape the coarse pose like an answer of stage 2 that changes nothing."""
    count = len(coarse['xy'])
    peak = coarse['rotation_logits'].max(axis=1)
    return {'six': np.tile(IDENTITY_6D, (count, 1)), 'fine_xy': coarse['xy'],
            'fine_log_size': coarse['log_size'], 'quality': peak}


def _lap(seconds: dict[str, float], stage: str, start: float | None) -> float:
    now = time.perf_counter()
    if start is not None:
        seconds[stage] = now - start
    return now
