"""What mrcnet new is asked for: what it refuses, what may change, what it goes on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
import yaml
from bop_folder import write_models
from new_model.shapes import BRICK, SMALL, write
from tiny_model import TinyModel

from mrcnet_ros.cli.main import main
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.model_json import SEAL, seal_of
from mrcnet_ros.new_model.request import TABLE
from mrcnet_ros.new_model.steps import Maker
from mrcnet_ros.new_model.training_plan import known_in_words, known_labels
from mrcnet_ros.objects import load_object_list
from mrcnet_ros.training.run_config import read_values


class Stopped(Exception):
    """Ends a command before its long steps."""


def stop(*_: object) -> None:
    """End the command here."""
    raise Stopped


def beginning(tiny_model: TinyModel, folder: Path) -> list[str]:
    """Return a command that begins a model of a box in ``out``."""
    part = write(folder / 'part.stl', BRICK)
    return ['new', str(part), '--output', str(folder / 'out'), '--start', str(tiny_model.path),
            '--backgrounds', str(tiny_model.config.backgrounds[0]), '--minutes', '1']


def export_anew(model: Any) -> None:
    """Change what is in model.json as another export does."""
    model['files']['stage1.onnx'] = 'of other weights'
    model[SEAL] = seal_of(model)


def test_a_model_whose_work_folder_is_gone_is_left_as_it_is(
        tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page says that the work folder may be removed; nothing can continue then."""
    part, model = write(tmp_path / 'part.stl', BRICK), tmp_path / 'out' / 'model.json'
    model.parent.mkdir()
    model.write_text('{}')
    assert main(['new', str(part), '--output', str(model.parent), '--start',
                 str(tiny_model.path)]) == 2
    told = capsys.readouterr().err
    assert 'has no work folder' in told and 'give another --output, or remove it' in told
    assert [p.name for p in model.parent.iterdir()] == ['model.json']


