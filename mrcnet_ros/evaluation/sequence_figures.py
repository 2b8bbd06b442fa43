"""Errors of poses in a sequence, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..geometry.se3 import Array, rotation_angle
from ..inference.poses import FrameResult
from ..objects import ObjectModel
from .text_table import figure_line, heading_line
from .withdrawals import withdrawals_line

# A pose farther from its object than this part of the diameter is of no use to anybody.
WRONG_PERCENT = 50.0


class SequenceError(NamedTuple):
    """How far a pose is from the truth, of equivalent ones the nearest rotation.

    :param depth_percent: of the distance.
    :param position_percent: of the diameter.
    """

    rotation_deg: float
    depth_percent: float
    position_percent: float

    @property
    def wrong(self) -> bool:
        """Whether the pose is not at the object."""
        return self.position_percent > WRONG_PERCENT


def sequence_error(T_est: Array, T_gt: Array, model: ObjectModel) -> SequenceError:
    """Compare an estimated T_camera_object with the true one, at the middle of the object.

    :param T_est: (4, 4) [m].
    :param T_gt: (4, 4) [m].
    """
    T_est, T_gt = model.to_centred(T_est), model.to_centred(T_gt)
    symmetries = model.centred().real_symmetries
    T_gt = symmetries.comparable(T_gt, T_est)
    T = symmetries.nearest(T_gt[:3, :3], T_gt[:3, 3], T_est[:3, :3])
    ratio = np.linalg.norm(T_est[:3, 3]) / np.linalg.norm(T[:3, 3])
    offset_m = float(np.linalg.norm(T_est[:3, 3] - T[:3, 3]))
    return SequenceError(float(np.degrees(rotation_angle(T[:3, :3].T @ T_est[:3, :3]))),
                         100.0 * float(abs(ratio - 1.0)), 100.0 * offset_m / model.diameter_m)


@dataclass(eq=False)
class SequenceRow:
    """What one way to get poses has given.

    :param answered: poses that the network was asked for, also those that did not count.
    """

    poses: int = 0
    wrong: int = 0
    covered: int = 0
    answered: int = 0
    cpu_s: float = 0.0
    compared: list[SequenceError] = field(default_factory=list)

    def add(self, result: FrameResult, found: Mapping[int, SequenceError], visible: set[int],
            cpu_s: float) -> None:
        """Count the poses of an image.

        :param found: errors by instance.
        """
        self.poses += len(found)
        self.wrong += sum(e.wrong for e in found.values())
        self.covered += len(visible & set(found))
        self.answered += len(result.poses)
        self.cpu_s += cpu_s

    def figures(self, images: int, visible: int) -> dict[str, Any]:
        """Return what the table shows; None where there is nothing to tell."""
        values: dict[str, Any] = {
            'poses': self.poses, 'poses_per_image': self.poses / images if images else None,
            'covered': self.covered / visible if visible else None}
        columns = np.array(self.compared).reshape(-1, len(SequenceError._fields)).T
        for name, column in zip(SequenceError._fields, columns, strict=True):
            known = len(column) > 0
            values[f'{name}_median'] = float(np.median(column)) if known else None
            values[f'{name}_p90'] = float(np.quantile(column, 0.9)) if known else None
        cpu_ms = 1e3 * self.cpu_s / self.answered if self.answered else None
        return {**values, 'wrong': self.wrong, 'cpu_ms_per_object': cpu_ms}


_COLUMNS = (
    ('poses/image', 'poses_per_image', 13, '.2f'), ('covered', 'covered', 9, '.1%'),
    ('rot [deg]', 'rotation_deg_median', 11, '.2f'), ('p90', 'rotation_deg_p90', 7, '.1f'),
    ('depth [%]', 'depth_percent_median', 11, '.2f'), ('p90', 'depth_percent_p90', 7, '.2f'),
    ('pos [%]', 'position_percent_median', 9, '.2f'), ('p90', 'position_percent_p90', 7, '.1f'),
    ('wrong', 'wrong', 7, 'd'), ('CPU [ms]', 'cpu_ms_per_object', 10, '.1f'),
)


def sequence_table(figures: Mapping[str, Any]) -> str:
    """Return the table of :meth:`SequenceScores.figures`, with what it means below."""
    width = max(map(len, figures['rows']))
    heading = ' ' * width + heading_line(_COLUMNS)
    lines = [heading, '-' * len(heading)]
    lines += [name.ljust(width) + figure_line(_COLUMNS, row)
              for name, row in figures['rows'].items()]
    losses = ', '.join(f'{reason} {n["right"] + n["needless"]} ({n["needless"]} needless)'
                       for reason, n in figures['losses'].items())
    return '\n'.join([
        *lines,
        f'{figures["images"]} images between those with detections (every {figures["every"]}); '
        f'errors: median and p90 of the {figures["compared"]} poses that both have;',
        'pos: of the diameter; wrong: farther than half a diameter from the object; CPU: of an '
        'object',
        f'lost: {losses or "none"}; needless: the object was visible and its last pose not wrong',
        f'id switches: {figures["id_switches"]}; poses of hidden objects: '
        f'{figures["poses_of_hidden"]}',
        withdrawals_line(figures['withdrawals'])])
