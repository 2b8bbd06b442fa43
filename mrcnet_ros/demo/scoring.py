"""How far the node's poses are from the truth, and whether that is good enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.pose_errors import closest_equivalent, hull_vertices, mssd, pose_difference
from ..geometry.se3 import Array
from ..objects import ObjectModel
from .scenes import DemoScene


@dataclass(frozen=True)
class ObjectError:
    """One estimate against the truth, symmetries taken into account.

    :param mssd_diameters: maximum symmetry-aware surface distance over the diameter.
    """

    label: str
    rotation_rad: float
    translation_m: float
    depth_m: float
    mssd_diameters: float


@dataclass(frozen=True)
class Limits:
    """What the demo has to reach: what the model shipped now reaches with little to spare.

    :param answered: least part of the visible objects that got a pose.
    :param median_mssd: largest median MSSD over all objects, in diameters.
    :param object_median_mssd: largest median of any single object, in diameters.
    """

    answered: float = 0.95
    median_mssd: float = 0.15
    object_median_mssd: float = 0.25


@dataclass(frozen=True)
class Score:
    """All errors of a run.

    :param expected: how many poses there should be, by label.
    """

    expected: Mapping[str, int]
    errors: Sequence[ObjectError]

    def of(self, label: str) -> list[ObjectError]:
        """Return the errors of one object."""
        return [e for e in self.errors if e.label == label]

    def complaints(self, limits: Limits) -> list[str]:
        """Return what is not good enough; empty when all is well."""
        wanted, found = sum(self.expected.values()), len(self.errors)
        if found < limits.answered * wanted or not found:
            return [f'{found} poses for {wanted} visible objects; '
                    f'at least {limits.answered:.0%} must be answered']
        complaints = []
        overall = _median(e.mssd_diameters for e in self.errors)
        if overall > limits.median_mssd:
            complaints.append(f'the median MSSD is {overall:.1%} of the diameter, '
                              f'the limit {limits.median_mssd:.1%}')
        for label in self.expected:
            own = _median(e.mssd_diameters for e in self.of(label))
            if not own <= limits.object_median_mssd:
                complaints.append(f'the median MSSD of {label} is {own:.1%} of the diameter, '
                                  f'the limit {limits.object_median_mssd:.1%}')
        return complaints

    def table(self) -> str:
        """Return medians by object, as text."""
        lines = [f'{"object":<10}{"poses":>9}{"rotation":>11}{"position":>11}{"depth":>10}'
                 f'{"MSSD":>8}{"MSSD<10%":>10}',
                 f'{"":<10}{"":>9}{"[deg]":>11}{"[mm]":>11}{"[mm]":>10}{"[% d]":>8}{"":>10}']
        lines += [_row(label, self.of(label), n) for label, n in self.expected.items()]
        return '\n'.join([*lines, _row('all', self.errors, sum(self.expected.values()))])


def score_scenes(scenes: Iterable[DemoScene], answers: Iterable[Mapping[str, Array]],
                 objects: Mapping[str, ObjectModel]) -> Score:
    """Compare answers with the scenes they belong to.

    :param answers: T_camera_object (4, 4) [m] by label for each scene; empty when unanswered.
    :param objects: by label.
    """
    hulls = {label: hull_vertices(o.load_mesh().vertices) for label, o in objects.items()}
    expected = dict.fromkeys(objects, 0)
    errors = []
    for scene, answer in zip(scenes, answers, strict=True):
        for truth in scene.objects:
            expected[truth.label] += 1
            if truth.label in answer:
                errors.append(object_error(answer[truth.label], truth.T_camera_object,
                                           objects[truth.label], hulls[truth.label]))
    return Score(expected, errors)


def object_error(T_est: Array, T_gt: Array, model: ObjectModel, hull: Array) -> ObjectError:
    """Compare an estimate with the nearest symmetric equivalent of the truth.

    :param T_est: (4, 4) T_camera_object [m].
    :param T_gt: (4, 4) T_camera_object [m].
    :param hull: (H, 3) vertices of the mesh's convex hull [m].
    """
    nearest = closest_equivalent(T_est, T_gt, hull, model.symmetries)
    difference = pose_difference(T_est, nearest)
    return ObjectError(
        model.label, difference.rotation_rad, difference.translation_m, difference.depth_m,
        mssd(T_est, T_gt, hull, model.symmetries) / model.diameter_m)


def _row(name: str, errors: Sequence[ObjectError], expected: int) -> str:
    counted = f'{len(errors)}/{expected}'
    if not errors:
        return f'{name:<10}{counted:>9}' + f'{"-":>11}{"-":>11}{"-":>10}{"-":>8}{"-":>10}'
    rotation = np.degrees(_median(e.rotation_rad for e in errors))
    position = 1000 * _median(e.translation_m for e in errors)
    depth = 1000 * _median(abs(e.depth_m) for e in errors)
    share = np.mean([e.mssd_diameters < 0.1 for e in errors])
    return (f'{name:<10}{counted:>9}{rotation:>11.1f}{position:>11.1f}{depth:>10.1f}'
            f'{100 * _median(e.mssd_diameters for e in errors):>8.1f}{share:>10.0%}')


def _median(values: Iterable[float]) -> float:
    """Return the median, infinity of nothing."""
    found = list(values)
    return float(np.median(found)) if found else float('inf')
