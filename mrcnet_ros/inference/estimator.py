"""From an image and detections to poses: crop -> stage 1 -> template -> stage 2 -> refine -> pose.

Stage 2 starts from several rotation bins of stage 1. The outline of the object tells which of the
poses that it ends at is right. A refiner may measure that pose once more.

From image to image objects are followed: start -> refiner -> pose. Without a refiner, stage 2
starts there in place of stage 1's answer.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, MrcnetError
from ..geometry.camera import Camera
from ..geometry.crop import box_rays, crop_camera
from ..geometry.rotation_grid import grid_of
from ..geometry.sampling import sample_crops
from ..geometry.se3 import Array, make_transform
from ..geometry.spread import sigmoid
from ..geometry.view_prior import allowed_bins
from ..rendering.template_store import TemplateStore
from ..runtimes.backend import Backend
from ..specs import DEFAULT_CROPS, DEFAULT_HYPOTHESES, DEFAULT_REFINEMENTS, SEEN, START
from .base_estimator import BaseEstimator
from .consensus import Answers
from .decoding import AgreedPose, Outputs, agreed_poses, coarse_answer, decode_poses
from .detection_crops import (
    MOST_ANSWERS,
    MOST_CROPS,
    DetectionCrop,
    crop_turns,
    crops_each,
)
from .feature_cache import FeatureCache
from .hypotheses import BinChooser, Hypotheses, only
from .known_start import KnownPose, moved_far, starts_at
from .laws import Laws
from .model_directory import ModelDirectory, read_model_directory
from .outline_agreement import OutlineAgreement
from .poses import Detection, FrameResult, PoseEstimate, Skipped, StageClock, joined
from .projected_box import ProjectedBoxes
from .refinement import Refiner, checked_passes
from .scoring import Evidence
from .template_features import TemplateFeatures
from .uncertainty import Posed, PoseSpread, pose_spreads

log = logging.getLogger(__name__)
# Memory for template features, as cache_mb of the node; those of models/lmo take 201 MB.
DEFAULT_CACHE_BYTES = 512 << 20

ItemT = TypeVar('ItemT')


class _Expected(NamedTuple):
    """An object that is expected at about a known pose.

    :param detection: with the box that the mesh covers there.
    """

    detection_index: int
    detection: Detection
    class_index: int
    start: KnownPose


class PoseEstimator(BaseEstimator[ModelDirectory]):
    """Estimates the poses of known objects in detection boxes.

    :param backend: with the model's graphs loaded.
    :param crops: crops of each detection, turned against one another; their poses are averaged.
    :param hypotheses: rotation bins of each crop that stage 2 starts from, at most; 1 trusts stage
        1 and is faster.
    :param refine: how often the refiner measures a pose once more, see :mod:`.refinement`; has no
        effect where the model has none.
    :param follows: load the refiner, if the model has one, to :meth:`follow` with; without it
        stage 2 follows. With ``refine`` it is loaded in any case.
    :param find_plane: find the plane that several objects of an image stand on, and correct their
        poses by it, see :mod:`.found_plane`; needs a covariance model.
    :param stage1_only: answer with the coarse pose, to see what stage 2 is worth; without a
        covariance, which is calibrated for both stages.
    :param spreads: give with each pose what its covariance would come from, also without a
        calibration, and correct none by a plane that was found: for those who measure what the
        network does.
    :raises MeshError: when a mesh is missing, in another unit, or another one than the model's.
    :raises BackendError: when templates must be drawn and there is no headless OpenGL.
    """

    def __init__(self, model: ModelDirectory, backend: Backend, store: TemplateStore, *,
                 cache_bytes: int = DEFAULT_CACHE_BYTES, crops: int = DEFAULT_CROPS,
                 hypotheses: int = DEFAULT_HYPOTHESES, refine: int = DEFAULT_REFINEMENTS,
                 follows: bool = False, find_plane: bool = True, stage1_only: bool = False,
                 spreads: bool = False) -> None:
        passes, has_refiner = checked_passes(refine), model.refiner is not None and not stage1_only
        self._passes = passes if has_refiner else 0
        uses_refiner = has_refiner and (follows or passes > 0)
        super().__init__(model, backend,
                         Laws() if stage1_only else model.laws(self._passes),
                         model.laws(1) if uses_refiner else None)
        self.spec, self.stage1_only, self.spreads = model.spec, stage1_only, spreads
        self.turns_rad = crop_turns(crops)
        self.grid = grid_of(self.spec.bins)
        allowed = [allowed_bins(model.view_priors[o.object_id], self.grid) for o in model.objects]
        self._allowed = np.array(allowed)
        templates = [store.load_or_build(o, self.spec, a)
                     for o, a in zip(model.objects, allowed, strict=True)]
        cache = FeatureCache(cache_bytes)
        self.features = TemplateFeatures(backend, self.centred, templates, cache)
        self._chooser = BinChooser(self.grid, self._allowed, [o.symmetries for o in self.centred],
                                   1 if stage1_only else hypotheses)
        self._outlines = OutlineAgreement(templates)
        self.refiner = (Refiner(backend, model, self.centred, store, cache)
                        if uses_refiner else None)
        wanted = find_plane and not (stage1_only or spreads)
        self.finds_plane = wanted and self.laws.covariance_law is not None
        if wanted and not self.finds_plane:
            log.info('model %r: find_plane has no effect, because the model has no covariance '
                     'calibration; run mrcnet calibrate --write', model.name)
        if not (stage1_only or spreads):  # spreads are for calibration
            doubts = self.laws.doubts(crops, hypotheses, self.refinements)
            if self.refiner is not None and not self._passes:
                doubts += self.laws_followed.doubts_followed()
            for doubt in doubts:
                log.warning('model %r: %s', model.name, doubt)

    @property
    def refinements(self) -> int:
        """Return how often the refiner measures each pose; 0 without one."""
        return self._passes

    @property
    def follows_by(self) -> str:
        """Return what looks at the starts of :meth:`follow`."""
        return 'stage 2' if self.refiner is None else 'the refiner'

    @classmethod
    def load(cls, model_dir: Path, meshes_dir: Path | None = None, *,
             cache_bytes: int = DEFAULT_CACHE_BYTES, store_root: Path | None = None,
             crops: int = DEFAULT_CROPS, hypotheses: int = DEFAULT_HYPOTHESES,
             refine: int = DEFAULT_REFINEMENTS, follows: bool = False, find_plane: bool = True,
             stage1_only: bool = False, spreads: bool = False, preload: bool = False,
             **runtime: Any) -> PoseEstimator:
        """Load a model directory into a runtime.

        :param meshes_dir: folder of the meshes; ``meshes`` in the model directory by default.
        :param store_root: folder of rendered templates, in the user's cache by default.
        :param preload: compute template features now rather than when they are first needed.
        :param runtime: fields of :class:`RuntimeOptions`: backend, device, precision, threads...
        :raises ModelError: when the model directory is incomplete, damaged or of other specs.
        :raises MeshError: when a mesh cannot be used.
        :raises BackendError: when the runtime cannot be used.
        """
        model = read_model_directory(model_dir, meshes_dir)
        if model.refiner is None and refine:
            log.info('model %r: refine has no effect, because the model has no refiner; train one '
                     'with mrcnet train and preset: refiner', model.name)
        estimator = cls._opened(
            model if (refine or follows) and not stage1_only else model.without_refiner(), runtime,
            store=TemplateStore(store_root), cache_bytes=cache_bytes, crops=crops,
            hypotheses=hypotheses, refine=refine, follows=follows, find_plane=find_plane,
            stage1_only=stage1_only, spreads=spreads)
        try:
            estimator._check_graphs()
            if estimator.finds_plane:
                estimator.prepare_plane()
            if preload:
                estimator.features.preload()
                if estimator.refiner is not None:
                    estimator.refiner.features.preload()
        except BaseException:
            estimator.close()
            raise
        return estimator

    def _check_graphs(self) -> None:
        """Answer a black image: graphs of another network fail now instead of in every image.

        :raises ModelError: when they do.
        """
        side, label = self.spec.crop.size_px, self.model.objects[-1].label
        K = np.array([[side, 0, side / 2], [0, side, side / 2], [0, 0, 1]])
        black = np.zeros((side, side, 3), np.uint8)
        try:
            camera = Camera(K, side, side)
            self._estimate(black, camera, [Detection(label, np.array([0.0, 0.0, side, side]))])
            if self.refiner is not None:
                T = make_transform(np.eye(3), [0.0, 0.0, 2.0 * self.centred[-1].diameter_m])
                self.refiner.measure(T[None], np.array([len(self.centred) - 1]), black, camera)
        except MrcnetError:
            raise
        except Exception as error:
            raise ModelError(self.model.path, f'its graphs are not those of this network: {error}',
                             'export the model again') from error
        self.features.cache.clear()

    def _use_sizes(self) -> None:
        super()._use_sizes()
        self._boxes = ProjectedBoxes({o.label: o for o in self.centred})

    def close(self) -> None:
        """Let go of the template features, which may be on a device, and of the backend."""
        self.features.cache.clear()
        super().close()

    def _estimate(self, image: NDArray[np.uint8], camera: Camera,
                  detections: Sequence[Detection]) -> FrameResult:
        clock = StageClock()
        rays = box_rays(camera, [detection.box_xyxy for detection in detections])
        found = [self._turned_crops(i, detection, camera, rays[i])
                 for i, detection in enumerate(detections)]
        return self._answer_all(image, camera, found, clock)

    def _follow(self, image: NDArray[np.uint8], camera: Camera,
                starts: Sequence[KnownPose]) -> FrameResult:
        """Answer all starts, and once more from there where an object was far from its start."""
        first = self._follow_once(image, camera, starts)
        far = [i for i, pose in enumerate(first.poses)
               if moved_far(starts[pose.detection_index].T_camera_object, pose.T_camera_object,
                            self.objects[pose.label].diameter_m)]
        if not far:
            return first
        found = [first.poses[i] for i in far]
        again = self._follow_once(image, camera, [
            dataclasses.replace(starts[pose.detection_index],
                                T_camera_object=pose.T_camera_object) for pose in found])
        poses = list(first.poses)
        for pose in again.poses:
            before = found[pose.detection_index]
            if pose.presence > before.presence:
                poses[far[pose.detection_index]] = dataclasses.replace(
                    pose, detection_index=before.detection_index)
        return joined(poses, first.skipped, first, again)

    def _follow_once(self, image: NDArray[np.uint8], camera: Camera,
                     starts: Sequence[KnownPose]) -> FrameResult:
        """Answer all starts; the crops are around what the meshes cover there."""
        if self.refiner is not None:
            return self._follow_by_refiner(self.refiner, image, camera, starts)
        clock = StageClock()

        def cropped(expected: _Expected) -> list[DetectionCrop]:
            i, detection, index, start = expected
            crop = crop_camera(camera, detection.box_xyxy, self.spec.crop)
            return [DetectionCrop(i, detection, index, crop, start)]

        found = [self._locate_start(i, start, camera, cropped) for i, start in enumerate(starts)]
        return self._answer_all(image, camera, found, clock)

    def _follow_by_refiner(self, refiner: Refiner, image: NDArray[np.uint8], camera: Camera,
                           starts: Sequence[KnownPose]) -> FrameResult:
        """Answer all starts by the refiner alone."""
        clock = StageClock()
        found = [self._locate_start(i, start, camera, lambda expected: expected)
                 for i, start in enumerate(starts)]
        skipped = [item for item in found if isinstance(item, Skipped)]
        seen = [item for item in found if not isinstance(item, Skipped)]
        clock.lap('crop')
        if not seen:
            return FrameResult([], skipped, clock.seconds)
        T = np.stack([one.start.T_camera_object for one in seen])
        # the refiner sees objects as large as their meshes, as `_posed` takes its answers to be
        T[:, :3, 3] /= np.array([[self.centred[one.class_index].size_ratio] for one in seen])
        classes = np.array([one.class_index for one in seen], np.int64)
        ends, qualities, hits, misses = refiner.measure(T, classes, image, camera)
        clock.lap('refine')
        poses: list[PoseEstimate] = []
        spreads: list[PoseSpread | None] = []
        for one, end, quality in zip(seen, ends, qualities, strict=True):
            finite = np.isfinite(end).all() and np.isfinite(quality)
            far = float(np.linalg.norm(end[:3, 3])) / self.centred[one.class_index].diameter_m
            pose = self._posed_or_skipped(
                one.detection_index, one.detection, end, Evidence(
                    float(quality) * one.start.share, share=one.start.share, distance=far
                ) if finite else None, -1, self.laws_followed)
            if isinstance(pose, Skipped):
                skipped.append(pose)
                continue
            poses.append(pose)
            open_ = one.start.spread
            spreads.append(None if open_ is None else open_.moved(
                pose.T_camera_object[:3, 3], pose.quality))
        poses = self._with_covariances(poses, spreads, self.laws_followed)
        clock.lap('decode')
        skipped.sort(key=lambda s: s.detection_index)
        return FrameResult(poses, skipped, clock.seconds, hits, misses, {'refine': len(seen)})

    def _answer_all(self, image: NDArray[np.uint8], camera: Camera,
                    found: Sequence[list[DetectionCrop] | Skipped],
                    clock: StageClock) -> FrameResult:
        """Answer crops, as many in one batch as memory should be taken for."""
        skipped = [item for item in found if isinstance(item, Skipped)]
        crops = [crop for item in found if not isinstance(item, Skipped) for crop in item]
        poses: list[PoseEstimate] = []
        rows: Counter[str] = Counter()
        count, hits, misses = crops_each(crops), 0, 0
        most = min(MOST_CROPS, MOST_ANSWERS // self._chooser.most)
        size = max(most // count, 1) * count
        for first in range(0, len(crops), size):
            part = self._answer(image, camera, crops[first:first + size], skipped, clock)
            poses += part.poses
            rows.update(part.rows)
            hits, misses = hits + part.cache_hits, misses + part.cache_misses
        skipped.sort(key=lambda s: s.detection_index)
        return FrameResult(poses, skipped, clock.seconds, hits, misses, rows)

    def _answer(self, image: NDArray[np.uint8], camera: Camera, crops: Sequence[DetectionCrop],
                skipped: list[Skipped], clock: StageClock) -> FrameResult:
        """Answer a batch of crops: pixels, stage 1, templates, stage 2, poses."""
        pixels = sample_crops(image, camera, [c.camera for c in crops])
        classes = np.array([c.class_index for c in crops], np.int64)
        clock.lap('crop')
        coarse = self.backend.run('stage1', {'image': pixels, 'class_index': classes})
        found, place = self._start(crops, coarse, classes)
        clock.lap('stage1')
        hits = misses = 0
        computed = {'stage1': len(crops), 'stage2': 0 if self.stage1_only else len(found.rows)}
        if self.stage1_only:
            fine = coarse_answer(coarse)
        else:
            starts = _of_rows({**coarse, **place}, found.rows)
            templates, hits, misses = self._templates(
                [crops[row] for row in found.rows], starts, found.bins)
            clock.lap('template')
            fine = self.backend.run('stage2', {**starts, **templates,
                                               'class_index': classes[found.rows]})
            clock.lap('stage2')
        answers = self._answers(pixels, camera, crops, found, fine)
        agreed = list(agreed_poses(answers, found.bins, crops, self.centred))
        clock.lap('decode')
        if self.refiner is not None and self._passes:
            agreed, found_here, computed_here = self.refiner.refine(
                agreed, image, camera, self._passes)
            hits, misses = hits + found_here, misses + computed_here
            computed['refine'] = found_here + computed_here
            clock.lap('refine')
        poses, chosen = self._posed_all(agreed, skipped, self.laws)
        wanted = (self.spreads or self.laws.covariance_law is not None
                  or self.laws_followed.covariance_law is not None)
        if poses and wanted and not self.stage1_only:
            poses = self._with_covariances(
                poses, self._left_open(poses, chosen, crops, coarse), self.laws)
        clock.lap('decode')
        return FrameResult(poses, skipped, clock.seconds, hits, misses, computed)

    def _turned_crops(self, i: int, detection: Detection, camera: Camera, rays: Array
                      ) -> list[DetectionCrop] | Skipped:
        def locate(index: int) -> list[DetectionCrop]:
            upright = crop_camera(camera, detection.box_xyxy, self.spec.crop, rays)
            return DetectionCrop(i, detection, index, upright).in_turns(self.turns_rad)

        return self._locate(i, detection, locate)

    def _locate_start(self, i: int, start: KnownPose, camera: Camera,
                      located_as: Callable[[_Expected], ItemT]) -> ItemT | Skipped:
        """Return what is looked at for a start, or why there is no answer to it.

        :param located_as: turns it into what a stage takes; may raise BoxError.
        """
        detection = Detection(start.label, np.full(4, np.nan), 1.0, start.detection_id)

        def locate(index: int) -> ItemT:
            box = self._boxes.box(start.label, start.T_camera_object, camera)
            return located_as(_Expected(i, dataclasses.replace(detection, box_xyxy=box), index,
                                        start))

        located = self._locate(i, detection, locate)
        if isinstance(located, Skipped) and located.reason == 'non_finite':
            return dataclasses.replace(located, reason='box_outside')
        return located

    def _start(self, crops: Sequence[DetectionCrop], coarse: Outputs, classes: NDArray[np.int64]
               ) -> tuple[Hypotheses, Outputs]:
        """Return the bins that stage 2 starts from, and the places where they are known."""
        starts = [crop.start.T_camera_object for crop in crops if crop.start is not None]
        if not starts:
            return self._chooser.choose(coarse['rotation_logits'], classes), {}
        bins, code = starts_at(
            starts, [crop.camera for crop in crops], [self.centred[c] for c in classes],
            self._allowed[classes], self.grid, self.spec.bins)
        return only(bins), {'xy': code[:, :2], 'log_size': code[:, 2]}

    def _templates(self, crops: Sequence[DetectionCrop], coarse: Outputs, bins: NDArray[np.int64]
                   ) -> tuple[Outputs, int, int]:
        """Return what stage 2 compares every hypothesis with: cached features of its bin.

        :param crops: of each hypothesis, as ``coarse``.
        :return: arrays of the batch by name, and how many were and were not in memory.
        """
        return self.features.fetch([c.class_index for c in crops], bins.tolist())

    def _answers(self, pixels: NDArray[np.uint8], camera: Camera,
                 crops: Sequence[DetectionCrop], found: Hypotheses, fine: Outputs) -> Answers:
        """Turn the network's numbers into poses, and compare their outlines with the image."""
        tried = [crops[row] for row in found.rows]
        T = decode_poses(
            fine['six'], fine['fine_xy'], fine['fine_log_size'], self.grid[found.bins],
            [crop.camera for crop in tried],
            np.array([self.centred[crop.class_index].diameter_m for crop in tried]))
        belief, count = found.shares, crops_each(crops)
        # whatever the other detections of the image are
        if self._chooser.most > 1 and crops[0].start is None and len(tried) * count > len(crops):
            # the poses of a detection are compared with the same picture, that of its first crop
            seen = [(int(row) // count, crop.class_index, int(bin_index))
                    for row, crop, bin_index in zip(found.rows, tried, found.bins, strict=True)]
            belief = belief * self._outlines.likelihoods(
                pixels[::count], camera, [crop.camera for crop in crops[::count]], seen, T)
        return Answers(T, sigmoid(fine['quality']), belief, found.rows)

    def _posed_all(self, agreed: Sequence[AgreedPose], skipped: list[Skipped], laws: Laws
                   ) -> tuple[list[PoseEstimate], list[int]]:
        """Return the finite poses with their scores, and the crop that each belongs to."""
        poses, chosen = [], []
        for one in agreed:
            pose = self._posed_or_skipped(one.crop.detection_index, one.crop.detection,
                                          one.T_camera_object, one.evidence, one.bin_index, laws)
            if isinstance(pose, Skipped):
                skipped.append(pose)
            else:
                poses.append(pose)
                chosen.append(one.crop_row)
        return poses, chosen

    def _posed_or_skipped(self, i: int, detection: Detection, T_camera_object: Array,
                          evidence: Evidence | None, bin_index: int, laws: Laws
                          ) -> PoseEstimate | Skipped:
        """Return a pose with its scores; without evidence it is not finite."""
        if evidence is None:
            return Skipped(i, 'non_finite', f'the pose of {detection.label!r} is not finite')
        pose = self._posed(i, detection, T_camera_object, laws.score(evidence), bin_index)
        usual = laws.score(dataclasses.replace(evidence, distance=math.nan))
        return dataclasses.replace(pose, evidence=evidence, usual_score=usual)

    def _left_open(self, poses: list[PoseEstimate], chosen: list[int],
                   crops: Sequence[DetectionCrop], coarse: Outputs) -> list[PoseSpread]:
        """Return what stage 1 leaves open about each pose, in the crop chosen for it."""
        posed = []
        for pose, row in zip(poses, chosen, strict=True):
            crop, evidence = crops[row], pose.evidence
            assert evidence is not None
            posed.append(Posed(pose.T_camera_object, evidence.quality, crop.camera,
                               self.centred[crop.class_index].symmetries,
                               self._allowed[crop.class_index]))
        logits = {name: coarse[name][chosen]
                  for name in ('rotation_logits', 'cell_logits', 'scale_logits')}
        return pose_spreads(logits, posed, self.spec.bins)

    @staticmethod
    def _with_covariances(poses: Sequence[PoseEstimate], spreads: Sequence[PoseSpread | None],
                          laws: Laws) -> list[PoseEstimate]:
        """Return poses with what is open about them, and the covariances that come from it."""
        law, known = laws.covariance_law, [s for s in spreads if s is not None]
        found = iter(law.finite_covariances(known) if law and known else [None] * len(known))
        return [pose if s is None else dataclasses.replace(pose, covariance=next(found), spread=s)
                for pose, s in zip(poses, spreads, strict=True)]


def _of_rows(coarse: Outputs, rows: NDArray[np.int64]) -> Outputs:
    """Return what stage 2 takes of stage 1, for each hypothesis.

    :param rows: (H,) crop of each, ascending.
    """
    names = (*SEEN, *START)
    if len(rows) == len(coarse['xy']):
        return {name: coarse[name] for name in names}
    return {name: coarse[name][rows] for name in names}
