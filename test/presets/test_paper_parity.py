"""Parity with the published network: it passes, and anything wrong in a reference fails it.

The network runs once; what follows from its outputs is computed anew for every corruption.
"""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from mrcnet_ros.cli.main import main  # noqa: E402
from mrcnet_ros.errors import DatasetError, MrcnetError  # noqa: E402
from mrcnet_ros.presets.paper.parity.network import (  # noqa: E402
    SeededRun,
    network_rows,
    parity_rows,
)
from mrcnet_ros.presets.paper.parity.parts import crop_rows, loss_rows  # noqa: E402
from mrcnet_ros.presets.paper.parity.rows import Reference, compare_array, rounded_like  # noqa: E402

REFERENCE = Path(__file__).parents[3] / 'shared' / 'reference'
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


@needs_reference
@pytest.mark.parametrize(('file', 'changes'), [
    ('network', {'salt': 'another', 'n_dec': 5, 'near': 0.01, 'far': 2.15, 'obj': [4, 2, 0, 3]}),
    ('losses', {'salt': 'another', 'loss_near_far': [0.01, 2.15]})])
def test_other_salts_object_counts_and_ranges_are_regenerated(tmp_path, monkeypatch, file,
                                                              changes):
    """Everything follows from what the files say: nothing is known by heart."""
    arrays = {**arrays_of(file), **{k: np.array(v) for k, v in changes.items()}}
    np.savez(tmp_path / f'{file}.npz', **arrays)
    before = {r.name for r in rows_of(tmp_path, file) if not r.passed}
    assert {f'{file}/{name}' for name in CHANGED[file]} <= before
    settled(tmp_path, file, arrays, monkeypatch)
    assert [str(r) for r in rows_of(tmp_path, file) if not r.passed] == []


def of_images(count):
    """Return network.npz with inputs for another number of images; numbers are to follow."""
    arrays = arrays_of('network')
    images = len(arrays['obj'])
    return {name: np.resize(a, (count, *a.shape[1:])) if a.shape[:1] == (images,) else a
            for name, a in arrays.items()}


@needs_reference
@pytest.mark.parametrize('count', [1, 3])
def test_a_group_of_any_number_of_images_is_compared(tmp_path, monkeypatch, count):
    """All images of a reference share their batch statistics, and each is checked."""
    made = settled(tmp_path, 'network', of_images(count), monkeypatch)
    assert len(made['rotation_logits']) == len(made['R']) == count
    assert [str(r) for r in rows_of(tmp_path, 'network') if not r.passed] == []
    # the first image is the same in any company, its statistics are not
    own, of_four = made['mask_real'][0], arrays_of('network')['mask_real'][0]
    assert np.abs(own - of_four).max() > 0.01 * np.abs(of_four).max()
    changed = {**made, 'rotation_residual': corrupt(made['rotation_residual'])}
    np.savez(tmp_path / 'network.npz', **changed)
    assert 'network/rotation_residual' in {
        r.name for r in rows_of(tmp_path, 'network') if not r.passed}


@needs_reference
@pytest.mark.parametrize(('file', 'name', 'shape'), [
    ('network', 'obj', (0,)), ('crop', 'Rz', (0, 3, 3)), ('losses', 'quaternions_wxyz', (0, 4))])
def test_a_reference_of_nothing_is_refused(tmp_path, file, name, shape):
    """What holds no image cannot pass."""
    write_copy(tmp_path, file, {**arrays_of(file), name: np.zeros(shape)})
    with pytest.raises(DatasetError, match=f'{name} holds no .*expected at least one'):
        list(rows_of(tmp_path, file))


@needs_reference
@pytest.mark.parametrize(('count', 'angles_deg'), [
    (1, [0]), (2, [0, 180]), (2, [0, 90]), (3, [0, 120, 240]), (3, [0, 90, 180]),
    (6, [0, 60, 120, 180, 240, 300])])
def test_any_number_of_in_plane_rotations_is_compared(tmp_path, monkeypatch, count, angles_deg):
    """Parts of a full turn, or the first quarter turns."""
    arrays = arrays_of('crop')
    rows = {n: np.resize(a, (count, *a.shape[1:])) for n, a in arrays.items() if len(a.shape) > 1
            and len(a) == 4}
    c, s = np.cos(np.radians(angles_deg)), np.sin(np.radians(angles_deg))
    zero, one = np.zeros(count), np.ones(count)
    rows['Rz'] = np.array([[c, -s, zero], [s, c, zero], [zero, zero, one]]).transpose(2, 0, 1)
    made = settled(tmp_path, 'crop', {**arrays, **rows}, monkeypatch)
    np.testing.assert_allclose(made['Rz'], rows['Rz'], atol=1e-7)
    assert len(made['crop_mean']) == count
    assert [str(r) for r in rows_of(tmp_path, 'crop') if not r.passed] == []
    made['crop_mean'][-1, 0] += 0.01
    np.savez(tmp_path / 'crop.npz', **made)
    assert [r.name for r in rows_of(tmp_path, 'crop') if not r.passed] == ['crop/crop_mean']


