"""Checkpoints: of which training they are, and in pieces that continue elsewhere."""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path

import pytest

pytest.importorskip('torch', reason='needs the train extra')

import numpy as np
import torch
import yaml
from small_training import metrics
from tiny_model import SPEC, random_stem

from mrcnet_ros.errors import ModelError, SpecError
from mrcnet_ros.export.directory import export_checkpoint
from mrcnet_ros.specs import ViewPrior
from mrcnet_ros.store.shared_memory import MIB
from mrcnet_ros.training import checkpoint_pieces
from mrcnet_ros.training.checkpoint import load_checkpoint
from mrcnet_ros.training.checkpoint_pieces import write_pieces
from mrcnet_ros.training.identity import IDENTITY, check_identity, identity_of
from mrcnet_ros.training.trainer import train

ABOUT_X = [1.0, 0, 0, 0, 0, -1.0, 0, 0, 0, 0, -1.0, 0, 0, 0, 0, 1.0]


@pytest.mark.parametrize(('most', 'kept'), [(1.0, True), (0.0, False)])
def test_pieces_of_a_checkpoint_go_on_and_are_exported(own, tmp_path, small_logs, monkeypatch,
                                                       most, kept):
    """Joined, they hold the weights to half precision; too much for the limit is left out."""
    monkeypatch.setattr('mrcnet_ros.training.checkpoint_pieces.PIECE_BYTES', 50_000)
    checkpoint = own.output / 'checkpoint.pt'
    whole = sum(p.stat().st_size for p in write_pieces(checkpoint, tmp_path / 'all', 10 * MIB))
    pieces = write_pieces(checkpoint, tmp_path / 'few', whole if kept else whole // 2)
    assert len(pieces) > 1
    assert max(piece.stat().st_size for piece in pieces) == 50_000
    config = dataclasses.replace(own, output=tmp_path / 'run', steps=16)
    config.output.mkdir()
    joined = config.output / 'checkpoint.pt'
    joined.write_bytes(b''.join(piece.read_bytes() for piece in sorted(pieces)))
    state, full = load_checkpoint(joined, SPEC), load_checkpoint(checkpoint, SPEC)
    assert ('optimizer' in state) == kept
    for name, value in full['average'].items():
        assert torch.allclose(state['average'][name].double(), value.double(), rtol=1e-3,
                              atol=1e-6), name
    exported = export_checkpoint(joined, config, tmp_path / 'model')
    again = export_checkpoint(checkpoint, own, tmp_path / 'original')
    for weights in ('stage1.onnx', 'stage2.onnx'):
        assert (exported / weights).read_bytes() == (again / weights).read_bytes()
    assert load_checkpoint(train(config, random_stem()), SPEC)['step'] == 16
    assert metrics(config)[16, False]['loss'] < 2 * metrics(own)[8, False]['loss']


def test_pieces_without_the_first_are_those_of_a_killed_training(own, tmp_path, monkeypatch):
    """The first one appears last, so that it tells whether all are there."""
    replace_file, written = os.replace, []

    def killed(partial: Path, piece: Path) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        replace_file(partial, piece)
        written.append(piece)

    monkeypatch.setattr(checkpoint_pieces, 'PIECE_BYTES', 50_000)
    pieces = write_pieces(own.output / 'checkpoint.pt', tmp_path, 10 * MIB)
    assert len(pieces) > 2 and pieces[0].name == 'checkpoint.pt.00'
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, 'replace', killed)
        write_pieces(own.output / 'checkpoint.pt', tmp_path, 10 * MIB)
    assert len(written) == 2 and not pieces[0].exists()
    assert write_pieces(own.output / 'checkpoint.pt', tmp_path, 10 * MIB) == pieces
    assert sorted(tmp_path.iterdir()) == pieces


def test_too_small_a_limit_for_pieces_is_told(own, tmp_path):
    """The error says how large the smallest version is."""
    with pytest.raises(SpecError, match=r'alone are 0\.\d MiB, more than the 0\.0 MiB'):
        write_pieces(own.output / 'checkpoint.pt', tmp_path, 1000)


