"""Scores as plain data for JSON and as a table for people."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError
from ..store.atomic import write_atomically, writing
from .scores import Scores, TargetScore
from .text_table import figure_line, heading_line, median
from .vsd_scores import VsdScores

MM_PER_M = 1e3
# Hidden by half, partly, and hardly hidden, as in the ladder.
VISIBILITY_EDGES = (0.0, 0.5, 0.8, 1.0)
UNSCALED = 'without size ratios'

COLUMNS = (
    ('targets', 'targets', 8, 'd'), ('found', 'estimates', 7, 'd'),
    ('AR_MSSD', 'ar_mssd', 9, '.3f'), ('AR_MSPD', 'ar_mspd', 9, '.3f'),
    ('mean', 'ar_mean', 7, '.3f'), ('AR_VSD', 'ar_vsd', 8, '.3f'),
    ('near', 'near', 7, '.1%'), ('rot [deg]', 'median_rotation_deg', 11, '.2f'),
    ('xy [mm]', 'median_xy_mm', 9, '.1f'), ('depth [mm]', 'median_depth_mm', 12, '.1f'),
    ('depth [%]', 'median_depth_percent', 11, '.2f'),
)


def recall_figures(scores: Scores, vsd: VsdScores, labels: Mapping[int, str],
                   unscaled: Scores | None = None) -> dict[str, Any]:
    """Return all figures under their names.

    ``ar_mean`` is the mean of ``ar_mssd`` and ``ar_mspd``, ``near`` the share of the targets
    that were found within a tenth of the diameter and 15 degrees. Medians are over the targets
    that have an estimate; ``xy`` is across the optical axis. ``overall`` counts every target
    once, as BOP does; ``mean_over_objects`` counts every object once.

    :param labels: names by object id.
    :param unscaled: scores of the same estimates without the size ratios of the model; None
        when it has none.
    """
    objects = {}
    for i in scores.object_ids:
        own = [t for t in scores.targets if t.object_id == i]
        objects[str(i)] = {'label': labels.get(i, ''), **_figures(
            scores.mssd.average_of(i), scores.mspd.average_of(i), vsd.average_of(i), own)}
    means = {key: float(np.mean([entry[key] for entry in objects.values()])) if objects else 0.0
             for key in ('ar_mssd', 'ar_mspd', 'ar_mean')}
    return {
        'overall': _figures(
            scores.mssd.average, scores.mspd.average, vsd.average, scores.targets),
        'without_size_ratios': None if unscaled is None else _figures(
            unscaled.mssd.average, unscaled.mspd.average, None, unscaled.targets),
        'mean_over_objects': means,
        'objects': objects,
        'by_visible_fraction': _by_visible_fraction(scores.targets, vsd),
        'vsd_missing': vsd.missing or None,
        'recalls': {
            'mssd_thresholds_diameters': scores.mssd.thresholds.tolist(),
            'mssd': scores.mssd.overall.tolist(),
            'mspd_thresholds_px_at_640': scores.mspd.thresholds.tolist(),
            'mspd': scores.mspd.overall.tolist(),
        },
        'targets': [_target(t) for t in scores.targets],
    }


def recall_table(figures: Mapping[str, Any]) -> str:
    """Return the table of a :func:`recall_figures`, one line an object and one for all."""
    names = {i: f'{i} {entry["label"]}'.strip() for i, entry in figures['objects'].items()}
    width = max(map(len, ['visible 0.0-0.5', *names.values()]))
    unscaled = figures['without_size_ratios']
    if unscaled is not None:
        width = max(width, len(UNSCALED))
    heading = 'object'.ljust(width) + heading_line(COLUMNS)
    lines = [heading, '-' * len(heading)]
    lines += [names[i].ljust(width) + figure_line(COLUMNS, entry)
              for i, entry in figures['objects'].items()]
    lines += ['-' * len(heading),
              'overall'.ljust(width) + figure_line(COLUMNS, figures['overall'])]
    lines += [f'visible {name}'.ljust(width) + figure_line(COLUMNS, entry)
              for name, entry in figures['by_visible_fraction'].items()]
    if unscaled is not None:
        lines.append(UNSCALED.ljust(width) + figure_line(COLUMNS, unscaled))
    lines.append('near: within 0.1 diameters and 15 degrees; errors are medians')
    vsd = figures['overall']['ar_vsd']
    lines.append(f'AR_VSD: not computed, {figures["vsd_missing"]}' if vsd is None
                 else f'AR_VSD: {vsd:.3f}')
    return '\n'.join(lines)


def check_writable(path: Path) -> None:
    """Check before minutes of work that its result can be written.

    :raises DatasetError: when the file cannot be written.
    """
    if path.is_dir():
        raise DatasetError(f'{path}: is a folder; give the name of a file')
    part = path.with_name(path.name + '.part')
    with writing(path):
        part.touch()
        part.unlink()


def write_json(path: Path | str, values: Mapping[str, Any]) -> None:
    """Write plain data so that the file is either the old or the new one, never a part.

    Numbers that are not finite become null, which is all that JSON has for them.

    :raises DatasetError: when the file cannot be written.
    """
    path = Path(path)
    text = json.dumps(_finite(values), indent=1, allow_nan=False) + '\n'
    with writing(path):
        write_atomically(path, text.encode())


def _finite(values: Any) -> Any:
    """Return plain data with None for numbers that are not finite."""
    if isinstance(values, Mapping):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def stage_medians_ms(stage_seconds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each stage over images [ms], in the order the stages appear."""
    names = dict.fromkeys(name for stages in stage_seconds for name in stages)
    return {name: 1e3 * float(np.median([s[name] for s in stage_seconds if name in s]))
            for name in names}