@needs_reference
@pytest.mark.parametrize(('samples', 'vertices'), [(1, 400), (2, 1000), (5, 50)])
def test_losses_of_any_number_of_samples_are_compared(tmp_path, monkeypatch, samples, vertices):
    """Batches of losses and meshes of any size."""
    arrays = arrays_of('losses')
    count = len(arrays['quaternions_wxyz'])
    arrays = {n: np.resize(a, (samples, *a.shape[1:])) if a.shape[:1] == (count,) else a
              for n, a in arrays.items()}
    arrays['vertices'] = np.random.default_rng(0).normal(
        0, 80, (vertices, 3)).astype(np.float32)
    made = settled(tmp_path, 'losses', arrays, monkeypatch)
    assert len(made['soft_none']) == samples
    assert [str(r) for r in rows_of(tmp_path, 'losses') if not r.passed] == []
    made['loss_tz_reg'] = made['loss_tz_reg'] * 1.01
    np.savez(tmp_path / 'losses.npz', **made)
    assert [r.name for r in rows_of(tmp_path, 'losses') if not r.passed] == ['losses/loss_tz_reg']


@needs_reference
def test_classes_that_float32_cannot_tell_apart_may_be_chosen_either_way(tmp_path, monkeypatch):
    """The reference's choice is followed where its two best logits are equal, else it fails."""
    arrays = arrays_of('network')
    logits = arrays['depth_logits'][0]
    best, second = np.argsort(logits)[::-1][:2]

    def second_above_best_by(amount):
        changed = arrays['depth_logits'].copy()
        changed[0, second] = logits[best] + amount
        return {**arrays, 'depth_logits': changed}

    tied, row = 1e-5 * float(np.abs(logits).max()), 'network/depth_logits argmax'
    arrays['depth_logits'][0, best] = logits[second] = logits[best] - tied
    # pretend that our two best are as near to each other as the reference's
    network = RememberedRun.stage1

    def nearly_tied(self, view):
        mask, found = network(self, view)
        depth = found.depth.clone()
        depth[0, second] = depth[0, best] - tied
        return mask, found._replace(depth=depth)

    monkeypatch.setattr(RememberedRun, 'stage1', nearly_tied)
    made = settled(tmp_path, 'network', second_above_best_by(tied), monkeypatch)
    assert made['depth_logits'][0].argmax() == best
    np.savez(tmp_path / 'network.npz', **second_above_best_by(tied))
    rows = {r.name: r for r in rows_of(tmp_path, 'network')}
    assert rows[row].passed and 'tied' in rows[row].note
    assert not rows['network/stage1_t'].passed  # the reference's own pose is of the other bin
    np.savez(tmp_path / 'network.npz', **second_above_best_by(0.1))
    assert {r.name for r in rows_of(tmp_path, 'network') if not r.passed} >= {
        row, 'network/depth_logits'}


@needs_reference
def test_a_list_of_tensors_made_for_fewer_objects_is_compared_as_that(tmp_path, monkeypatch):
    """It says how many objects there are, unless it cannot know the classes of the images."""
    from mrcnet_ros.presets.paper.parity.inputs import input_rows, seeded_case

    for path in REFERENCE.glob('state_dict.tsv'):
        (tmp_path / path.name).symlink_to(path)
    for objects, classes, passes in ((2, [0, 1, 1, 0], True), (3, [0, 1, 1, 0], False),
                                     (8, [0, 7, 1, 0], True), (8, [0, 2, 1, 0], True)):
        np.savez(tmp_path / 'network.npz', **{
            **arrays_of('network'), 'n_dec': np.array(objects), 'obj': np.array(classes)})
        reference = Reference(tmp_path / 'network.npz')
        rows = {r.name: r for r in input_rows(tmp_path, reference, *seeded_case(reference))}
        assert rows['state_dict.tsv'].passed is passes
    assert '2 objects' in rows['state_dict.tsv'].note


def test_halves_are_rounded_as_the_reference_did():
    """Only numbers at a half have a choice, and only between their two neighbours."""
    values = np.array([75.5, 180.5 - 1e-5, 20.4, 20.5, 20.502])
    assert rounded_like(values, [76, 181, 20, 22, 20]).tolist() == [76, 181, 20, 20, 21]
    assert rounded_like(values, [75, 180, 21, 21, 21]).tolist() == [75, 180, 20, 21, 21]
    assert rounded_like(values, [1]).tolist() == [76, 180, 20, 20, 21]


@needs_reference
@pytest.mark.parametrize(('changes', 'passes'), [
    ({'image_size': [646, 480]}, False), ({'image_size': [1280, 960]}, False),
    ({'image_size': [720, 540]}, True), ({'box_xyxy': [200.7, 150.2, 290.9, 221.0]}, True),
    ({'box_xyxy': [-30, -20, 60, 60]}, True), ({'box_xyxy': [10, 10, 138, 73]}, True),
    ({'box_xyxy': [600, 420, 638, 478], 'image_size': [641, 481]}, True)])
def test_other_boxes_and_images_are_cropped(tmp_path, monkeypatch, changes, passes):
    """Any box and any camera; a size that no pixel tells must be that of a sensor."""
    arrays = {**arrays_of('crop'), **{k: np.array(v) for k, v in changes.items()}}
    settled(tmp_path, 'crop', arrays, monkeypatch)
    assert all(r.passed for r in crop_rows(tmp_path)) is passes


@needs_reference
def test_the_other_rounding_of_an_edge_at_a_half_passes(tmp_path, monkeypatch):
    """A box of 128 x 63 pixels has edges half way between pixels in its box map."""
    arrays = {**arrays_of('crop'), 'box_xyxy': np.array([10, 10, 138, 73])}
    arrays = settled(tmp_path, 'crop', arrays, monkeypatch)
    assert arrays['roi_rect'][0].tolist() == [21, 76, 235, 180]
    for rectangle, passes in (([21, 75, 235, 181], True), ([20, 76, 235, 180], False)):
        arrays['roi_rect'][0] = rectangle
        np.savez(tmp_path / 'crop.npz', **arrays)
        assert all(r.passed for r in crop_rows(tmp_path)) is passes