def test_a_bop_folder_is_taken_with_its_symmetries(
        tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """A generated copy of ycbv: objects and symmetries are those of models_info.json."""
    write_models(tmp_path / 'ycbv' / 'models')
    monkeypatch.setattr(Maker, '_render', stop)
    command = ['new', '--bop-dir', str(tmp_path), '--dataset', 'ycbv', '--output',
               str(tmp_path / 'out'), '--start', str(tiny_model.path), '--backgrounds',
               str(tiny_model.config.backgrounds[0]), '--minutes', '1']
    for _ in range(2):  # nothing that takes long was done: other options begin anew
        with pytest.raises(Stopped):
            main(command)
        command += ['--fast', '--unit', 'mm']
    entries = {e['id']: e for e in yaml.safe_load((tmp_path / 'out/objects.yaml').read_text())}
    assert sorted(entries) == [1, 3]
    assert len(entries[3]['symmetries_discrete']) == 3
    assert 'those of models_info.json' in capsys.readouterr().out


def test_a_corrected_bop_folder_or_start_is_not_gone_on_with(
        tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """Their folders are the same, what they hold is not; what does not matter may change."""
    models, start = tmp_path / 'ycbv' / 'models', tmp_path / 'start'
    write_models(models)
    shutil.copytree(tiny_model.path, start)
    monkeypatch.setattr(Maker, '_render', lambda _: True)
    monkeypatch.setattr(Maker, '_train', stop)
    command = ['new', '--bop-dir', str(tmp_path), '--dataset', 'ycbv', '--ids', '3', '--output',
               str(tmp_path / 'out'), '--start', str(start), '--backgrounds',
               str(tiny_model.config.backgrounds[0]), '--minutes', '1']

    def go_on(folder: Path, name: str, change: Callable[[Any], object]) -> str:
        """Return what is told after a change of a JSON file, which is undone afterwards."""
        before = (folder / name).read_text()
        values = json.loads(before)
        change(values)
        (folder / name).write_text(json.dumps(values))
        assert main(command) == 2
        (folder / name).write_text(before)
        return capsys.readouterr().err

    with pytest.raises(Stopped):
        main(command)
    assert 'other files (changed: obj_000003.ply)' in go_on(
        models, 'models_info.json', lambda info: info['3'].pop('symmetries_discrete'))
    assert 'other files (changed: --start)' in go_on(
        start, 'model.json', export_anew)
    with pytest.raises(Stopped):
        go_on(models, 'models_info.json', lambda info: info['1'].pop('symmetries_discrete', 0))
    with pytest.raises(Stopped):
        go_on(start, 'model.json', lambda model: model.update({'name': 'another'}))


def test_symmetries_of_a_bop_folder_are_searched_for_when_that_is_asked(
        tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever distrusts its models_info.json says found."""
    write_models(tmp_path / 'ycbv' / 'models')
    monkeypatch.setattr('mrcnet_ros.new_model.steps.look_at', stop)
    with pytest.raises(Stopped):
        main(['new', '--bop-dir', str(tmp_path), '--dataset', 'ycbv', '--ids', '3', '--output',
              str(tmp_path / 'out'), '--start', str(tiny_model.path), '--backgrounds',
              str(tiny_model.config.backgrounds[0]), '--symmetry', 'obj_000003=found'])


@pytest.mark.parametrize('dataset', ['ycbv', 'itodd'])
def test_both_datasets_go_as_far_as_the_views(
        tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        dataset: str) -> None:
    """The same command trains a generated copy of YCB-V and of ITODD; the weights stand for it."""
    write_models(tmp_path / dataset / 'models')
    monkeypatch.setattr(Maker, '_train', stop)
    command = ['new', '--bop-dir', str(tmp_path), '--dataset', dataset, '--ids', '3', '--output',
               str(tmp_path / 'out'), '--init', str(tiny_model.path / 'weights.pt'),
               '--backgrounds', str(tiny_model.config.backgrounds[0]), '--minutes', '1', *SMALL]
    with pytest.raises(Stopped):
        main(command)
    assert [e['id'] for e in yaml.safe_load((tmp_path / 'out/objects.yaml').read_text())] == [3]
    config = yaml.safe_load((tmp_path / 'out/work/train.yaml').read_text())
    assert config['init'] == str(tiny_model.path)
    assert any((tmp_path / 'out/work/views').iterdir())


def test_a_start_without_weights_is_told_before_anything_is_written(
        tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As models/lmo of an installed package; the error says where to get them."""
    start = tmp_path / 'lmo'
    shutil.copytree(tiny_model.path, start, ignore=shutil.ignore_patterns('weights.pt'))
    write(tmp_path / 'part.stl', BRICK)
    assert main(['new', str(tmp_path / 'part.stl'), '--output', str(tmp_path / 'out'), '--start',
                 str(start)]) == 2
    told = capsys.readouterr().err
    assert 'has no weights.pt' in told and '--start SOURCES/models/lmo' in told
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['weights.pt', 'detector_weights.pt'])
def test_weights_that_were_not_downloaded_are_told_before_anything_is_written(
        tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str,
        ) -> None:
    """Not after the training of poses: Git LFS leaves a line of text in place of a file."""
    start = shutil.copytree(tiny_model.path, tmp_path / 'start')
    (start / name).write_text('version https://git-lfs.github.com/spec/v1')
    command = [str(start) if word == str(tiny_model.path) else word
               for word in beginning(tiny_model, tmp_path)]
    assert main([*command, '--detector']) == 2
    assert str(start / name) in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_missing_imagenet_weights_are_told_before_anything_is_written(
        tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not after the views are rendered."""
    assert main([*beginning(tiny_model, tmp_path), '--stem', str(tmp_path / 'missing.pt')]) == 2
    assert 'missing.pt: there is no such checkpoint' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_missing_ray_tracer_is_told_before_anything_is_written(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """Not after the search for symmetries, which takes minutes."""
    monkeypatch.setattr(trimesh.ray, 'has_embree', False)
    write(tmp_path / 'part.stl', BRICK)
    assert main(['new', str(tmp_path / 'part.stl'), '--output', str(tmp_path / 'out')]) == 2
    assert "embreex, which is not installed; install mrcnet_ros with the extra 'train'" in (
        capsys.readouterr().err)
    assert not (tmp_path / 'out').exists()


def test_objects_that_the_start_knows_keep_their_weights(tiny_model: TinyModel) -> None:
    """Only if the model was trained for the same mesh, symmetries and views."""
    objects, prior = tiny_model.config.load_objects(), tiny_model.config.view_prior
    labels = [item.label for item in objects]
    assert known_labels(tiny_model.path, objects, prior) == labels
    assert known_labels(tiny_model.path, [replace(objects[0], label='new'), objects[1]],
                        prior) == labels[1:]
    half_turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    other = replace(objects[0], symmetries=Symmetries(np.stack([np.eye(4), half_turn])))
    assert known_labels(tiny_model.path, [other, *objects[1:]], prior) == []
    about_x = np.diag([1.0, -1.0, -1.0, 1.0])  # as many, about another axis
    other = replace(objects[1], symmetries=Symmetries(np.stack([np.eye(4), about_x])))
    assert known_labels(tiny_model.path, [objects[0], other], prior) == []
    parts: Any = objects  # both have labels
    assert 'all objects are trained as new' in known_in_words(tiny_model.path, parts, [])
    assert 'keep their weights' in known_in_words(tiny_model.path, parts, labels)
    assert known_in_words(tiny_model.path, [replace(parts[0], label='new')], []) == ''
    assert known_labels(tiny_model.path, objects, None if prior else TABLE) == []


@pytest.mark.parametrize(('changes', 'told'), [
    (['view=500'], "unknown fields ['view']"),
    (['device=gpu'], 'device must be cpu, cuda or cuda:N'),
    (['device=cuda:99'], 'sees '),
    (['device=cuda', 'processes=2'], 'device cuda needs processes 1, got 2'),
    (['chances.ocluded=1'], "chances: unknown fields ['ocluded']"),
    (['detector.size_px=65'], 'size_px must be a multiple'),
    (['distance_m=[0.05, 0.5]'], 'distance_m begins at 0.05 m, but '),
    (['detector.distance_m=[0.05, 0.5]'], 'distance_m begins at 0.05 m'),
    (['init=models/demo'], '--start names the model'),
    (['detector.init=models/demo'], '--start names the model'),
])
def test_fields_that_cannot_be_used_are_told_before_anything_is_written(
        tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str],
        changes: list[str], told: str) -> None:
    """Whether of the poses or of the detector; nothing has to be removed."""
    sets = [word for change in changes for word in ('--set', change)]
    command = beginning(tiny_model, tmp_path)
    assert main([*command, '--detector', *sets]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('of', ['', 'detector.'])
def test_a_part_must_not_disturb_its_own_training(
        tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str],
        of: str) -> None:
    """A folder of parts holds the one that the model is for; it is read from another format."""
    command = beginning(tiny_model, tmp_path)
    write(tmp_path / 'bolt.stl', BRICK, 0.3)
    assert main([*command, '--detector', '--set', f'{of}disturbers=[{tmp_path}]']) == 2
    assert "part.stl is the mesh of 'part' itself" in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_part_of_twelve_metres_is_taken(
        tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine of its diameters are farther than any distance of a training, 100 m."""
    monkeypatch.setattr('mrcnet_ros.new_model.steps.Work', stop)
    command = beginning(tiny_model, tmp_path)
    write(tmp_path / 'part.stl', BRICK, 12.0 / float(np.linalg.norm(BRICK.extents)))
    with pytest.raises(Stopped):
        main([*command, '--unit', 'm', '--detector'])


def test_a_gpu_trains_poses_in_one_process(
        tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else has to be set; the detector, trained on the CPU, has its processes."""
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr('mrcnet_ros.new_model.steps.load_views', lambda *_: None)
    monkeypatch.setattr('mrcnet_ros.new_model.steps.load_templates', lambda *_: None)
    monkeypatch.setattr('mrcnet_ros.new_model.steps.load_object_views', stop)
    with pytest.raises(Stopped):
        main([*beginning(tiny_model, tmp_path), '--detector', '--set', 'device=cuda'])
    poses, detector = (yaml.safe_load((tmp_path / 'out' / 'work' / name).read_text())
                       for name in ('train.yaml', 'detector.yaml'))
    assert (poses['processes'], detector['processes']) == (1, 2)


@pytest.mark.parametrize(('wrong', 'told', 'right'), [
    (['--set', 'emphasis.prt=2'], "is 'part' meant?", ['--set', 'emphasis.part=2']),
    (['--symmetry', 'part=z3'], '--symmetry part=z3: ', ['--symmetry', 'part=z2'])])
def test_what_fails_before_the_views_are_there_can_be_corrected(
        tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str], wrong: list[str], told: str, right: list[str]) -> None:
    """In the same output: options are held fast from when the training can begin."""
    monkeypatch.setattr('mrcnet_ros.new_model.steps.load_views', stop)
    command = beginning(tiny_model, tmp_path)
    assert main([*command, *wrong]) == 2
    assert told in capsys.readouterr().err
    with pytest.raises(Stopped):
        main([*command, *right])


def test_names_that_read_like_numbers_are_names(
        tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a part, and of the folder that the model is called after."""
    monkeypatch.setattr('mrcnet_ros.new_model.steps.load_views', stop)
    command = beginning(tiny_model, tmp_path)
    (tmp_path / 'part.stl').rename(tmp_path / '7E3.stl')
    words = {str(tmp_path / 'part.stl'): '7E3.stl', str(tmp_path / 'out'): '1e3'}
    with pytest.raises(Stopped):
        main([str(tmp_path / words[word]) if word in words else word for word in command])
    assert list(load_object_list(tmp_path / '1e3' / 'objects.yaml')) == [1]
    assert read_values(tmp_path / '1e3' / 'work' / 'train.yaml')['name'] == '1e3'


@pytest.mark.parametrize(('words', 'told'), [
    ([], 'give mesh files, or --bop-dir'),
    (['a.stl', '--bop-dir', 'x', '--dataset', 'ycbv'], 'give mesh files, or --bop-dir'),
    (['--bop-dir', 'x'], 'give mesh files, or --bop-dir'),
    (['a.stl', '--ids', '1'], '--ids chooses from a dataset'),
    (['a.stl', '--minutes', '-1'], '--minutes must be positive'),
    (['a.stl', '--symmetry', 'a'], 'expected NAME=KIND'),
    (['gone.stl'], 'gone.stl'),
])
def test_options_that_do_not_fit_are_refused(tmp_path: Path, words: list[str], told: str,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is written."""
    assert main(['new', *words, '--output', str(tmp_path / 'out')]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
