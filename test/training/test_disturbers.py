"""What disturbs in training images: plain bodies, objects of other datasets, any meshes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip('torch', reason='needs the train extra')

import numpy as np
from bop_folder import write_models
from meshes import cube
from tiny_model import write_material

from mrcnet_ros.errors import DatasetError
from mrcnet_ros.meshes import write_ply
from mrcnet_ros.training.detector_config import DetectorConfig
from mrcnet_ros.training.disturbers import SIZES_M, count_disturbers, load_disturbers

BROKEN = 'v 0 0 0\nf 1 2 3\n'  # a face of corners that are not there


@pytest.fixture
def config(tmp_path: Path) -> DetectorConfig:
    """Configure a detector in whose images nothing disturbs yet."""
    tiny = write_material(tmp_path / 'tiny')
    return DetectorConfig(
        name='tiny', output=tiny.output, cache=tmp_path / 'cache', models=tiny.models,
        backgrounds=tiny.backgrounds, bodies=0, disturber_views=4, distance_m=(0.4, 0.8),
        views=6)


def test_objects_of_the_model_do_not_disturb(config, tmp_path):
    """Of a folder that has both, only the other ones must not be found."""
    folder = tmp_path / 'models'
    write_models(folder)
    own = dataclasses.replace(config, models=folder, labels={1: 'blob'}, disturbers=(folder,))
    assert len(load_disturbers(own)) == 1 and count_disturbers(own) == 2
    assert [path.name[:10] for path in own.cache.iterdir()] == ['obj_000003']


def test_any_meshes_disturb(config, tmp_path, caplog):
    """Whatever their unit; those that cannot be read are told, and views are drawn once."""
    folder = tmp_path / 'household'
    (folder / 'below').mkdir(parents=True)
    write_ply(folder / 'below' / 'chest.ply', cube(400.0), 1.0)  # in whatever unit
    (folder / 'broken.obj').write_text(BROKEN)
    (folder / 'notes.txt').write_text('no mesh')
    (folder / '._broken.obj').write_text('what macOS puts beside a file')
    own = dataclasses.replace(config, bodies=2, disturbers=(folder,))
    *_, views = load_disturbers(own)
    bank = views.open()
    assert SIZES_M[0] <= bank.diameter_m <= SIZES_M[1] and count_disturbers(own) == 4
    np.testing.assert_allclose(np.ptp(bank.hull, axis=0), bank.diameter_m / np.sqrt(3), rtol=1e-4)
    np.testing.assert_allclose(bank.hull.mean(axis=0), 0.0, atol=1e-6)
    assert '1 of 2 meshes in' in caplog.text and 'broken.obj' in caplog.text
    seen = (bank.albedo[..., 3] > 0).mean(axis=(1, 2))
    assert len(seen) == own.disturber_views and (seen > 0.1).all()
    drawn, = own.cache.glob('mesh-*')
    made = drawn.stat().st_mtime_ns
    assert len(load_disturbers(own)) == 3 and drawn.stat().st_mtime_ns == made


@pytest.mark.parametrize(('text', 'said'), [
    (None, r'is no BOP models folder \(models_info\.json\) and holds no mesh'),
    (BROKEN, 'no mesh in .* can be used')])
def test_a_folder_without_meshes_is_named(config, tmp_path, text, said):
    """What was asked for is not left out without a word."""
    (tmp_path / 'things').mkdir()
    if text is not None:
        (tmp_path / 'things' / 'broken.obj').write_text(text)
    with pytest.raises(DatasetError, match=said):
        load_disturbers(dataclasses.replace(config, disturbers=(tmp_path / 'things',)))
