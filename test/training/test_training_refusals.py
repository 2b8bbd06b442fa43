"""What a training refuses before it renders or trains anything, and says so."""

from __future__ import annotations

import dataclasses
import io
import pickle
import shutil

import pytest

pytest.importorskip('torch', reason='needs the train extra')
pytest.importorskip('onnx', reason='needs the train extra')

import cv2
import numpy as np
import torch
import yaml
from meshes import cube, write_ply, write_textured_quad
from tiny_model import SPEC, random_stem, write_material

from mrcnet_ros.errors import DatasetError, MeshError, ModelError, SpecError
from mrcnet_ros.export.directory import export_checkpoint
from mrcnet_ros.network.mrcnet import MrcNet
from mrcnet_ros.rendering.background_files import read_linear
from mrcnet_ros.specs import ModelSpec, ViewPrior
from mrcnet_ros.store.lock import try_lock
from mrcnet_ros.training.checkpoint import load_checkpoint, save_checkpoint
from mrcnet_ros.training.composed_run import check_start
from mrcnet_ros.training.config import TrainConfig
from mrcnet_ros.training.detector_config import DetectorConfig
from mrcnet_ros.training.detector_trainer import train_detector
from mrcnet_ros.training.trainer import checked_objects, train
from mrcnet_ros.training.warm_start import read_start


