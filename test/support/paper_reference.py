"""The published reference values, and copies of them in which something is changed."""

from pathlib import Path

import numpy as np
import pytest

from mrcnet_ros.presets.paper.parity.network import SeededRun, network_rows
from mrcnet_ros.presets.paper.parity.parts import crop_rows, loss_rows
from mrcnet_ros.presets.paper.parity.rows import Reference

REFERENCE = Path(__file__).parents[3] / 'shared' / 'reference'
needs_reference = pytest.mark.skipif(
    not (REFERENCE / 'network.npz').is_file(),
    reason='the published reference values (../shared/reference) are not here')
ROWS = {'network': network_rows, 'crop': crop_rows, 'losses': loss_rows}


class RememberedRun:
    """A seeded run that computes equal questions once."""

    runs, answers = {}, {}

    def __init__(self, case, spec):
        """Make the network only for a case not seen before."""
        self.case = case
        if case not in self.runs:
            if len(self.runs) > 1:  # the first is wanted again, others are large
                self.runs.popitem()
            self.runs[case] = SeededRun(case, spec)

    def _remember(self, name, *arguments):
        key = (self.case, name, *(np.asarray(a).tobytes() for a in arguments))
        if key not in self.answers:
            self.answers[key] = getattr(self.runs[self.case], name)(*arguments)
        return self.answers[key]

    def stage1(self, view):
        """See :meth:`SeededRun.stage1`."""
        return self._remember('stage1', view)

    def stage2(self, view, rectangles):
        """See :meth:`SeededRun.stage2`."""
        return self._remember('stage2', view, rectangles)


def rows_of(folder, file):
    """Return an iterator over the rows of one file of a folder."""
    if file == 'network':
        return network_rows(folder, RememberedRun)
    return ROWS[file](folder)


def arrays_of(file):
    """Return the arrays of a reference file, none where there is no reference."""
    path = REFERENCE / f'{file}.npz'
    return dict(np.load(path)) if path.is_file() else {}


def corrupt(array):
    """Change one number of an array by a hundredth of its largest, or one letter of a text."""
    array = array.copy()
    if array.dtype.kind == 'U':
        return np.array(str(array) + 'x')
    amount = 0.01 * max(float(np.abs(array).max()), 1e-3)
    flat = array.reshape(-1)
    flat[flat.size // 3] += amount if array.dtype.kind == 'f' else max(1, int(amount))
    return array


def write_copy(folder, file, arrays):
    """Write a file with other arrays, and links to what else a reference folder holds."""
    np.savez(folder / f'{file}.npz', **arrays)
    for path in REFERENCE.iterdir():
        if path.name != f'{file}.npz':
            (folder / path.name).symlink_to(path)


def settled(folder, file, arrays, monkeypatch):
    """Write a reference with given inputs and our numbers, and return its arrays.

    Later arrays follow from earlier ones of the file, so it takes a few rounds.
    """
    folder.mkdir(exist_ok=True)
    row, recorded = Reference.row, {}

    def record(self, key, found, tolerance, note=''):
        if note != 'input' and key != 'fov':  # of which the logits tell
            recorded[key] = np.asarray(found)
        return row(self, key, found, tolerance, note)

    for _ in range(3):
        np.savez(folder / f'{file}.npz', **arrays)
        with monkeypatch.context() as patch:
            patch.setattr(Reference, 'row', record)
            list(rows_of(folder, file))
        arrays = {k: np.asarray(recorded.get(k, v), v.dtype) for k, v in arrays.items()}
    np.savez(folder / f'{file}.npz', **arrays)
    return arrays
