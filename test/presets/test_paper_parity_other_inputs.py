"""Parity with other inputs than those of the reference: other salts, sizes and rotations."""

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from paper_reference import (  # noqa: E402
    REFERENCE,
    RememberedRun,
    arrays_of,
    corrupt,
    needs_reference,
    rows_of,
    settled,
    write_copy,
)

from mrcnet_ros.errors import DatasetError  # noqa: E402
from mrcnet_ros.presets.paper.parity.parts import crop_rows  # noqa: E402
from mrcnet_ros.presets.paper.parity.rows import Reference, rounded_like  # noqa: E402

pytestmark = pytest.mark.usefixtures('forget_networks')

# what another salt and another range must change
CHANGED = {'network': ['mask_real', 'rotation_logits', 'stage1_t', 'R', 't'],
           'losses': ['loss_quat_clf', 'loss_depth_clf', 'loss_tz_reg', 'loss_mask_visib']}


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