@pytest.fixture(scope='module')
def material(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Configure a training of 24 steps in two processes."""
    return write_material(tmp_path_factory.mktemp('training'))


@pytest.mark.parametrize(('edit', 'changes', 'problem'), [
    (None, {'view_prior': ViewPrior(elevation_min_deg=0, elevation_max_deg=90, tilt_max_deg=30)},
     'blob.view_prior None, the configuration has'),
    (lambda entry: entry.update(mesh='box.ply'), {}, 'blob.mesh_sha256')])
def test_frozen_objects_must_stay_what_they_were(tiny_model, tmp_path, edit, changes, problem):
    """Another mesh or view prior would change the answers that freezing promises to keep."""
    entries = yaml.safe_load(tiny_model.config.models.read_text())
    entries.append({**entries[1], 'id': 9, 'label': 'newcomer'})
    if edit is not None:
        edit(entries[0])
    more = tiny_model.meshes / 'changed.yaml'
    more.write_text(yaml.safe_dump(entries))
    config = dataclasses.replace(tiny_model.config, output=tmp_path / 'run', models=more,
                                 init=tiny_model.path, freeze_shared=True, **changes)
    with pytest.raises(ModelError, match=rf'{problem}.*must stay as they are'):
        train(config, random_stem())


def test_a_start_mixed_of_two_models_is_refused(tiny_model, tmp_path):
    """Rows of one object would count as those of another; the graphs need not be there."""
    other = tmp_path / 'other'
    objects = tmp_path / 'one.yaml'
    entries = yaml.safe_load(tiny_model.config.models.read_text())[::-1]
    objects.write_text(yaml.safe_dump([
        {**entry, 'mesh': str(tiny_model.meshes / entry['mesh'])} for entry in entries]))
    checkpoint = tmp_path / 'checkpoint.pt'
    save_checkpoint(checkpoint, {'average': MrcNet(spec=SPEC, objects=2).state_dict(), 'step': 0},
                    SPEC)
    export_checkpoint(checkpoint, dataclasses.replace(tiny_model.config, models=objects), other)
    for path in other.glob('*.onnx'):
        path.unlink()
    assert read_start(other, SPEC).labels == ('box', 'blob')
    for one, two in ((tiny_model.path, other), (other, tiny_model.path)):
        mixed = tmp_path / f'mixed_{one.name}'
        mixed.mkdir()
        shutil.copy(one / 'weights.pt', mixed)
        shutil.copy(two / 'model.json', mixed)
        with pytest.raises(ModelError, match=r'weights\.pt: is damaged or of another model'):
            read_start(mixed, SPEC)
    config = dataclasses.replace(tiny_model.config, cache=tmp_path / 'cache', init=mixed)
    with pytest.raises(ModelError, match='of another model'):
        checked_objects(config)  # before anything is rendered


@pytest.mark.parametrize('preset', ['poses', 'detector'])
def test_distances_from_which_images_cut_an_object_off_are_refused(tmp_path, preset):
    """The usual ones begin too near for furniture; nothing is rendered or written before."""
    write_ply(tmp_path / 'chair.ply', cube(0.8))
    (tmp_path / 'objects.yaml').write_text(yaml.safe_dump([
        {'id': 1, 'label': 'chair', 'mesh': 'chair.ply'}]))
    material = write_material(tmp_path / 'tiny')
    config = (TrainConfig if preset == 'poses' else DetectorConfig)(
        name='x', output=tmp_path / 'run', cache=tmp_path / 'cache', views=2, patches=2, steps=2,
        models=tmp_path / 'objects.yaml', backgrounds=material.backgrounds)
    begin = train if preset == 'poses' else train_detector
    with pytest.raises(SpecError, match=r'distance_m begins at 0\.4 m, but chair has a diameter'):
        begin(config, {})
    assert not config.cache.exists() and not config.output.exists()
    assert check_start(dataclasses.replace(config, distance_m=(2.0, 6.0)),
                       config.load_objects()) == 0.0


def test_a_checkpoint_of_another_spec_is_refused(material, tmp_path):
    """The error names the checkpoint and the remedy."""
    config = dataclasses.replace(material, output=tmp_path, processes=1)
    save_checkpoint(tmp_path / 'checkpoint.pt', {'step': 1}, ModelSpec())
    with pytest.raises(ModelError, match=r'checkpoint\.pt.*another model spec.*restore the spec'):
        train(config, random_stem())


@pytest.mark.parametrize(('changes', 'problem'), [
    ({'spec': {**SPEC.to_dict(), 'attention': 1}}, r"unknown fields \['attention'\]"),
    ({'spec': None}, 'has no spec that this release reads'),
    ({'format_version': 2}, 'has format 2, this release reads 1')])
def test_a_checkpoint_of_another_release_is_refused(tmp_path, changes, problem):
    """With its name, since the user looks for unknown fields in the configuration otherwise."""
    torch.save({'format_version': 1, 'spec': SPEC.to_dict(), **changes}, tmp_path / 'weights.pt')
    with pytest.raises(ModelError, match=rf'weights\.pt.*{problem}.*; use the release that it'):
        load_checkpoint(tmp_path / 'weights.pt', SPEC)


def test_a_checkpoint_of_other_objects_is_refused(material, tiny_model, tmp_path):
    """A checkpoint of three objects does not fit two, and is named."""
    config = dataclasses.replace(material, output=tmp_path, processes=1)
    network = MrcNet(spec=SPEC, objects=3)
    save_checkpoint(tmp_path / 'checkpoint.pt', {
        'step': 1, 'seconds': 0.0, 'network': network.state_dict(), 'average': {},
        'optimizer': {}}, SPEC)
    with pytest.raises(ModelError, match=r'checkpoint\.pt.*does not fit the objects'):
        train(config, random_stem())


def cut_short(old: bool) -> bytes:
    """Return most of a checkpoint, of today or of older releases of PyTorch."""
    file = io.BytesIO()
    torch.save({'weight': torch.zeros(1000)}, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()[:-100]


@pytest.mark.parametrize(('data', 'told'), [
    (b'', 'is empty; copy or download it again'), (None, 'there is no such checkpoint'),
    (b'version https://git-lfs.github.com/spec/v1', 'begins with .*https://git.*pointer of Git'),
    (b'<!DOCTYPE html><html>not found</html>', 'begins with .*html.*or a web page'),
    (cut_short(old=False), 'is damaged, or not whole; copy'),
    (cut_short(old=True), 'is damaged, or not whole; copy'),
    (pickle.dumps({'network': print}, 2), 'holds print, which .* could be code')])
def test_a_damaged_checkpoint_is_named(tmp_path, data, told):
    """What came in its place is said, and nobody is told to run what it holds."""
    path = tmp_path / 'checkpoint.pt'
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ModelError, match=rf'checkpoint\.pt: .*{told}') as raised:
        load_checkpoint(path, SPEC)
    assert 'weights_only' not in str(raised.value)


def test_a_file_of_something_else_is_no_checkpoint(tmp_path):
    """Tensors that torch can read are not enough."""
    torch.save({'weight': torch.zeros(3)}, tmp_path / 'other.pt')
    with pytest.raises(ModelError, match=r'other\.pt.*is not a checkpoint'):
        load_checkpoint(tmp_path / 'other.pt')


@pytest.mark.parametrize(('folders', 'problem'), [
    (('absent',), 'absent does not exist'), (('empty',), r'empty holds no \.hdr'),
    ((), 'no background folders')])
def test_missing_backgrounds_are_named_before_anything_is_rendered(material, tmp_path, folders,
                                                                   problem):
    """A wrong background folder is told at once, with its name."""
    (tmp_path / 'empty').mkdir()
    config = dataclasses.replace(material, cache=tmp_path / 'cache', output=tmp_path / 'run',
                                 backgrounds=tuple(tmp_path / f for f in folders))
    with pytest.raises(DatasetError, match=problem):
        train(config, random_stem())
    assert not config.cache.exists()


def test_an_origin_far_from_the_middle_is_told_before_anything_is_rendered(tmp_path):
    """Such an object would be cut off in every image: the error says what to do."""
    config = write_material(tmp_path / 'moved', processes=1)
    mesh = cube(0.08)
    write_ply(config.models.parent / 'box.ply',
              dataclasses.replace(mesh, vertices=mesh.vertices + [0.0, 0.0, 0.08]))
    with pytest.raises(MeshError, match=r'box\.ply.*far from its middle.*subtract'):
        train(config, random_stem())
    assert not config.cache.exists()


def test_a_background_that_cannot_be_read_is_told_before_anything_is_rendered(material, tmp_path):
    """One image of each kind is read first; grey ones are as good as any."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    cv2.imwrite(str(folder / 'grey.jpg'), np.full((64, 80), 90, np.uint8))
    assert read_linear(folder / 'grey.jpg').shape == (64, 80, 3)
    (folder / 'sky.exr').write_bytes(b'no image')
    config = dataclasses.replace(material, cache=tmp_path / 'cache', output=tmp_path / 'run',
                                 backgrounds=(folder,))
    with pytest.raises(DatasetError, match=r'sky\.exr cannot be read.*to \.hdr'):
        train(config, random_stem())
    assert not config.cache.exists()


def test_meshes_of_one_name_are_told_before_anything_is_rendered(tmp_path):
    """A model names files, not folders: it could not be loaded. The same mesh twice can."""
    config = write_material(tmp_path / 'ycb', processes=1)
    entries = yaml.safe_load(config.models.read_text())
    for number, entry in enumerate(entries):
        folder = config.models.parent / f'{number:03d}'
        folder.mkdir()
        write_ply(folder / 'textured.ply', cube(0.08 + 0.01 * number))
        entry['mesh'] = f'{number:03d}/textured.ply'
    config.models.write_text(yaml.safe_dump(entries))
    with pytest.raises(SpecError, match=r"'blob' and 'box' .*000/textured\.ply and .*"
                                        r'001/textured\.ply.*rename one'):
        train(config, random_stem())
    assert not config.cache.exists()
    write_ply(config.models.parent / '001' / 'textured.ply', cube(0.08))
    assert len(config.load_objects()) == 2


def test_textures_of_one_name_are_told_before_anything_is_rendered(tmp_path):
    """In the one folder of a model, one would replace the other. Equal ones do no harm."""
    config = write_material(tmp_path / 'home', processes=1)
    entries = yaml.safe_load(config.models.read_text())
    for entry, name in zip(entries, ('bracket', 'mug'), strict=True):
        (config.models.parent / name).mkdir()
        mesh = write_textured_quad(config.models.parent / name / f'{name}.obj', 100.0)
        mesh.write_text(mesh.read_text() + 'v 0 0 50\nf 1/1/1 2/2/1 5/3/1\n')
        entry['mesh'] = f'{name}/{name}.obj'
    config.models.write_text(yaml.safe_dump(entries))
    assert len(config.load_objects()) == 2
    paint = config.models.parent / 'mug' / 'paint.png'
    cv2.imwrite(str(paint), np.full((8, 8, 3), 90, np.uint8))
    with pytest.raises(SpecError, match=r"'blob' and 'box' name files of one name: .*bracket/"
                                        r'paint\.png and .*mug/paint\.png'):
        train(config, random_stem())
    assert not config.cache.exists()


@pytest.mark.parametrize(('emphasis', 'problem'), [
    ({'blub': 2}, r"emphasis: .*\['blub'\].*\['blob', 'box'\]"),
    ({'blob': 0, 'box': 0}, 'no object to train')])
def test_a_wrong_emphasis_is_told(material, tmp_path, emphasis, problem):
    """A misspelt label does not go unnoticed, and some object must be drawn."""
    config = dataclasses.replace(material, output=tmp_path / 'run', emphasis=emphasis)
    with pytest.raises(SpecError, match=problem):
        train(config, random_stem())


@pytest.mark.parametrize('stop_after', [0, 3, 12])
def test_a_run_cannot_be_stopped_where_it_could_not_go_on(material, tmp_path, stop_after):
    """Between two refreshes of the template features a stop would change the run."""
    config = dataclasses.replace(material, output=tmp_path / 'run')
    with pytest.raises(SpecError, match=r'stop_after .* multiple of refresh \(8\)'):
        train(config, random_stem(), stop_after=stop_after)


def test_an_output_that_is_a_file_is_refused(material, tmp_path):
    """Before anything is rendered; the file stays as it is."""
    config = dataclasses.replace(material, output=tmp_path / 'run', cache=tmp_path / 'cache')
    config.output.write_text('notes')
    with pytest.raises(DatasetError, match=r'run/lock: cannot be written \(File exists\)'):
        train(config, random_stem())
    assert config.output.read_text() == 'notes' and not config.cache.exists()


def test_one_training_at_a_time_works_in_an_output(material, tmp_path):
    """A second one would put its checkpoint over the better one of the first."""
    config = dataclasses.replace(material, output=tmp_path / 'run', cache=tmp_path / 'cache')
    config.output.mkdir()
    with (config.output / 'lock').open('w') as file:
        assert try_lock(file)
        with pytest.raises(SpecError, match=r'another training works in .*run; wait .* output'):
            train(config, random_stem())
    assert not config.cache.exists()
