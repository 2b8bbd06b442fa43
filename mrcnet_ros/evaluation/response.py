"""The response test: the answers of a refining stage to known starts, and to the true pose.

A stage that aligns ends nearer to the truth if it starts nearer, and stays at the true pose. A
stage that estimates from scratch ends at the same distance from any start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..datasets.known_view import KnownView
from ..geometry.crop import crop_camera
from ..geometry.sampling import sample_crop
from ..geometry.se3 import Array, exp_so3
from ..inference.estimator import PoseEstimator
from ..inference.refinement import Refiner
from ..objects import ObjectModel
from .carried_errors import CarriedError, carried
from .exact_stage2 import ExactStage2
from .ladder import WELL_VISIBLE, GradedPose, Judge, matching, rung
from .text_table import figure_line, heading_line

# Errors of the starts, from less than the errors of the answers on photographs (7 to 8 degrees, 2
# px, 1.5 % of the distance) to several times as much.
TURNS_DEG = (5.0, 10.0, 15.0, 25.0)
SHIFT_PX = 3.0
LARGER = 1.1
SEED = 7  # any number; all models get the same starts
OWN = "the model's answer"


class Refines(Protocol):
    """A stage that refines a pose: stage 2, or one that comes after it."""

    def refine(self, view: KnownView, starts: Sequence[Array]) -> Sequence[Array]:
        """Return where each start ends, (4, 4) T_camera_object [m]."""


@dataclass(frozen=True, eq=False)
class Response:
    """The errors of one start and of its end."""

    start: GradedPose
    end: GradedPose


def known_errors(diameter_px: float, rng: np.random.Generator) -> dict[str, CarriedError]:
    """Return errors to start with by name, in random directions.

    :param diameter_px: of the object in the network's crop.
    """
    none = CarriedError(np.eye(3), np.zeros(2), 0.0)
    errors = {'true pose': none}
    for turn_deg in TURNS_DEG:
        axis = rng.standard_normal(3)
        R = exp_so3(np.radians(turn_deg) * axis / np.linalg.norm(axis))
        errors[f'{turn_deg:g} degrees off'] = CarriedError(R, none.lateral, 0.0)
    angle = rng.uniform(-np.pi, np.pi)
    shift = SHIFT_PX / diameter_px * np.array([np.cos(angle), np.sin(angle)])
    errors[f'{SHIFT_PX:g} px off'] = CarriedError(none.R, shift, 0.0)
    size = np.log(LARGER) * rng.choice([-1.0, 1.0])
    errors[f'{LARGER - 1:.0%} of size off'] = CarriedError(none.R, none.lateral, float(size))
    return errors


def respond(views: Iterable[KnownView], stage: Refines, judge: Judge,
            answer: Callable[[KnownView], Array | None]) -> dict[str, list[Response]]:
    """Start a stage at each of the known errors, and at the model's answer.

    :param answer: the pose that the model gives, None when it gives none.
    :return: by the name of the start, in the order of the views.
    """
    rng = np.random.default_rng(SEED)
    responses: dict[str, list[Response]] = {}
    for view in views:
        starts = {name: carried(error, view.T_camera_object, judge.items[view.label])
                  for name, error in known_errors(judge.diameter_px(view), rng).items()}
        names = [*starts, OWN]
        own = answer(view)
        if own is not None:
            starts[OWN] = own
        ends = dict(zip(starts, stage.refine(view, list(starts.values())), strict=True))
        for name in names:
            responses.setdefault(name, []).append(Response(
                judge.answer(view, starts.get(name)), judge.answer(view, ends.get(name))))
    return responses


def figures(responses: Mapping[str, Sequence[Response]], targets: Sequence[KnownView],
            judge: Judge, *, photographs: bool) -> dict[str, Any]:
    """Return recalls and errors of each start, where it was and where it ended.

    :param responses: of :func:`respond`.
    :param photographs: whether they are of the targets themselves, in their order; answers to
        other views are matched with the targets as in the ladder.
    """
    rows: dict[str, Any] = {}
    for name, own in responses.items():
        parts = {'start': [r.start for r in own], 'end': [r.end for r in own]}
        rows[name] = {
            part: rung([[a] for a in answers] if photographs else matching(answers, targets),
                       targets, judge)
            for part, answers in parts.items()}
    return rows


_COLUMNS = (
    ('AR', 'ar_mean', 9, '.3f'), ('rot [deg]', 'rotation_deg', 11, '.2f'),
    ('depth [%]', 'depth_percent', 11, '.2f'), ('xy [px]', 'xy_px', 9, '.2f'))


def response_table(rows: Mapping[str, Any], title: str) -> str:
    """Return the figures of well visible targets: the start on the left, the end on the right.

    :param rows: of :func:`figures`.
    :param title: of the column of names.
    """
    width = max(map(len, [title, *rows]))
    half = heading_line(_COLUMNS)
    lines = [' ' * width + ' start'.ljust(len(half), '.') + '  | end'.ljust(len(half) + 3, '.'),
             title.ljust(width) + half + '  |' + half]
    lines.append('-' * len(lines[1]))
    lines += [name.ljust(width) + '  |'.join(
        figure_line(_COLUMNS, row[part]['visible']) for part in ('start', 'end'))
        for name, row in rows.items()]
    count = next(iter(rows.values()))['end']['visible']['targets']
    return '\n'.join([*lines, f'{count} targets visible by more than {WELL_VISIBLE:.0%}; errors '
                              'are medians, xy in pixels of the crop'])


def _as_meshes(item: ObjectModel, poses: Sequence[Array]) -> Array:
    """Return poses of the centred frame of an object as large as its mesh, (N, 4, 4)."""
    T: Array = item.to_centred(np.stack(poses))
    T[:, :3, 3] /= item.size_ratio
    return T


def _as_real(item: ObjectModel, T: Array) -> list[Array]:
    """Undo :func:`_as_meshes`."""
    scaled = T.copy()
    scaled[:, :3, 3] *= item.size_ratio
    return list(item.from_centred(scaled))


class Stage2Alone(AbstractContextManager['Stage2Alone']):
    """Starts stage 2 with an exact render of the start in place of a cached template.

    :param estimator: with the model, and with the sizes that its objects have; stays open.
    :raises BackendError: when there is no headless OpenGL.
    :raises MeshError: when a mesh cannot be read.
    """

    def __init__(self, estimator: PoseEstimator) -> None:
        self._backend, self._spec = estimator.backend, estimator.spec
        self._objects = estimator.objects
        self._index = {label: i for i, label in enumerate(self._objects)}
        self._stage2 = ExactStage2(self._backend, self._spec.template, estimator.centred)

    def __exit__(self, *_: object) -> None:
        self._stage2.close()

    def refine(self, view: KnownView, starts: Sequence[Array]) -> list[Array]:
        """Return where each start ends, (4, 4) T_camera_object [m]."""
        index, count = self._index[view.label], len(starts)
        item = self._objects[view.label]
        crop = crop_camera(view.camera, view.box_xyxy, self._spec.crop)
        T = _as_meshes(item, starts)
        image = sample_crop(view.image, view.camera, crop)
        classes = np.full(count, index, np.int64)
        seen = self._backend.run('stage1', {
            'image': np.repeat(image[None], count, 0), 'class_index': classes})
        ends, _ = self._stage2.run(T, classes, [crop] * count, seen)
        return _as_real(item, ends)


class RefinerAlone:
    """Starts the refiner of a model.

    :param objects: by label in class order, with the sizes that they have.
    """

    def __init__(self, refiner: Refiner, objects: Mapping[str, ObjectModel]) -> None:
        self._refiner, self._objects = refiner, objects
        self._index = {label: i for i, label in enumerate(objects)}

    def refine(self, view: KnownView, starts: Sequence[Array]) -> list[Array]:
        """Return where each start ends, (4, 4) T_camera_object [m]."""
        item = self._objects[view.label]
        T = _as_meshes(item, starts)
        classes = np.full(len(T), self._index[view.label], np.int64)
        ends = self._refiner.measure(T, classes, view.image, view.camera)[0]
        return _as_real(item, ends)
