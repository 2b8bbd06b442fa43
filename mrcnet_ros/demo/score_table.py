"""The errors of the demo as a table, and whether they are small enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.scores import TargetScore
from ..objects import ObjectModel

GOOD_DIAMETERS = 0.1  # MSSD that the last column of the table counts


@dataclass(frozen=True)
class DemoLimits:
    """What the demo has to reach: what the model shipped now reaches with little to spare.

    :param answered: least part of the visible objects that got a pose.
    :param median_mssd: largest median MSSD over all objects, in diameters.
    :param object_median_mssd: largest median of any single object, in diameters.
    """

    answered: float = 0.95
    # models/demo has 0.045 over all and 0.060 at worst; nothing in the demo is random
    median_mssd: float = 0.06
    object_median_mssd: float = 0.08


def complaints(targets: Sequence[TargetScore], objects: Mapping[int, ObjectModel],
               limits: DemoLimits) -> list[str]:
    """Return what is not good enough; empty when all is well.

    :param targets: what became of all objects that were to be found.
    :param objects: by object id.
    """
    found = sum(t.mssd_m is not None for t in targets)
    if found < limits.answered * len(targets) or not found:
        return [f'{found} poses for {len(targets)} visible objects; '
                f'at least {limits.answered:.0%} must be answered']
    bad = []
    overall = _median(_mssd_diameters(targets, objects))
    if overall > limits.median_mssd:
        bad.append(f'the median MSSD is {overall:.1%} of the diameter, '
                   f'the limit {limits.median_mssd:.1%}')
    for object_id in sorted({t.object_id for t in targets}):
        own = _median(_mssd_diameters(_of(targets, object_id), objects))
        if not own <= limits.object_median_mssd:
            bad.append(f'the median MSSD of {objects[object_id].label} is {own:.1%} of the '
                       f'diameter, the limit {limits.object_median_mssd:.1%}')
    return bad


def error_table(targets: Sequence[TargetScore], objects: Mapping[int, ObjectModel]) -> str:
    """Return medians by object, as text.

    :param objects: by object id.
    """
    lines = [f'{"object":<10}{"poses":>9}{"rotation":>11}{"position":>11}{"depth":>10}'
             f'{"MSSD":>8}{"MSSD<10%":>10}',
             f'{"":<10}{"":>9}{"[deg]":>11}{"[mm]":>11}{"[mm]":>10}{"[% d]":>8}{"":>10}']
    lines += [_row(model.label, _of(targets, i), objects) for i, model in objects.items()]
    return '\n'.join([*lines, _row('all', targets, objects)])


def _row(name: str, targets: Sequence[TargetScore], objects: Mapping[int, ObjectModel]) -> str:
    found = [t.difference for t in targets if t.difference is not None]
    counted = f'{len(found)}/{len(targets)}'
    if not found:
        return f'{name:<10}{counted:>9}' + f'{"-":>11}{"-":>11}{"-":>10}{"-":>8}{"-":>10}'
    mssd = _mssd_diameters(targets, objects)
    return (f'{name:<10}{counted:>9}{np.degrees(_median(d.rotation_rad for d in found)):>11.1f}'
            f'{1e3 * _median(d.translation_m for d in found):>11.1f}'
            f'{1e3 * _median(abs(d.depth_m) for d in found):>10.1f}{100 * _median(mssd):>8.1f}'
            f'{np.mean(np.array(mssd) < GOOD_DIAMETERS):>10.0%}')


def _of(targets: Sequence[TargetScore], object_id: int) -> list[TargetScore]:
    return [t for t in targets if t.object_id == object_id]


def _mssd_diameters(targets: Sequence[TargetScore], objects: Mapping[int, ObjectModel]
                    ) -> list[float]:
    return [t.mssd_m / objects[t.object_id].diameter_m for t in targets if t.mssd_m is not None]


def _median(values: Iterable[float]) -> float:
    """Return the median, infinity of nothing."""
    found = list(values)
    return float(np.median(found)) if found else float('inf')
