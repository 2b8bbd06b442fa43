"""The identity of a checkpoint: its objects in class order, meshes and view prior."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from ..geometry.se3 import Array
from ..geometry.symmetry import Symmetries
from ..model_json import WEIGHTS_FILE, sha256_of
from ..objects import ObjectModel
from ..specs import ViewPrior

IDENTITY = 'identity'
# What entries stand for that do not say it: such an object was trained about its origin, with
# the first series of samples.
FORMER = {'middle_m': [0.0, 0.0, 0.0], 'series': 0}
# The symmetries themselves, and the model whose shared layers are frozen. Older checkpoints do not
# have them, and are compared without.
MOTIONS, FROZEN = 'motions', 'frozen_sha256'
# Entries of a rotation, and parts of the diameter, that symmetries may differ by: about a degree.
# A search that finds them again is as exact, and less than this no network can tell.
SAME_MOTION = 0.02


def identity_of(objects: Sequence[ObjectModel], view_prior: ViewPrior | None, seed: int,
                frozen: Path | None = None, series: int = 0) -> dict[str, Any]:
    """Return plain data for the entry :data:`IDENTITY` of a checkpoint.

    :param objects: in class order.
    :param frozen: model directory whose shared layers are not trained, None without one.
    :param series: of the samples that a seed gives.
    :raises MeshError: when a mesh is missing.
    """
    return {
        'objects': [{
            'object_id': o.object_id, 'label': o.label, 'mesh_sha256': o.checked_digest(),
            'unit_m': o.unit_m, 'diameter_m': o.diameter_m,
            'symmetries': len(o.symmetries.transforms),
            MOTIONS: _motions(o.symmetries, o.middle_m, o.diameter_m),
            'middle_m': o.middle_m.tolist()} for o in objects],
        'view_prior': asdict(view_prior) if view_prior else None,
        'seed': seed, 'series': series,
        **({} if frozen is None else
           {FROZEN: sha256_of(frozen / WEIGHTS_FILE)}),
    }


def check_identity(path: Path, state: Mapping[str, Any], expected: Mapping[str, Any],
                   names: Sequence[str] = ('objects', 'view_prior', 'seed', 'series', FROZEN)
                   ) -> None:
    """Check that a checkpoint was trained on the objects of a configuration.

    An older checkpoint without this entry is accepted with a warning.

    :param expected: :func:`identity_of` what the configuration names.
    :param names: of the parts that must agree.
    :raises ModelError: naming the first difference.
    """
    found = state.get(IDENTITY)
    if not isinstance(found, Mapping):
        logging.getLogger(__name__).warning(
            '%s does not say which objects it was trained on; they are taken to be those of the '
            'configuration, in that order', path)
        return
    difference = first_difference(found, {n: expected[n] for n in names if n in expected})
    if difference:
        raise ModelError(path, f'was trained with {difference}',
                         'restore the configuration, its objects and their meshes, or train in '
                         'another output folder')


def check_known(path: Path, entries: Sequence[Mapping[str, Any]], expected: Mapping[str, Any],
                why: str) -> None:
    """Check that objects of a configuration are the same in a model that knows them.

    :param entries: of its objects, from ``model.json``.
    :param expected: :func:`identity_of` what the configuration names.
    :param why: they must be the same, for the message.
    :raises ModelError: naming the first difference of mesh, size, middle, symmetries or view
        prior.
    """
    known = {entry['label']: entry for entry in entries}
    for wanted in expected['objects']:
        label = wanted['label']
        if label not in known:
            continue
        found = {**FORMER, **known[label]}
        symmetries = Symmetries(np.reshape(found['symmetries'], (-1, 4, 4)))
        found.update({'symmetries': len(symmetries.transforms),
                      MOTIONS: _motions(symmetries, found['middle_m'], wanted['diameter_m'])})
        difference = first_difference(
            found, {**wanted, 'object_id': found['object_id'],
                    'view_prior': expected['view_prior']}, label)
        if difference:
            raise ModelError(path, f'was made with {difference}', why)


def _motions(symmetries: Symmetries, middle_m: Any, diameter_m: float) -> list[Any]:
    """Return symmetries about the middle of an object in its diameters, (S, 3, 4) plain data."""
    T = symmetries.about(middle_m).transforms[:, :3] / [1.0, 1.0, 1.0, diameter_m]
    plain: list[Any] = T.tolist()
    return plain


def _same_motions(found: Any, expected: Any) -> bool:
    """Tell whether two lists of :func:`_motions` hold the same ones, in any order."""
    a, b = (np.array(motions) for motions in (found, expected))
    gaps: Array = np.array([np.abs(one - b).max(axis=(1, 2)) for one in a])
    return bool(max(gaps.min(axis=0).max(), gaps.min(axis=1).max()) < SAME_MOTION)


def first_difference(found: Any, expected: Any, where: str = '') -> str:
    """Return the first difference of nested plain data, '' if they agree up to rounding.

    :param where: the name of the data, for the text.
    """
    if where.endswith(f'.{MOTIONS}'):
        return '' if _same_motions(found, expected) else f'other symmetries ({where})'
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        pairs = [(found.get(k, FORMER.get(k)), expected[k], f'{where}.{k}'.lstrip('.'))
                 for k in expected if k in found or k not in (MOTIONS, FROZEN)]
    elif isinstance(found, list) and isinstance(expected, list):
        if len(found) != len(expected):
            return f'{len(found)} {where}, the configuration has {len(expected)}'
        pairs = [(*pair, f'{where}[{i}]')
                 for i, pair in enumerate(zip(found, expected, strict=True))]
    elif isinstance(found, float) and isinstance(expected, float):
        near = math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-9)
        return '' if near else _told(found, expected, where)
    else:
        return '' if found == expected else _told(found, expected, where)
    return next(filter(None, (first_difference(*pair) for pair in pairs)), '')


def _told(found: Any, expected: Any, where: str) -> str:
    return f'{where} {found!r}, the configuration has {expected!r}'
