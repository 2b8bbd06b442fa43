"""Parity with the published network: it passes, and anything wrong in a reference fails it.

The network runs once; what follows from its outputs is computed anew for every corruption.
"""

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from paper_reference import (  # noqa: E402
    REFERENCE,
    ROWS,
    arrays_of,
    corrupt,
    needs_reference,
    rows_of,
    write_copy,
)

from mrcnet_ros.cli.main import main  # noqa: E402
from mrcnet_ros.errors import DatasetError, MrcnetError  # noqa: E402
from mrcnet_ros.presets.paper.parity.network import parity_rows  # noqa: E402
from mrcnet_ros.presets.paper.parity.parts import crop_rows, loss_rows  # noqa: E402
from mrcnet_ros.presets.paper.parity.rows import compare_array  # noqa: E402

pytestmark = pytest.mark.usefixtures('forget_networks')


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
@pytest.mark.parametrize(('file', 'name'), sorted(
    (file, name) for file in ROWS for name in arrays_of(file)))
def test_nan_in_any_array_is_noticed(tmp_path, file, name):
    """Not a number is never right, also where whole numbers belong; texts become numbers."""
    arrays = arrays_of(file)
    text = arrays[name].dtype.kind == 'U'
    arrays[name] = np.array(np.nan) if text else arrays[name].astype(np.float64)
    arrays[name].reshape(-1)[-1] = np.nan
    write_copy(tmp_path, file, arrays)
    assert fails(tmp_path, file)


@needs_reference
@pytest.mark.parametrize(('file', 'name'), [
    *((file, name) for file in ('crop', 'network') for name in arrays_of(file)),
    ('losses', 'salt'), ('losses', 'soft_none'), ('losses', 'loss_mask_visib')])
def test_an_array_that_is_missing_is_named(tmp_path, file, name):
    """Whatever a reference lacks, the message says what, and what there is too much of."""
    arrays = arrays_of(file)
    del arrays[name]
    write_copy(tmp_path, file, arrays)
    with pytest.raises(DatasetError, match=f"{file}.npz lacks the array '{name}'"):
        list(rows_of(tmp_path, file))


@needs_reference
@pytest.mark.parametrize(('file', 'name'), [
    ('crop', 'crop_mean'), ('crop', 'roi_rect'), ('losses', 'soft_none'), ('losses', 'vertices'),
    ('network', 'rotation_logits'), ('network', 'xy_residual'), ('network', 'roi')])
def test_an_array_cut_short_is_noticed(tmp_path, file, name):
    """Shapes are compared, not broadcast."""
    arrays = arrays_of(file)
    arrays[name] = arrays[name][..., :-1]
    write_copy(tmp_path, file, arrays)
    assert fails(tmp_path, file)


@needs_reference
def test_an_array_nobody_knows_is_noticed(tmp_path):
    """What is not compared must not look as if it were."""
    write_copy(tmp_path, 'crop', {**arrays_of('crop'), 'crop_median': np.zeros(3)})
    assert [r.name for r in crop_rows(tmp_path) if not r.passed] == ['crop/crop_median']


@needs_reference
@pytest.mark.parametrize('name', ['soft_none', 'soft_twofold', 'soft_continuous'])
def test_a_label_that_is_nearly_zero_is_compared_too(tmp_path, name):
    """A tenth more of the smallest label is a wrong displacement, if no wrong label."""
    arrays = arrays_of('losses')
    label = arrays[name].copy()
    label.reshape(-1)[label.argmin()] *= 1.1
    write_copy(tmp_path, 'losses', {**arrays, name: label})
    wrong = [r.name for r in loss_rows(tmp_path) if not r.passed]
    assert wrong == [f'losses/{name} displacement']


@needs_reference
def test_the_command_prints_every_difference_and_fails(tmp_path, capsys, monkeypatch):
    """The exit code is 1 when anything differs, and the line says what."""
    arrays = arrays_of('crop')
    arrays['Rz'] = arrays['Rz'] + 0.001
    write_copy(tmp_path, 'crop', arrays)
    monkeypatch.setattr('mrcnet_ros.presets.paper.parity.network.network_rows',
                        lambda *_: iter(()))
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
    assert compare_array('x', reference, found, 1e-4).passed is passed
