"""Pose estimates as BOP'19 CSV files.

Convention: in the file R is row-wise and t in millimetres, in memory everything is in metres.
Source: BOP Challenge 2019, format of results.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from ..errors import DatasetError
from ..geometry.se3 import Array, make_transform
from .bop_scene import MM

COLUMNS = ('scene_id', 'im_id', 'obj_id', 'score', 'R', 't', 'time')


@dataclass(frozen=True)
class ResultRow:
    """One pose estimate.

    :param T_camera_object: (4, 4) float64 [m].
    :param time_s: time spent on the whole image, the same in all rows of an image; -1 unknown.
    """

    scene_id: int
    image_id: int
    object_id: int
    score: float
    T_camera_object: Array
    time_s: float = -1.0


class ResultsWriter:
    """A CSV file that holds everything written so far, whatever happens next.

    :param path: file to create; an existing one is replaced.
    :raises DatasetError: when it cannot be written.
    """

    def __init__(self, path: Path | str) -> None:
        """Create the file and its parents and write the header."""
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open('w', encoding='utf-8', newline='')
        except OSError as error:
            raise DatasetError(f'{self.path}: cannot be written ({error.strerror})') from error
        self._file.write(','.join(COLUMNS) + '\n')

    def write(self, rows: Iterable[ResultRow]) -> None:
        """Append rows and hand them to the operating system."""
        self._file.writelines(_format(row) + '\n' for row in rows)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> ResultsWriter:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file, also after an error."""
        self.close()


def write_results_csv(path: Path | str, rows: Iterable[ResultRow]) -> None:
    """Write all rows to a new file."""
    with ResultsWriter(path) as writer:
        writer.write(rows)


def read_results_csv(path: Path | str) -> list[ResultRow]:
    """Read a file of pose estimates.

    :raises DatasetError: when the file is missing, or a line cannot be understood, or the rows
        of one image state different times.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f'{path}: no such file of results; give the CSV that was written')
    rows: list[ResultRow] = []
    times: dict[tuple[int, int], float] = {}
    with path.open(encoding='utf-8', newline='') as file:
        for line, fields in enumerate(csv.reader(file), start=1):
            if not fields or fields[0] == COLUMNS[0]:
                continue
            row = _parse(fields, f'{path}, line {line}')
            if abs(times.setdefault((row.scene_id, row.image_id), row.time_s) - row.time_s) > 1e-3:
                raise DatasetError(
                    f'{path}, line {line}: image {row.image_id} of scene {row.scene_id} has rows '
                    f'with different times; BOP asks for one time an image'
                )
            rows.append(row)
    return rows


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
        R = np.array(fields[4].split(), dtype=np.float64).reshape(3, 3)
        t = np.array(fields[5].split(), dtype=np.float64).reshape(3)
        row = ResultRow(int(fields[0]), int(fields[1]), int(fields[2]), float(fields[3]),
                        make_transform(R, t * MM), float(fields[6]))
    except ValueError as error:
        raise DatasetError(f'{where}: {error}; expected {",".join(COLUMNS)}') from error
    if not np.isfinite(row.T_camera_object).all():
        raise DatasetError(f'{where}: the pose is not finite; drop the row')
    return row
