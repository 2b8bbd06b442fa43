"""The measurements that are put into ``model.json`` after the export: laws and sizes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from ..errors import ModelError
from ..model_json import MODEL_FILE, REFINED, read_model_json, replace_json
from .depth_law import DepthScoreLaw
from .measured_law import FittedTo
from .scoring import ScoreLaw
from .uncertainty import CovarianceLaw

# Entries of model.json that were measured with its graphs, and belong to them. Those of refined
# poses are in an entry of their own.
CALIBRATION = ('covariance', 'covariance_source', 'score', 'score_source', 'covariance_depth',
               'covariance_depth_source', 'score_depth')
SIZES = 'size_ratio'
# what each calibration was measured with, besides the graphs
MEASURED_WITH = {'covariance': (SIZES,), 'score': (SIZES,),
                 'covariance_depth': (SIZES, 'covariance'), 'score_depth': (SIZES, 'covariance')}


def outdated(path: Path, written: Collection[str], refine: int = 0
             ) -> dict[tuple[str, int], list[str]]:
    """Return the calibrations in ``model.json`` that were measured with former values of others.

    :param written: names of calibrations that are new, and :data:`SIZES` where a size is.
    :param refine: passes of the refiner that the new calibrations were measured with.
    :return: by name, and passes that it was measured with, what has changed since then.
    :raises ModelError: when the file cannot be read.
    """
    values = read_model_json(path)[1]
    refined = values.get(REFINED) or {}
    passes = max((int(entry['refine']) for name, entry in refined.items()
                  if name.endswith('_source')), default=1)
    found = {}
    for group, made_with in ((values, 0), (refined, passes)):
        new = set(written) if bool(made_with) == bool(refine) else set(written) & {SIZES}
        for law, others in MEASURED_WITH.items():
            changed = [name for name in others if name in new]
            if changed and law not in new and group.get(law) is not None:
                found[law, made_with] = changed
    return found


def write_size_ratios(path: Path, ratios: Mapping[str, float]) -> None:
    """Write sizes of real objects over those of their meshes into ``model.json``.

    :param ratios: by label; objects not named keep theirs.
    :raises ModelError: when the file cannot be read or written, or lacks an object.
    """
    values = json.loads(read_model_json(path)[0])
    entries = {entry['label']: entry for entry in values['objects']}
    unknown = sorted(set(ratios) - set(entries))
    if unknown:
        raise ModelError(path, f'knows no {unknown}, only {sorted(entries)}')
    for label, ratio in ratios.items():
        entries[label][SIZES] = round(ratio, 4)
    replace_json(path / MODEL_FILE, values)


def write_law(path: Path, law: CovarianceLaw | ScoreLaw | DepthScoreLaw,
              source: FittedTo | None = None, *, depth: bool = False, refine: int = 0) -> None:
    """Write a covariance model or score calibration into ``model.json``, replacing the old one.

    :param source: what it was fitted to; None leaves that unsaid.
    :param depth: whether a covariance model is that of poses that depth has corrected.
    :param refine: how often the poses were refined; the source tells it, where there is one.
    :raises ModelError: when the file cannot be read or written.
    """
    name = 'covariance_depth' if depth else law.entry
    values = json.loads(read_model_json(path)[0])
    refined = refine if source is None else source.refine
    if refined:
        values[REFINED] = values.get(REFINED) or {}
    group = values[REFINED] if refined else values
    group[name] = {n: round(value, 6) for n, value in dataclasses.asdict(law).items()}
    group.pop(f'{name}_source', None)
    if source is not None:
        group[f'{name}_source'] = dataclasses.asdict(source)
    replace_json(path / MODEL_FILE, values)
