"""Visible surface discrepancy of poses, and its average recall over a set of images.

Source: Hodan et al., BOP Challenge 2020; in its variant of 2019 a surface counts as visible where
the sensor gave no depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..datasets.bop import BopFrame, ResultRow
from ..datasets.catalogue import DatasetFacts, facts_of
from ..errors import BackendError, ImageError
from ..geometry.se3 import Array
from ..objects import ObjectModel
from ..rendering.renderer import Renderer
from .recall import VSD_THRESHOLDS, Recall, TargetErrors, match, ranked, recall
from .scores import TargetScore, group_rows

# fractions of the object's diameter
TAUS: Array = 0.05 * np.arange(1.0, 11.0)

Depth = NDArray[np.float32]


def vsd(depth_est_m: Depth, depth_gt_m: Depth, depth_test_m: Depth, K: Array, diameter_m: float,
        delta_m: float = DatasetFacts.vsd_tolerance_m) -> Array:
    """Return the visible surface discrepancy for each tolerance of :data:`TAUS`.

    :param depth_est_m: (H, W) of the model in the estimated pose [m], 0 where empty.
    :param depth_gt_m: (H, W) of the model in the true pose [m], 0 where empty.
    :param depth_test_m: (H, W) measured [m], 0 where missing.
    :param K: (3, 3) [px] of the three images.
    :return: (10,) in 0..1; 1 where neither pose has a visible pixel.
    """
    along_ray = _ray_lengths(K, depth_test_m.shape[1], depth_test_m.shape[0])
    est, gt, test = (d * along_ray for d in (depth_est_m, depth_gt_m, depth_test_m))
    visible_gt = _visible(gt, test, delta_m)
    visible_est = _visible(est, test, delta_m) | (visible_gt & (est > 0))
    both, either = visible_gt & visible_est, visible_gt | visible_est
    if not either.any():
        return np.ones(len(TAUS))
    distances = np.abs(gt[both] - est[both]) / diameter_m
    wrong = np.array([np.count_nonzero(distances >= tau) for tau in TAUS])
    alone = np.count_nonzero(either) - np.count_nonzero(both)
    return np.asarray((wrong + alone) / np.count_nonzero(either), dtype=np.float64)


def _ray_lengths(K: Array, width: int, height: int) -> Array:
    """Return how much longer the way along each pixel's ray is than its depth, (H, W)."""
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    y = (v - K[1, 2]) / K[1, 1]
    x = (u - K[0, 2] - K[0, 1] * y) / K[0, 0]
    return np.asarray(np.sqrt(1.0 + x**2 + y**2), dtype=np.float64)


def _visible(model: Array, test: Array, delta_m: float) -> NDArray[np.bool_]:
    return np.asarray(((model - test <= delta_m) | (test == 0)) & (model > 0), dtype=np.bool_)


# scene, image, object and instance
TargetKey = tuple[int, int, int, int]


@dataclass(frozen=True)
class VsdScores:
    """Recalls for each misalignment tolerance, or why there are none.

    :param recalls: one for each of the ten tolerances, empty when VSD cannot be computed.
    :param missing: the reason then, '' otherwise.
    :param met: part of all tolerances and thresholds that an estimate of a target meets, by
        :data:`TargetKey`.
    """

    recalls: tuple[Recall, ...] = ()
    missing: str = ''
    met: Mapping[TargetKey, float] = field(default_factory=dict)

    @property
    def average(self) -> float | None:
        """Return the average recall over tolerances, thresholds and instances."""
        return float(np.mean([r.average for r in self.recalls])) if self.recalls else None

    def average_of(self, object_id: int) -> float | None:
        values = [r.average_of(object_id) for r in self.recalls]
        return float(np.mean(values)) if values else None

    def average_over(self, targets: Iterable[TargetScore]) -> float | None:
        """Return the average recall of some targets, None without any."""
        values = [self.met[t.scene_id, t.image_id, t.object_id, t.instance]
                  for t in targets] if self.recalls else []
        return float(np.mean(values)) if values else None


def score_vsd(
    frames: Sequence[BopFrame], rows: Iterable[ResultRow], objects: Mapping[int, ObjectModel],
    dataset: str = '',
) -> VsdScores:
    """Score estimates by the depth they and the truth would show.

    :param frames: images whose targets are to be found, of any size; all need a depth image of
        the same size.
    :param dataset: BOP's name; it decides the tolerance of the visibility test.
    """
    without = sum(not frame.has_depth for frame in frames)
    if without:
        return VsdScores(missing=f'{without} of {len(frames)} images have no depth image')
    if not frames:
        return VsdScores(missing='no images')
    cameras = [frame.camera for frame in frames]
    try:
        with Renderer(max(c.width for c in cameras), max(c.height for c in cameras)) as renderer:
            for object_id, model in objects.items():
                renderer.add_mesh(object_id, model.load_mesh())
            delta_m = facts_of(dataset).vsd_tolerance_m
            targets, keys = _discrepancies(frames, rows, objects, renderer, delta_m)
    except (BackendError, ImageError) as error:
        return VsdScores(missing=str(error))
    return VsdScores(tuple(recall(per_tau, VSD_THRESHOLDS) for per_tau in targets),
                     met=_met(targets, keys))


def _discrepancies(frames: Sequence[BopFrame], rows: Iterable[ResultRow],
                   objects: Mapping[int, ObjectModel], renderer: Renderer, delta_m: float
                   ) -> tuple[list[list[TargetErrors]], list[list[TargetKey]]]:
    """Return the errors of each target, once for each tolerance, and which targets they are."""
    estimates = group_rows(rows)
    result: list[list[TargetErrors]] = [[] for _ in TAUS]
    keys: list[list[TargetKey]] = []
    for frame in frames:
        test, truths = frame.load_depth_m(), frame.target_ground_truth()
        assert test is not None
        for object_id in sorted(frame.targets):
            own = [g for g in truths if g.object_id == object_id]
            keys.append([(frame.scene_id, frame.image_id, object_id, g.instance) for g in own])
            wanted = [g.T_camera_object for g in own]
            found = estimates.get((frame.scene_id, frame.image_id, object_id), [])
            best = [found[i] for i in ranked(np.array([r.score for r in found]))[:len(wanted)]]
            height, width = test.shape
            gt, est = (
                [renderer.render(object_id, T, frame.camera.K).depth_m[:height, :width]
                 for T in poses]
                for poses in (wanted, [row.T_camera_object for row in best]))
            diameter_m = objects[object_id].diameter_m
            errors = np.array([[vsd(e, g, test, frame.camera.K, diameter_m, delta_m) for g in gt]
                               for e in est]).reshape(len(est), len(gt), len(TAUS))
            scores = np.array([row.score for row in best])
            for index, per_tau in enumerate(result):
                per_tau.append(TargetErrors(object_id, scores, errors[..., index]))
    return result, keys


def _met(targets: Sequence[Sequence[TargetErrors]], keys: Sequence[Sequence[TargetKey]]
         ) -> dict[TargetKey, float]:
    """Return the part of tolerances and thresholds that is met, by target."""
    met = {key: 0.0 for group in keys for key in group}
    part = 1.0 / (len(TAUS) * len(VSD_THRESHOLDS))
    for per_tau in targets:
        for target, group in zip(per_tau, keys, strict=True):
            for threshold in VSD_THRESHOLDS:
                for _, instance in match(target, float(threshold)):
                    met[group[instance]] += part
    return met
