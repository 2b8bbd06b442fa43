"""Average recall of the visible surface discrepancy over a set of images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..datasets.bop import BopFrame, ResultRow
from ..datasets.catalogue import facts_of
from ..errors import BackendError, ImageError
from ..objects import ObjectModel
from ..rendering.renderer import Renderer
from .recall import VSD_THRESHOLDS, Recall, TargetErrors, ranked, recall
from .scores import group_rows
from .vsd import TAUS, vsd


@dataclass(frozen=True)
class VsdScores:
    """Recalls for each misalignment tolerance, or why there are none.

    :param recalls: one for each of the ten tolerances, empty when VSD cannot be computed.
    :param missing: the reason then, '' otherwise.
    """

    recalls: tuple[Recall, ...] = ()
    missing: str = ''

    @property
    def average(self) -> float | None:
        """Return the average recall over tolerances, thresholds and instances."""
        return float(np.mean([r.average for r in self.recalls])) if self.recalls else None

    def average_of(self, object_id: int) -> float | None:
        """Return the average recall of one object."""
        values = [r.average_of(object_id) for r in self.recalls]
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
            targets = _discrepancies(frames, rows, objects, renderer, delta_m)
    except (BackendError, ImageError) as error:
        return VsdScores(missing=str(error))
    return VsdScores(tuple(recall(per_tau, VSD_THRESHOLDS) for per_tau in targets))


def _discrepancies(
    frames: Sequence[BopFrame], rows: Iterable[ResultRow], objects: Mapping[int, ObjectModel],
    renderer: Renderer, delta_m: float,
) -> list[list[TargetErrors]]:
    """Return the errors of each target, once for each tolerance."""
    estimates = group_rows(rows)
    result: list[list[TargetErrors]] = [[] for _ in TAUS]
    for frame in frames:
        test, truths = frame.load_depth_m(), frame.target_ground_truth()
        assert test is not None
        for object_id in sorted(frame.targets):
            wanted = [g.T_camera_object for g in truths if g.object_id == object_id]
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
    return result
