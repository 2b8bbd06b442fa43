"""What an export keeps of the calibration of the model that it replaces."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..detector.entry import DETECTOR, DETECTOR_GRAPH, DETECTOR_WEIGHTS, read_detector
from ..errors import ModelError, SpecError
from ..inference.calibration_entries import CALIBRATION
from ..inference.model_directory import graph_names, graphs_digest
from ..model_json import (
    MODEL_FILE,
    REFINED,
    REFINER,
    REFINER_FILES,
    check_file,
    check_seal,
    refiner_spec,
)
from ..objects.object_model import of_other_sizes
from ..reading.text import parse_json
from ..runtimes.verified import VERIFIED_FILE, has_passed
from ..specs import ModelSpec

Say = Callable[[str], object]
# what a size was measured against
MESH = ('mesh_sha256', 'unit_m')
# what a refiner was trained for
OBJECT = ('label', *MESH, 'diameter_m', 'middle_m', 'symmetries', 'view_prior')
log: Say = logging.getLogger(__package__).info


def keep_calibration(output: Path, values: dict[str, Any], graphs: Sequence[str],
                     start: Path | None = None) -> list[str]:
    """Take over what was measured for the model in a directory, where it still holds.

    Sizes belong to an object and its mesh, whatever the weights are. How large errors are belongs
    to the graphs.

    :param output: the directory, which may hold an older model, something else or nothing.
    :param values: of the new ``model.json``; what is kept is added to them.
    :param start: model that the training started from, whose sizes are taken where the directory
        holds no model of poses.
    :return: lines that say what was kept and what was dropped.
    """
    old = _old_values(output / MODEL_FILE)
    if not old.get('objects') and start is not None:  # a detector alone has none
        return [f'{line} ({start})' for line in _keep_sizes(
            _old_values(start / MODEL_FILE), values, only_known=True)]
    said = _keep_sizes(old, values)
    measured = [name for name in (*CALIBRATION, REFINED) if old.get(name) is not None]
    files = old.get('files')
    former = graphs_digest(files, graphs) if isinstance(files, Mapping) else ''
    if former == graphs_digest(values['files'], graphs):
        values.update({name: old[name] for name in measured})
        if measured:
            said.append(f'kept {", ".join(measured)}: the graphs are the same')
        return said
    if measured:
        said.append(f'dropped {", ".join(measured)}: measured with other graphs; run mrcnet '
                    'calibrate --write for these')
    return said + unverified(output, old, graphs)


def unverified(output: Path, old: Mapping[str, Any], graphs: Sequence[str]) -> list[str]:
    """Say that graphs have to be verified again, where the former ones were.

    :param old: what ``model.json`` said before.
    """
    files = old.get('files')
    if not isinstance(files, Mapping) or not has_passed(
            output, graphs_digest(files, graph_names(old, graphs))):
        return []
    return [f'{VERIFIED_FILE} is of other graphs: until mrcnet verify passes again, precision '
            'auto means fp32']


def drop_refined(values: dict[str, Any]) -> list[str]:
    """Drop the calibrations of refined poses, which belong to another refiner.

    :param values: of ``model.json``; the entry is removed from them.
    """
    if values.pop(REFINED, None) is None:
        return []
    return ['dropped the calibrations of refined poses: measured with another refiner; run mrcnet '
            'calibrate --refine 1 --write for this one']


def keep_refiner(output: Path, values: dict[str, Any]) -> list[str]:
    """Take over the refiner of a directory, where it is of the same objects.

    It starts at any pose near the right one, so it does not matter which weights found that.

    :param output: the directory, which may hold an older model, something else or nothing.
    :param values: of the new ``model.json``; the entry of the refiner is added to them.
    :return: lines that say whether it was kept.
    """
    old = _old_values(output / MODEL_FILE)
    if old.get(REFINER) is None:
        return []
    if values['spec']['preset'] != ModelSpec.preset:
        return [f'dropped the refiner: it is for models of the preset {ModelSpec.preset}']
    try:
        check_seal(output, old)
        refiner_spec(old)
        for name in REFINER_FILES:
            check_file(output / name, old['files'][name])
        if _identities(old['objects']) != _identities(values['objects']):
            return ['dropped the refiner: it is of other objects, or in another order']
    except (ModelError, SpecError, KeyError, TypeError, AttributeError) as error:
        return [f'dropped the refiner: {error}']
    values[REFINER] = old[REFINER]
    values['files'] |= {name: old['files'][name] for name in REFINER_FILES}
    return ['kept the refiner']


def _identities(entries: Any) -> list[list[Any]]:
    return [[entry.get(name) for name in OBJECT] for entry in entries]


def keep_detector(output: Path, values: dict[str, Any]) -> list[str]:
    """Take over the detector of a directory, where it still finds objects of the model.

    :param output: the directory, which may hold an older model, something else or nothing.
    :param values: of the new ``model.json``; the entries of the detector are added to them.
    :return: lines that say whether it was kept.
    """
    old = _old_values(output / MODEL_FILE)
    if old.get(DETECTOR) is None:
        return []
    try:
        detector = read_detector(output)
    except ModelError as error:
        return [f'dropped the detector: {error}']
    unknown = set(detector.labels) - {entry['label'] for entry in values['objects']}
    if unknown:
        return [f'dropped the detector: it finds {", ".join(sorted(unknown))}, which the model '
                'does not know']
    others = of_other_sizes(dict(zip(detector.labels, detector.diameters_m, strict=True)),
                            {e['label']: e.get('diameter_m') for e in values['objects']})
    if others:
        return [f'dropped the detector: {", ".join(others)} of the model has another size, so it '
                'is another object']
    values[DETECTOR] = old[DETECTOR]
    values['files'] |= {name: old['files'][name] for name in (DETECTOR_GRAPH, DETECTOR_WEIGHTS)
                        if name in old['files']}
    return ['kept the detector']


def _keep_sizes(old: Mapping[str, Any], values: Mapping[str, Any], *,
                only_known: bool = False) -> list[str]:
    """Take over sizes of objects whose meshes and units are the same.

    :param only_known: whether to say nothing of objects that the new model does not have.
    """
    entries = old.get('objects')
    sized = {e['label']: e for e in entries if isinstance(e, Mapping) and 'label' in e
             and e.get('size_ratio', 1.0) != 1.0} if isinstance(entries, list) else {}
    kept, new = [], {entry['label']: entry for entry in values['objects']}
    for label, entry in sized.items():
        if label in new and all(new[label][name] == entry.get(name) for name in MESH):
            new[label]['size_ratio'] = entry['size_ratio']
            kept.append(label)
    dropped = [label for label in sized if label not in kept and (
        label in new or not only_known)]
    return [*([f'kept size_ratio of {", ".join(kept)}'] if kept else []),
            *([f'dropped size_ratio of {", ".join(dropped)}: measured with another mesh'
               ] if dropped else [])]


def _old_values(path: Path) -> Mapping[str, Any]:
    """Return what an older description says; nothing of what is none."""
    try:
        values = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, Mapping) else {}
