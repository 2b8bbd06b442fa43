"""The ladder: one network on images ever more like photographs, all in the dataset's own AR.

Synthetic images show objects at other poses than the photographs, and MSSD and MSPD depend on the
pose. So each target of the dataset gets errors that the network makes on synthetic images of the
same object with a similar visible fraction. These errors are applied to the target's pose and
scored there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..datasets.known_view import KnownView
from ..geometry.crop import crop_camera
from ..geometry.se3 import Array
from ..inference.poses import Estimator
from ..objects import ObjectModel
from ..specs import CropSpec
from .carried_errors import MISSED, CarriedError, Worth, carried, pose_error, worth
from .runner import estimate_view
from .scores import ScoredObject
from .text_table import figure_line, heading_line, median

# Errors that each target is given. Their mean is steadier than one; 8 of 200 samples an object
# are still about as visible as the target.
DRAWN = 8
WELL_VISIBLE = 0.8  # visible fraction; the highest edge of report.VISIBILITY_EDGES
SEED = 6  # any number; a fixed one gives the same table for the same answers


@dataclass(frozen=True, eq=False)
class GradedPose:
    """The error of a network's answer to a view.

    :param error: None when it gave no pose.
    :param lateral_px: offset across the ray in pixels of the network's crop.
    """

    label: str
    visible_fraction: float
    error: CarriedError | None
    lateral_px: float = 0.0


class Judge:
    """Compares answers with the truth, and scores them at the targets of a dataset.

    :param objects: by label, with the meshes that the dataset is scored with.
    """

    def __init__(self, objects: Mapping[str, ObjectModel], spec: CropSpec) -> None:
        self.items = {label: ScoredObject(model) for label, model in objects.items()}
        self.spec = spec

    def answer(self, view: KnownView, T_est: Array | None) -> GradedPose:
        """Return the error of an answer.

        :param T_est: (4, 4) T_camera_object [m], None when there is none.
        """
        item = self.items[view.label]
        error = None if T_est is None else pose_error(T_est, view.T_camera_object, item)
        if error is None:
            return GradedPose(view.label, view.visible_fraction, None)
        lateral_px = float(np.linalg.norm(error.lateral)) * self.diameter_px(view)
        return GradedPose(view.label, view.visible_fraction, error, lateral_px)

    def diameter_px(self, view: KnownView) -> float:
        """Return how large an object is in the network's crop, which looks straight at it."""
        crop = crop_camera(view.camera, view.box_xyxy, self.spec)
        item = self.items[view.label]
        distance_m = float(np.linalg.norm(item.at_middle(view.T_camera_object)[:3, 3]))
        return crop.focal_px * item.model.diameter_m / distance_m

    def worth(self, answer: GradedPose, target: KnownView) -> Worth:
        """Score an answer's error at the pose of a target."""
        if answer.error is None:
            return MISSED
        item = self.items[target.label]
        T = carried(answer.error, target.T_camera_object, item)
        return worth(T, target.T_camera_object, item, target.camera.K, target.camera.width)


def graded_answers(views: Iterable[KnownView], estimator: Estimator,
                   judge: Judge) -> list[GradedPose]:
    """Ask an estimator about each view alone."""
    return [judge.answer(view, estimate_view(view, estimator)) for view in views]


def matching(answers: Sequence[GradedPose], targets: Sequence[KnownView]
             ) -> list[list[GradedPose]]:
    """Return for each target answers to the same object with a similar visible fraction.

    :raises KeyError: when an object of a target was not asked about.
    """
    rng = np.random.default_rng(SEED)
    by_label: dict[str, list[GradedPose]] = {}
    for answer in answers:
        by_label.setdefault(answer.label, []).append(answer)
    found = []
    for target in targets:
        own = by_label[target.label]
        apart = np.abs([a.visible_fraction - target.visible_fraction for a in own])
        order = np.lexsort((rng.random(len(own)), apart))[:DRAWN]
        found.append([own[i] for i in order])
    return found


def rung(answers: Sequence[Sequence[GradedPose]], targets: Sequence[KnownView],
         judge: Judge) -> dict[str, Any]:
    """Return the figures of one row: of all targets, of those that are well visible, by object.

    :param answers: for each target one or more, which count equally.
    """
    worths = [[judge.worth(answer, target) for answer in given]
              for given, target in zip(answers, targets, strict=True)]

    def part(chosen: Iterable[bool]) -> dict[str, Any]:
        rows = [i for i, wanted in enumerate(chosen) if wanted]
        return _figures([answers[i] for i in rows], [worths[i] for i in rows])

    return {'all': part([True] * len(targets)),
            'visible': part(t.visible_fraction > WELL_VISIBLE for t in targets),
            'objects': {label: part(t.label == label for t in targets)
                        for label in sorted({t.label for t in targets})}}


def _figures(answers: Sequence[Sequence[GradedPose]],
             worths: Sequence[Sequence[Worth]]) -> dict[str, Any]:
    """Return recalls and median errors; None where there is nothing to tell."""
    found = [a for given in answers for a in given if a.error is not None]
    errors = [a.error for a in found if a.error is not None]
    shares = [[np.mean([w.mssd_met for w in given]), np.mean([w.mspd_met for w in given]),
               np.mean([w.near for w in given])] for given in worths]
    mssd, mspd, near = np.mean(shares, axis=0) if shares else (None, None, None)
    return {
        'targets': len(worths),
        'ar_mssd': _number(mssd), 'ar_mspd': _number(mspd),
        'ar_mean': None if mssd is None else float(mssd + mspd) / 2, 'near': _number(near),
        'rotation_deg': median([e.rotation_deg for e in errors]),
        'depth_percent': median([e.depth_percent for e in errors]),
        'xy_px': median([a.lateral_px for a in found]),
        'missed': sum(a.error is None for given in answers for a in given),
    }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


_OF_ALL = (
    ('AR_MSSD', 'ar_mssd', 9, '.3f'), ('AR_MSPD', 'ar_mspd', 9, '.3f'),
    ('AR', 'ar_mean', 7, '.3f'), ('near', 'near', 7, '.1%'))
_OF_VISIBLE = (
    ('| AR', 'ar_mean', 8, '.3f'), ('near', 'near', 7, '.1%'),
    ('rot [deg]', 'rotation_deg', 11, '.2f'), ('depth [%]', 'depth_percent', 11, '.2f'),
    ('xy [px]', 'xy_px', 9, '.2f'))


def ladder_table(rows: Mapping[str, Mapping[str, Any]], title: str) -> str:
    """Return rows of :func:`rung` as a table, those of visible targets on the right.

    :param rows: by name.
    :param title: of the column of names.
    """
    width = max(map(len, [title, *rows]))
    heading = title.ljust(width) + heading_line(_OF_ALL) + heading_line(_OF_VISIBLE)
    lines = [heading, '-' * len(heading)]
    lines += [name.ljust(width) + figure_line(_OF_ALL, figures['all'])
              + figure_line(_OF_VISIBLE, figures['visible']) for name, figures in rows.items()]
    first = next(iter(rows.values()))
    return '\n'.join([*lines, (
        f'{first["all"]["targets"]} targets; right of the bar the '
        f'{first["visible"]["targets"]} that are visible by more than {WELL_VISIBLE:.0%}; errors '
        'are medians, xy in pixels of the crop; near: within 0.1 diameters and 15 degrees')])
