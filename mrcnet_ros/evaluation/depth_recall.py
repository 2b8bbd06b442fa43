"""Recall of poses with depth, with a support plane and with wrong depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..datasets.bop import BopFrame
from ..datasets.boxes import BoxSource
from ..geometry.camera import Camera
from ..inference.poses import Detection, Estimator, FrameResult, Measured
from ..objects import ObjectModel
from . import report
from .known_scenes import COLOUR, DEPTH, PLANE, WRONG, KnownScenes
from .runner import Run, detections_of, frame_rows, most_of, unanswered
from .scores import Scores, score
from .text_table import figure_line, heading_line
from .vsd_scores import score_vsd

# An object may lose so much average recall by depth that is wrong.
MOST_LOST = 0.02
_RATES = ('ar_mssd', 'ar_mspd', 'ar_vsd')


class CorrectingEstimator(Estimator, Protocol):
    """An estimator that can correct the same answer in several ways."""

    def estimate_with_each(self, image_rgb: NDArray[np.uint8], camera: Camera,
                           detections: Sequence[Detection], known: Sequence[Measured], *,
                           most: Mapping[str, int] | None = None) -> list[FrameResult]:
        """Return an answer with each of several depth images and planes."""


class DepthRecall:
    """Answers images with each kind of knowledge and scores all the answers.

    :param scenes: of all images of ``frames``.
    """

    def __init__(self, estimator: CorrectingEstimator, boxes: BoxSource,
                 frames: Sequence[BopFrame], scenes: KnownScenes) -> None:
        self._estimator, self._boxes, self._scenes = estimator, boxes, scenes
        self._frames = list(frames)
        self.runs = {name: Run() for name in scenes.names}

    def add(self, number: int) -> None:
        """Answer an image.

        :raises ImageError: when image or depth image cannot be read.
        """
        frame = self._frames[number]
        detections, missing = detections_of(frame, self._estimator, self._boxes)
        results = self._estimator.estimate_with_each(
            frame.load_image(), frame.camera, detections, self._scenes.known(number),
            most=most_of(frame, self._estimator))
        for run, result in zip(self.runs.values(), results, strict=True):
            run.frames.append(frame)
            run.poses += result.poses
            run.rows += frame_rows(frame, result.poses)
            run.skipped.update(missing)
            run.skipped.update(unanswered(result))

    def figures(self, objects: Mapping[int, ObjectModel], labels: Mapping[int, str],
                dataset: str) -> dict[str, Any]:
        """Return the scores of each kind of knowledge under its name, in the key ``ways``.

        :param objects: by object id, with the meshes that are scored with.
        :param labels: names by object id.
        :param dataset: BOP's name.
        """
        ways: dict[str, Any] = {}
        plain: Scores | None = None
        for name, run in self.runs.items():
            scores = score(run.frames, run.rows, objects)
            vsd = score_vsd(run.frames, run.rows, objects, dataset)
            figures = report.recall_figures(scores, vsd, labels)
            plain = plain or scores
            ways[name] = {
                **{k: figures[k] for k in ('overall', 'objects', 'by_visible_fraction',
                                           'vsd_missing')},
                'corrected': _corrected(plain, scores, run)}
        for name, way in ways.items():
            way['worst_object'] = _worst_object(ways[COLOUR]['objects'], way['objects'])
            way['wrong'] = name in WRONG
        return {'images': len(self.runs[COLOUR].frames), 'ways': ways}


def _corrected(plain: Scores, scores: Scores, run: Run) -> dict[str, Any]:
    """Return how far the targets were off whose poses were corrected, before and after [mm]."""
    poses = {id(row): pose for row, pose in zip(run.rows, run.poses, strict=True)}
    pairs = [(before.difference, after.difference)
             for before, after in zip(plain.targets, scores.targets, strict=True)
             if after.estimate is not None and poses[id(after.estimate)].corrected]
    off = np.array([[abs(b.depth_m), abs(a.depth_m)] for b, a in pairs
                    if b is not None and a is not None]).reshape(-1, 2)
    medians = 1e3 * np.median(off, axis=0) if len(off) else (None, None)
    return {'targets': len(off),
            **{f'median_depth_mm_{when}': None if value is None else float(value)
               for when, value in zip(('before', 'after'), medians, strict=True)}}


def _worst_object(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the object that lost most average recall (the mean of the three), or won least."""
    changes = {}
    for number, entry in after.items():
        rates = [(before[number][key], entry[key]) for key in _RATES if entry[key] is not None]
        changes[entry['label'] or number] = float(np.mean([b - a for a, b in rates]))
    if not changes:
        return None
    worst = min(changes, key=lambda label: changes[label])
    return {'label': worst, 'change': changes[worst]}


_COLUMNS = (
    ('targets', 'targets', 8, 'd'), ('AR_MSSD', 'ar_mssd', 9, '.3f'),
    ('AR_MSPD', 'ar_mspd', 9, '.3f'), ('AR_VSD', 'ar_vsd', 8, '.3f'), ('near', 'near', 7, '.1%'),
    ('rot [deg]', 'median_rotation_deg', 11, '.2f'), ('xy [mm]', 'median_xy_mm', 9, '.1f'),
    ('depth [mm]', 'median_depth_mm', 12, '.1f'),
)


def depth_table(figures: Mapping[str, Any]) -> str:
    """Return the table of :meth:`DepthRecall.figures`: all targets, and by visible fraction."""
    ways = figures['ways']
    width = max(map(len, ways)) + 2
    heading = 'all targets'.ljust(width) + heading_line(_COLUMNS)
    heading += 'corrected'.rjust(11) + '  worst object'
    lines = [heading, '-' * len(heading)]
    lines += [_line(name, way['overall'], width) + f'{way["corrected"]["targets"]:11d}'
              + _worst(name, way) for name, way in ways.items()]
    for part in ways[COLOUR]['by_visible_fraction']:
        lines += [f'visible {part}']
        lines += [_line(name, way['by_visible_fraction'][part], width)
                  for name, way in ways.items() if name in (COLOUR, PLANE, DEPTH)]
    lines += [f'{name}: of the {c["targets"]} targets that it corrected, the median error of '
              f'distance was {c["median_depth_mm_before"]:.1f} mm and is '
              f'{c["median_depth_mm_after"]:.1f} mm'
              for name, c in ((n, w['corrected']) for n, w in ways.items())
              if name in (PLANE, DEPTH) and c['targets']]
    lost = [f'{name} ({way["worst_object"]["label"]})' for name, way in ways.items()
            if way['wrong'] and way['worst_object'] is not None
            and way['worst_object']['change'] < -MOST_LOST]
    lines += [f'an object lost more than {MOST_LOST} by: ' + ', '.join(lost) if lost else
              f'no object lost more than {MOST_LOST} by depth that is wrong']
    return '\n'.join(lines)


def _worst(name: str, way: Mapping[str, Any]) -> str:
    worst = way['worst_object']
    return '' if name == COLOUR or worst is None else f'  {worst["change"]:+.3f} {worst["label"]}'


def _line(name: str, entry: Mapping[str, Any], width: int) -> str:
    return f'  {name}'.ljust(width) + figure_line(_COLUMNS, entry)
