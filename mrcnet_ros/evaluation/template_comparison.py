"""The effect of cached templates: the same detections with cached and with exact ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..datasets.bop import BopFrame, ResultRow
from ..datasets.boxes import BoxSource
from ..geometry.se3 import Array
from ..inference.poses import Estimator
from ..objects import ObjectModel
from .runner import detections_of, frame_rows
from .scores import ScoredObject, score
from .speed import Question, TimedAnswer, ask_for
from .text_table import cell, median

WAYS = ('cached, in memory', 'cached, not in memory', 'exact')
MOVEMENTS = ('rotation [deg]', 'translation [mm]', 'depth [mm]', 'surface [% of diameter]')


@dataclass
class TemplateComparison:
    """All answers.

    :param moved: of each detection, the difference of the exact pose from the cached one, as
        :data:`MOVEMENTS` names it.
    :param rows: estimates by way; those with cached templates are the same for both.
    :param answers: how long each image took, by way.
    """

    frames: list[BopFrame] = field(default_factory=list)
    moved: list[tuple[float, float, float, float]] = field(default_factory=list)
    rows: dict[str, list[ResultRow]] = field(default_factory=lambda: {w: [] for w in WAYS})
    answers: dict[str, list[TimedAnswer]] = field(default_factory=lambda: {w: [] for w in WAYS})
    detections: list[int] = field(default_factory=list)


def compare_templates(frames: Iterable[BopFrame], cached: Estimator, forget: Callable[[], None],
                      exact: Estimator, boxes: BoxSource, objects: Mapping[int, ObjectModel]
                      ) -> TemplateComparison:
    """Answer each image with empty memory, again with full memory, and with exact templates.

    Images without a detection of a known object are left out of the times.

    :param forget: empties the memory of template features.
    :param objects: by object id, to measure movements with.
    """
    result = TemplateComparison()
    scored = {i: ScoredObject(model) for i, model in objects.items()}
    for frame in frames:
        result.frames.append(frame)
        detections, _ = detections_of(frame, cached, boxes)
        if not detections:
            continue
        question = Question(frame.load_image(), frame.camera, detections)
        if not result.detections:  # allocations of a first call are no part of it
            ask_for(cached, question)
            ask_for(exact, question)
        result.detections.append(len(detections))
        forget()
        poses: dict[str, dict[int, tuple[int, Array]]] = {}
        for way in (WAYS[1], WAYS[0], WAYS[2]):
            answer, found = ask_for(exact if way == WAYS[2] else cached, question)
            result.answers[way].append(answer)
            result.rows[way] += frame_rows(frame, found.poses)
            poses[way] = {p.detection_index: (p.object_id, p.T_camera_object) for p in found.poses}
        for index, (object_id, T_cached) in poses[WAYS[0]].items():
            if index in poses[WAYS[2]]:
                result.moved.append(_movement(scored[object_id], poses[WAYS[2]][index][1],
                                              T_cached))
    return result


def template_figures(result: TemplateComparison,
                     objects: Mapping[int, ObjectModel]) -> dict[str, Any]:
    """Return all figures as plain data."""
    ways = {}
    for way in WAYS:
        scores = score(result.frames, result.rows[way], objects)
        answers = result.answers[way]
        ways[way] = {
            'ar_mssd': scores.mssd.average, 'ar_mspd': scores.mspd.average,
            'template_ms_a_detection': median(
                [1e3 * a.stage_seconds.get('template', 0.0) / n
                 for a, n in zip(answers, result.detections, strict=True)]),
            'image_ms': median([1e3 * a.seconds for a in answers])}
    moved = np.array(result.moved).reshape(-1, len(MOVEMENTS))
    return {
        'images': len(result.frames), 'detections': sum(result.detections), 'ways': ways,
        'moved': {name: {'median': _percentile(column, 50), 'p95': _percentile(column, 95)}
                  for name, column in zip(MOVEMENTS, moved.T, strict=True)}}


def template_table(figures: Mapping[str, Any]) -> str:
    """Return two tables in Markdown: the ways, and how far poses move between them."""
    heads = ('templates', 'AR_MSSD', 'AR_MSPD', 'template, ms a detection', 'ms an image')
    styles = {'ar_mssd': '.3f', 'ar_mspd': '.3f', 'template_ms_a_detection': '.2f',
              'image_ms': '.1f'}
    rows = [[way, *(cell(entry[key], style) for key, style in styles.items())]
            for way, entry in figures['ways'].items()]
    moved = [[name, cell(entry['median'], '.2f'), cell(entry['p95'], '.2f')]
             for name, entry in figures['moved'].items()]
    return '\n\n'.join([
        _markdown(heads, rows), _markdown(('exact against cached', 'median', 'p95'), moved),
        f'{figures["images"]} images with {figures["detections"]} detections'])


def _movement(scored: ScoredObject, T_exact: Array, T_cached: Array
              ) -> tuple[float, float, float, float]:
    difference = scored.difference(T_exact, T_cached)
    return (float(np.degrees(difference.rotation_rad)), 1e3 * difference.translation_m,
            1e3 * abs(difference.depth_m),
            100 * scored.mssd(T_exact, T_cached) / scored.model.diameter_m)


def _percentile(values: Array, percent: float) -> float | None:
    return float(np.percentile(values, percent)) if len(values) else None


def _markdown(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ['---'] * len(heads), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
