"""Parity with the published network: it passes, and anything wrong in a reference fails it.

The network runs once; what follows from its outputs is computed anew for every corruption.
"""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from mrcnet_ros.cli.main import main  # noqa: E402
from mrcnet_ros.errors import DatasetError, MrcnetError  # noqa: E402
from mrcnet_ros.export.parity import parity_rows  # noqa: E402
from mrcnet_ros.export.parity_network import SeededRun, network_rows  # noqa: E402
from mrcnet_ros.export.parity_parts import crop_rows, loss_rows  # noqa: E402
from mrcnet_ros.export.parity_rows import Reference, compare  # noqa: E402

REFERENCE = Path(__file__).parents[2] / 'shared' / 'reference'
needs_reference = pytest.mark.skipif(
    not (REFERENCE / 'network.npz').is_file(),
    reason='the published reference values (../shared/reference) are not here')
# what another salt and another range must change
CHANGED = {'network': ['mask_real', 'rotation_logits', 'stage1_t', 'R', 't'],
           'losses': ['loss_quat_clf', 'loss_depth_clf', 'loss_tz_reg', 'loss_mask_visib']}
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


@pytest.fixture(scope='module', autouse=True)
def forget():
    """Free the networks after this file."""
    yield
    RememberedRun.runs.clear()
    RememberedRun.answers.clear()


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


def fails(folder, file):
    """Tell whether any row fails, stopping at the first, or the file is refused."""
    try:
        return any(not row.passed for row in rows_of(folder, file))
    except MrcnetError:
        return True


@needs_reference
@pytest.mark.parametrize('file', ROWS)
def test_our_network_is_the_published_one(file):
    """Every array of the published implementation is reproduced within its tolerance."""
    rows = list(rows_of(REFERENCE, file))
    assert [str(row) for row in rows if not row.passed] == []
    compared = {row.name.split('/')[1].split()[0] for row in rows if '/' in row.name}
    assert compared == set(arrays_of(file))


# texts and classes last: they need a network of their own
@needs_reference
@pytest.mark.parametrize(('file', 'name'), sorted(
    ((file, name) for file in ROWS for name in arrays_of(file)),
    key=lambda pair: (pair[1] in ('obj', 'salt'), pair)))
def test_a_corrupted_array_is_noticed(tmp_path, file, name):
    """One changed number in any array, also of the inputs, makes the check fail."""
    arrays = arrays_of(file)
    arrays[name] = corrupt(arrays[name])
    if name == 'obj':
        arrays[name] = (arrays_of(file)[name] + [1, 0, 0, 0]) % 2
    write_copy(tmp_path, file, arrays)
    assert fails(tmp_path, file)


@needs_reference
@pytest.mark.parametrize('change', ['missing', 'extra', 'nan', 'shape'])
def test_arrays_must_be_all_there_finite_and_of_their_shape(tmp_path, change):
    """A file with an array too few or too many, with nan, or cut short does not pass."""
    arrays = arrays_of('crop')
    if change == 'missing':
        del arrays['crop_mean']
    elif change == 'extra':
        arrays['crop_median'] = np.zeros(3)
    elif change == 'nan':
        arrays['crop_mean'][0, 0] = np.nan
    else:
        arrays['crop_mean'] = arrays['crop_mean'][:3]
    write_copy(tmp_path, 'crop', arrays)
    assert fails(tmp_path, 'crop')


@needs_reference
def test_the_command_prints_every_difference_and_fails(tmp_path, capsys, monkeypatch):
    """The exit code is 1 when anything differs, and the line says what."""
    arrays = arrays_of('crop')
    arrays['Rz'] = arrays['Rz'] + 0.001
    write_copy(tmp_path, 'crop', arrays)
    monkeypatch.setattr('mrcnet_ros.export.parity.network_rows', lambda *_: iter(()))
    assert main(['parity', str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert 'FAIL crop/Rz' in printed and 'ok   crop/K_crop' in printed
    assert main(['parity', str(REFERENCE)]) == 0


def test_a_folder_without_reference_values_is_refused(tmp_path, capsys):
    """The message says which files are wanted."""
    assert main(['parity', str(tmp_path)]) == 2
    assert 'network.npz' in capsys.readouterr().err
    with pytest.raises(DatasetError, match='not a folder'):
        list(parity_rows(tmp_path / 'nowhere'))


@pytest.mark.parametrize(('reference', 'found', 'passed'), [
    ([1.0, 2.0], [1.0, 2.0001], True),
    ([1.0, 2.0], [1.0, 2.001], False),
    ([1.0, np.nan], [1.0, np.nan], False),
    ([1.0, 2.0], [1.0, np.nan], False),
    ([1.0, 2.0], [1.0], False),
    ([0.0, 0.0], [0.0, 1e-3], False),
])
def test_a_comparison_measures_against_the_largest_number(reference, found, passed):
    """Differences are relative to the reference's magnitude; nan never passes."""
    assert compare('x', reference, found, 1e-4).passed is passed


@needs_reference
def test_other_salts_object_counts_and_ranges_are_regenerated(tmp_path, monkeypatch):
    """Everything follows from what the files say: nothing is known by heart."""
    recorded = {}
    row = Reference.row

    def record(self, key, found, *more):
        recorded.setdefault(self.name, {})[key] = np.asarray(found)
        return row(self, key, found, *more)

    for file, changes in (
            ('network', {'salt': np.array('another'), 'n_dec': np.array(5), 'near': np.array(0.01),
                         'far': np.array(2.15), 'obj': np.array([4, 2, 0, 3])}),
            ('losses', {'salt': np.array('another'), 'loss_near_far': np.array([0.01, 2.15])})):
        arrays = {**arrays_of(file), **changes}
        folder = tmp_path / file
        folder.mkdir()
        np.savez(folder / f'{file}.npz', **arrays)
        with monkeypatch.context() as patch:
            patch.setattr(Reference, 'row', record)
            before = {r.name for r in rows_of(folder, file) if not r.passed}
        assert {f'{file}/{name}' for name in CHANGED[file]} <= before
        made = {k: np.asarray(recorded[file][k], v.dtype) for k, v in arrays.items()}
        np.savez(folder / f'{file}.npz', **made)
        assert [str(r) for r in rows_of(folder, file) if not r.passed] == []