def _by_visible_fraction(targets: Iterable[TargetScore], vsd: VsdScores) -> dict[str, Any]:
    """Return figures for targets much, partly and hardly hidden."""
    result = {}
    for low, high in itertools.pairwise(VISIBILITY_EDGES):
        own = [t for t in targets if low <= t.visible_fraction < high or
               (high == VISIBILITY_EDGES[-1] and t.visible_fraction >= high)]
        if own:
            result[f'{low:.1f}-{high:.1f}'] = _figures(
                float(np.mean([t.mssd_met for t in own])),
                float(np.mean([t.mspd_met for t in own])), vsd.average_over(own), own)
    return result


def _figures(ar_mssd: float, ar_mspd: float, ar_vsd: float | None, targets: Iterable[TargetScore]
             ) -> dict[str, Any]:
    targets = list(targets)
    found = [t.difference for t in targets if t.difference is not None]
    return {
        'targets': len(targets), 'estimates': len(found),
        'ar_mssd': ar_mssd, 'ar_mspd': ar_mspd, 'ar_mean': (ar_mssd + ar_mspd) / 2,
        'ar_vsd': ar_vsd,
        'near': float(np.mean([t.near for t in targets])) if targets else 0.0,
        'median_rotation_deg': median([np.degrees(d.rotation_rad) for d in found]),
        'median_translation_mm': median([MM_PER_M * d.translation_m for d in found]),
        'median_xy_mm': median(
            [MM_PER_M * np.sqrt(max(d.translation_m**2 - d.depth_m**2, 0.0)) for d in found]),
        'median_depth_mm': median([MM_PER_M * abs(d.depth_m) for d in found]),
        'median_depth_percent': median(
            [100 * abs(t.depth_part) for t in targets if t.depth_part is not None]),
        'median_signed_depth_mm': median([MM_PER_M * d.depth_m for d in found]),
    }


def _target(t: TargetScore) -> dict[str, Any]:
    d = t.difference
    return {
        'scene_id': t.scene_id, 'image_id': t.image_id, 'object_id': t.object_id,
        'instance': t.instance, 'visible_fraction': t.visible_fraction, 'score': t.score,
        'mssd_mm': None if t.mssd_m is None else MM_PER_M * t.mssd_m,
        'mspd_px': t.mspd_px if t.mspd_px is not None and np.isfinite(t.mspd_px) else None,
        'rotation_deg': None if d is None else float(np.degrees(d.rotation_rad)),
        'translation_mm': None if d is None else MM_PER_M * d.translation_m,
        'depth_mm': None if d is None else MM_PER_M * d.depth_m, 'near': t.near,
    }
