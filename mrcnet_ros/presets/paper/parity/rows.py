"""One compared array: how far it is from its reference, and how far it may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ....errors import DatasetError

HALF = 1e-3  # nearer to a half, float32 may round a pixel's coordinate either way


@dataclass(frozen=True)
class ParityRow:
    """The comparison of one array.

    :param absolute: largest absolute difference; nan or inf when it cannot be computed.
    :param relative: the same over the reference's largest magnitude.
    :param tolerance: largest allowed ``relative``.
    :param note: a remark.
    """

    name: str
    absolute: float
    relative: float
    tolerance: float
    note: str = ''

    @property
    def passed(self) -> bool:
        """Tell whether the difference is within the tolerance; nan never is."""
        return bool(self.relative <= self.tolerance)

    def __str__(self) -> str:
        """Return the printed line."""
        verdict = 'ok  ' if self.passed else 'FAIL'
        return (f'{verdict} {self.name:34s} abs {self.absolute:9.3g}  rel {self.relative:9.3g}  '
                f'tolerance {self.tolerance:7.1g}  {self.note}').rstrip()


def compare_array(name: str, reference: ArrayLike, found: ArrayLike, tolerance: float,
                  note: str = '') -> ParityRow:
    """Compare an array with its reference.

    Shapes must be equal, and both must be finite; text must be the same.
    """
    expected, ours = np.asarray(reference), np.asarray(found)
    if expected.shape != ours.shape:
        return failed(name, f'shape {expected.shape}, expected {ours.shape}')
    if expected.dtype.kind in 'US' or ours.dtype.kind in 'US':
        same = expected.dtype.kind == ours.dtype.kind and bool((expected == ours).all())
        return ParityRow(name, 0.0, 0.0, 0.0, note) if same else failed(name, 'another text')
    if expected.dtype.kind not in 'biuf':
        return failed(name, f'values of type {expected.dtype} cannot be compared')
    a, b = expected.astype(np.float64), ours.astype(np.float64)
    if not np.isfinite(a).all():
        return failed(name, 'the reference is not finite')
    absolute = float(np.abs(a - b).max(initial=0.0))
    magnitude = float(np.abs(a).max(initial=0.0))
    relative = absolute / magnitude if magnitude > 0 else absolute
    return ParityRow(name, absolute, relative, tolerance, note)


def rounded_like(values: NDArray[np.float64], reference: ArrayLike) -> NDArray[np.float64]:
    """Round numbers; where float32 may round a half either way, do as the reference did.

    :param values: before rounding.
    :param reference: whole numbers of the same shape; of another shape they decide nothing.
    """
    expected, ours = np.asarray(reference), np.rint(values)
    if expected.shape != ours.shape:
        return ours
    other = np.floor(values) + np.ceil(values) - ours
    tied = np.abs(np.abs(values - ours) - 0.5) < HALF
    return np.where(tied & (other == expected), other, ours)


def failed(name: str, note: str) -> ParityRow:
    """Return a row that fails for another reason than a difference."""
    return ParityRow(name, float('inf'), float('inf'), 0.0, note)


class Reference:
    """A file of reference arrays that notices which of them were compared.

    :param path: an ``.npz`` file.
    :raises DatasetError: when it is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._compared: set[str] = set()
        try:
            with np.load(path, allow_pickle=False) as file:
                self._arrays: dict[str, NDArray[Any]] = {k: file[k] for k in file.files}
        except FileNotFoundError as error:
            raise DatasetError(f'{path} is missing; give a folder with network.npz, crop.npz and '
                               'losses.npz') from error
        except Exception as error:
            raise DatasetError(f'{path} is not a readable file of arrays: {error}') from error

    def __getitem__(self, key: str) -> NDArray[Any]:
        """Return an array.

        :raises DatasetError: when there is none of this name.
        """
        if key not in self._arrays:
            raise DatasetError(f'{self.name}.npz lacks the array {key!r}')
        return self._arrays[key]

    def floats(self, key: str, *shape: int) -> NDArray[np.float64]:
        """Return a finite array of a known shape, -1 for any length.

        :raises DatasetError: when it has another shape or values that are no numbers.
        """
        array = self._single(key) if not shape else self[key]
        fits = array.ndim == len(shape) and all(
            want in (-1, have) for have, want in zip(array.shape, shape, strict=True))
        if not fits or array.dtype.kind not in 'iuf' or not np.isfinite(array).all():
            raise DatasetError(f'{self.name}.npz: {key} must be finite numbers of shape {shape}, '
                               f'got {array.dtype} {array.shape}')
        return np.asarray(array, dtype=np.float64)

    def numbers(self, key: str, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
        """Return an array of a known shape, None when it has another or holds no numbers."""
        array = self[key]
        fits = array.shape == shape and array.dtype.kind in 'iuf'
        return array.astype(np.float64) if fits else None

    def integer(self, key: str) -> int:
        """Return a whole number.

        :raises DatasetError: when it is something else.
        """
        number = float(self.floats(key))
        if number != round(number):
            raise DatasetError(f'{self.name}.npz: {key} must be a whole number, got {number}')
        return int(number)

    def text(self, key: str) -> str:
        """Return a text.

        :raises DatasetError: when it is something else.
        """
        array = self._single(key)
        if array.shape != () or array.dtype.kind != 'U':
            raise DatasetError(f'{self.name}.npz: {key} must be a text')
        return str(array)

    def _single(self, key: str) -> NDArray[Any]:
        """Return an array, without its axes when it holds a single value."""
        array = self[key]
        return array.reshape(()) if array.size == 1 else array

    def row(self, key: str, found: ArrayLike, tolerance: float, note: str = '') -> ParityRow:
        """Compare an array of the file, which then counts as compared."""
        self._compared.add(key)
        expected = self[key] if np.ndim(found) else self._single(key)
        return compare_array(f'{self.name}/{key}', expected, found, tolerance, note)

    def rest(self) -> list[ParityRow]:
        """Return failing rows for the arrays that were not compared."""
        return [failed(f'{self.name}/{key}', 'an array this check does not know')
                for key in self._arrays if key not in self._compared]
