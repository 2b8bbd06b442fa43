"""Pose estimates as BOP'19 CSV files.

Convention: in the file R is row-wise and t in millimetres, in memory everything is in metres.
Source: BOP Challenge 2019, format of results.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from ..errors import DatasetError, SpecError
from ..geometry.camera import FARTHEST_M
from ..geometry.se3 import POSE_TOLERANCE, Array, checked_rotation, make_transform
from ..reading.fields import numbers_of, whole_text
from ..store.atomic import writing
from .bop_scene import MM

# Range of distances of objects from the camera: outside, the unit is wrong.
DISTANCES_M = (0.01, FARTHEST_M)
COLUMNS = ('scene_id', 'im_id', 'obj_id', 'score', 'R', 't', 'time')


@dataclass(frozen=True)
class ResultRow:
    """One pose estimate.

    :param T_camera_object: (4, 4) float64 [m].
    :param time_s: time spent on the whole image, the same in all rows of an image; -1 unknown.
    :param residual_m: how far the surface is from measured depth, in no file; None where depth did
        not correct the pose.
    """

    scene_id: int
    image_id: int
    object_id: int
    score: float
    T_camera_object: Array
    time_s: float = -1.0
    residual_m: float | None = None


class ResultsWriter(AbstractContextManager['ResultsWriter']):
    """A CSV file that is complete after each :meth:`write`.

    :param path: file to create; the first :meth:`write` replaces an existing one.
    """

    _file: TextIO | None = None

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def write(self, rows: Iterable[ResultRow]) -> None:
        """Append rows and hand them to the operating system.

        :raises DatasetError: when the file cannot be created.
        """
        if self._file is None:
            with writing(self.path):
                self._file = self.path.open('w', encoding='utf-8', newline='')
            self._file.write(','.join(COLUMNS) + '\n')
        self._file.writelines(_format(row) + '\n' for row in rows)
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def write_results_csv(path: Path | str, rows: Iterable[ResultRow]) -> None:
    """Write all rows to a new file."""
    with ResultsWriter(path) as writer:
        writer.write(rows)


def read_results_csv(path: Path | str) -> list[ResultRow]:
    """Read a file of pose estimates.

    :raises DatasetError: when the file is missing, or a line cannot be understood, or the rows
        of one image state different times, or translations cannot be in millimetres or are mostly
        behind the camera.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f'{path}: no such file of results; give the CSV that was written')
    rows: list[ResultRow] = []
    times: dict[tuple[int, int], float] = {}
    for line, fields in _lines(path):
        row = _parse(fields, f'{path}, line {line}')
        if abs(times.setdefault((row.scene_id, row.image_id), row.time_s) - row.time_s) > 1e-3:
            raise DatasetError(
                f'{path}, line {line}: image {row.image_id} of scene {row.scene_id} has rows '
                f'with different times; BOP asks for one time an image'
            )
        rows.append(row)
    _check_translations(path, rows)
    return rows


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return the lines of a file of results with their numbers, less the header.

    :raises DatasetError: when it is no CSV of UTF-8, or its header names other columns.
    """
    try:
        with path.open(encoding='utf-8-sig', newline='') as file:
            lines = [(n, fields) for n, fields in enumerate(csv.reader(file), start=1) if fields]
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError(f'{path}: cannot be read as CSV: {error}') from error
    if lines and lines[0][1][0].strip() == COLUMNS[0]:
        header = tuple(name.strip() for name in lines.pop(0)[1])
        if header != COLUMNS:
            raise DatasetError(f'{path}: the columns are {",".join(header)}, expected '
                               f'{",".join(COLUMNS)}')
    return lines


def _check_translations(path: Path, rows: Sequence[ResultRow]) -> None:
    """Refuse translations of another unit or convention."""
    t = np.array([row.T_camera_object[:3, 3] for row in rows]).reshape(-1, 3)
    if 2 * (behind := int((t[:, 2] < 0).sum())) > len(t):
        raise DatasetError(
            f'{path}: {behind} of {len(t)} objects are behind the camera by their translations; '
            'z must point forward, not back as in OpenGL, and poses must be those of the model '
            'in the frame of the camera')
    distances = np.linalg.norm(t, axis=1)
    median = float(np.median(distances)) if len(distances) else 1.0
    if not DISTANCES_M[0] <= median <= DISTANCES_M[1]:
        raise DatasetError(
            f'{path}: by their translations objects are {median:.3g} m away (median), expected '
            '{:g} to {:g} m; t must be in millimetres'.format(*DISTANCES_M))


def _format(row: ResultRow) -> str:
    R, t = row.T_camera_object[:3, :3], row.T_camera_object[:3, 3] / MM
    return ','.join([
        str(row.scene_id), str(row.image_id), str(row.object_id), repr(float(row.score)),
        ' '.join(repr(float(v)) for v in R.ravel()), ' '.join(repr(float(v)) for v in t),
        repr(float(row.time_s)),
    ])


def _parse(fields: list[str], where: str) -> ResultRow:
    if len(fields) != len(COLUMNS):
        raise DatasetError(
            f'{where}: {len(fields)} columns, expected {len(COLUMNS)}: {",".join(COLUMNS)}'
        )
    try:
        R = numbers_of(fields[4].split()).reshape(3, 3)
        t = numbers_of(fields[5].split()).reshape(3)
        ids = [whole_text(text.strip(), name)
               for text, name in zip(fields, COLUMNS[:3], strict=False)]
        score, time_s = numbers_of([fields[3].strip(), fields[6].strip()]).tolist()
        row = ResultRow(ids[0], ids[1], ids[2], score, make_transform(R, t * MM), time_s)
    except ValueError as error:
        raise DatasetError(f'{where}: {error}; expected {",".join(COLUMNS)}') from error
    if not np.isfinite(row.T_camera_object).all():
        raise DatasetError(f'{where}: the pose is not finite; drop the row')
    if not np.isfinite([row.score, row.time_s]).all():
        raise DatasetError(f'{where}: score {fields[3]} or time {fields[6]} is not finite')
    try:  # scores are computed with the matrix as it is, as others compute them
        checked_rotation(R, POSE_TOLERANCE, 'R')
    except SpecError as error:
        raise DatasetError(f'{where}: {error}; R is 9 numbers, row by row') from error
    return row