@pytest.mark.parametrize(('edit', 'changes', 'problem'), [
    (lambda entries: entries.reverse(), {}, r'objects\[0\]\.object_id 2, the configuration has 7'),
    (lambda entries: entries[0].update(label='lump'), {}, r"label 'blob', .* has 'lump'"),
    (lambda entries: entries[1].pop('symmetries_discrete'), {}, r'\[1\]\.symmetries 2, .* has 1'),
    (lambda entries: entries[1].update(symmetries_discrete=[ABOUT_X]), {},
     r'other symmetries \(objects\[1\]\.motions\)'),
    (lambda entries: entries[0].update(mesh='blob2.ply'), {}, r'objects\[0\]\.mesh_sha256'),
    (lambda entries: entries.pop(), {}, r'2 objects, the configuration has 1'),
    (None, {'view_prior': ViewPrior(elevation_min_deg=0, elevation_max_deg=90, tilt_max_deg=30)},
     'view_prior None, the configuration has'),
    (None, {'seed': 99}, 'seed 0, the configuration has 99'),
    (None, {'series': 1}, 'series 0, the configuration has 1')])
def test_a_checkpoint_of_something_else_is_not_gone_on_with(own, tmp_path, edit, changes, problem):
    """Objects in another order or changed, another view prior or seed: neither resume nor export.

    Both would give answers of one object under the name of another, without a word.
    """
    blob = own.models.parent / 'blob.ply'
    data = blob.read_bytes().replace(b'\n', b'\ncomment\n', 1)
    blob.with_name('blob2.ply').write_bytes(data)
    entries = yaml.safe_load(own.models.read_text())
    if edit is not None:
        edit(entries)
    models = own.models.with_name('edited.yaml')
    models.write_text(yaml.safe_dump(entries))
    config = dataclasses.replace(own, models=models, steps=16, **changes)
    with pytest.raises(ModelError, match=rf'checkpoint\.pt.*{problem}.*restore the configuration'):
        train(config, random_stem())
    if not {'seed', 'series'} & set(changes):  # of which the answers do not depend
        with pytest.raises(ModelError, match=problem):
            export_checkpoint(own.output / 'checkpoint.pt', config, tmp_path / 'model')
        assert not (tmp_path / 'model').exists()


def test_a_middle_that_was_added_or_taken_out_is_not_gone_on_with(own):
    """Poses would be off by it; checkpoints that do not say it were trained about the origin."""
    path, (blob, box) = own.output / 'checkpoint.pt', own.load_objects()
    moved = dataclasses.replace(blob, middle_m=np.array([0.0, 0.0, 0.03]))
    plain, other = (identity_of([one, box], None, 0) for one in (blob, moved))
    older = copy.deepcopy(plain)
    for entry in older['objects']:
        del entry['middle_m']
    check_identity(path, {IDENTITY: older}, plain)
    for found, expected in ((other, plain), (plain, other), (older, other)):
        with pytest.raises(ModelError, match=r'objects\[0\]\.middle_m'):
            check_identity(path, {IDENTITY: found}, expected)


def test_a_checkpoint_that_has_the_number_of_symmetries_alone_is_gone_on_with(own):
    """As older versions wrote it; small differences of the motions do not count either."""
    path = own.output / 'checkpoint.pt'
    expected = identity_of(own.load_objects(), own.view_prior, own.seed)
    older = copy.deepcopy(expected)
    for entry in older['objects']:
        del entry['motions']
    check_identity(path, {IDENTITY: older}, expected)
    near = copy.deepcopy(expected)
    near['objects'][1]['motions'][1][0][3] += 0.01
    check_identity(path, {IDENTITY: near}, expected)
    near['objects'][1]['motions'][1][0][3] += 0.02
    with pytest.raises(ModelError, match='other symmetries'):
        check_identity(path, {IDENTITY: near}, expected)


def test_frozen_layers_of_another_model_are_not_gone_on_with(own, tmp_path):
    """With freeze_shared the answers are those of ``init``; older checkpoints do not name it."""
    (tmp_path / 'weights.pt').write_bytes(b'one')
    path, config = own.output / 'checkpoint.pt', dataclasses.replace(
        own, init=tmp_path, freeze_shared=True)
    one, free = (identity_of(own.load_objects(), None, 0, c.frozen) for c in (config, own))
    (tmp_path / 'weights.pt').write_bytes(b'another')
    other = identity_of(own.load_objects(), None, 0, config.frozen)
    for found, expected in ((one, one), (free, other), (one, free)):
        check_identity(path, {IDENTITY: found}, expected)
    with pytest.raises(ModelError, match='frozen_sha256'):
        check_identity(path, {IDENTITY: one}, other)


def test_a_checkpoint_that_does_not_say_its_objects_is_warned_of(own, caplog):
    """A checkpoint of an older version is used, with a word that nothing could be compared."""
    check_identity(own.output / 'checkpoint.pt', {'step': 1}, {})
    assert 'does not say which objects it was trained on' in caplog.text
