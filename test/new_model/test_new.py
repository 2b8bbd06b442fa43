"""mrcnet new, from a mesh to a model that answers, as the page about an own object has it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
import yaml
from bop_folder import write_models
from new_model.shapes import write
from tiny_model import TinyModel, random_stem

from mrcnet_ros.cli.main import main
from mrcnet_ros.datasets.bop import ResultRow
from mrcnet_ros.evaluation.runner import Run
from mrcnet_ros.evaluation.score_errors import judged_poses
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.inference.scoring import Evidence
from mrcnet_ros.new_model.measuring import measured_answers
from mrcnet_ros.new_model.page import line_without_ros, start_lines
from mrcnet_ros.new_model.request import TABLE
from mrcnet_ros.new_model.steps import Maker
from mrcnet_ros.new_model.training_plan import known_in_words, known_labels
from mrcnet_ros.objects import ObjectModel, load_object_list
from mrcnet_ros.synth.held_out import held_out_frames
from mrcnet_ros.training.run_config import read_values

BOX = trimesh.creation.box((84, 52, 30))
PAGE = Path(__file__).parents[2] / 'docs' / 'own_object.md'
# as little of everything as there can be, so that the test is over in seconds
SMALL = ('--set', 'views=8', '--set', 'patches=8', '--set', 'bodies=2', '--set', 'processes=1',
         '--set', 'minutes=0.01', '--set', 'batch_size=8', '--images', '3')


@dataclass(frozen=True)
class Made:
    """A model and the command that made it.

    :param before: what the output held after an interruption just before the measuring.
    """

    output: Path
    before: list[str]
    command: list[str]
    printed: str
    code: int


def command_of_the_page() -> list[str]:
    """Return the first command of the tutorial."""
    found = re.search(r'^    (mrcnet new part.*)$', PAGE.read_text(), re.MULTILINE)
    assert found is not None
    return shlex.split(found[1])[1:]


@pytest.fixture(scope='module')
def made(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory,
         ) -> Iterator[Made]:
    """Run the command of the tutorial on a box whose origin is far away."""
    folder = tmp_path_factory.mktemp('own')
    box = trimesh.creation.box((84, 52, 30))
    box.apply_translation([200, 0, 15])
    write(folder / 'part.stl', box)
    torch.save(random_stem(), folder / 'stem.pt')
    command = [*command_of_the_page(), '--start', str(tiny_model.path), '--stem',
               str(folder / 'stem.pt'), '--backgrounds', str(tiny_model.config.backgrounds[0]),
               *SMALL]
    with pytest.MonkeyPatch.context() as patch, Captured() as captured:
        patch.chdir(folder)
        patch.setenv('MRCNET_CACHE', str(folder / 'store'))
        output = folder / 'models' / 'parts'
        with pytest.MonkeyPatch.context() as killed:
            killed.setattr(Maker, '_measure', interrupt)
            assert main(command) == 130
        before = [p.name for p in output.iterdir()]
        (folder / 'elsewhere').mkdir()
        patch.chdir(folder / 'elsewhere')
        code = main([f'../{word}' if word in ('part.stl', 'models/parts') else word
                     for word in command])
        yield Made(output, before, command, captured.text(), code)


def interrupt(*_: object) -> None:
    """Stand in for a step in which the user presses Ctrl+C."""
    raise KeyboardInterrupt


class Captured:
    """Keeps what is printed, for a fixture that lives longer than capsys."""

    def __enter__(self) -> Captured:
        """Start."""
        import contextlib
        import io

        self._out = io.StringIO()
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(contextlib.redirect_stdout(self._out))
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._stack.close()

    def text(self) -> str:
        """Return what was printed."""
        return self._out.getvalue()


def test_the_command_of_the_page_makes_a_model(made: Made) -> None:
    """It says the size, that it cannot tell errors of too few images, and that poses are wrong."""
    assert 'part.stl: 84 x 52 x 30 mm, read as millimetres' in made.printed
    assert 'part: symmetries: 3 turns' in made.printed
    assert 'report.html' in made.printed
    assert made.code == 1 and 'too few' in made.printed
    assert '% of the poses of part are right' in made.printed


def test_the_model_answers_in_the_frame_of_the_file(made: Made) -> None:
    """Its box is where the file has the object; it needs nothing but its folder."""
    entry = json.loads((made.output / 'model.json').read_text())['objects'][0]
    np.testing.assert_allclose(entry['middle_m'], [0.2, 0, 0.015], atol=1e-6)
    assert len(entry['symmetries']) == 4
    estimator = PoseEstimator.load(made.output)
    try:
        bounds = estimator.objects['part'].bounds()
    finally:
        estimator.close()
    np.testing.assert_allclose(bounds.mean(axis=0), [0.2, 0, 0.015], atol=1e-6)


def test_an_interrupted_model_is_none_until_it_is_whole(made: Made) -> None:
    """It goes on from another folder, and no step is done twice."""
    assert sorted(made.before) == ['meshes', 'objects.yaml', 'work']
    assert 'the same command goes on from here' in made.printed
    for step in ('looking at the meshes', 'training', 'exporting'):
        assert made.printed.count(f'{step} (') == 1, step
    assert (made.output / 'model.json').is_file()
    assert not list((made.output / 'work' / 'model').iterdir())


def test_the_page_needs_nothing_else(made: Made) -> None:
    """Pictures are in it; it shows the object, its note, and how to start the model."""
    text = (made.output / 'report.html').read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    text, pictures = re.subn(r'data:image/png;base64,[^"]+', '', text)
    assert pictures >= 2 and 'http' not in text  # four letters that pictures may contain
    for part in ('84 x 52 x 30 mm', '3 turns', 'frame of the file', 'pose.launch.py model:=',
                 'too few', '% of the poses of part are right',
                 'for 0.01 minutes, with 8 rendered views'):  # as --set has it
        assert part in text, part


def test_the_lines_for_the_robot_survive_a_folder_with_spaces(tmp_path: Path) -> None:
    """A shell takes the folder as one word; others stay as they are."""
    for folder in (tmp_path / 'my parts', tmp_path / 'parts'):
        for line in (start_lines(folder, detector=True)[1],
                     line_without_ros(folder, detector=True)):
            words = shlex.split(line)
            assert words[4] == f'model:={folder}' and words[-1] == f'detector:={folder}'
    assert "'" not in start_lines(tmp_path / 'parts')[1]


def test_a_second_start_does_nothing_twice(made: Made, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    """What is done is kept; only the page is written again."""
    monkeypatch.chdir(made.output.parents[1])

    def never(*_: object) -> Any:
        raise AssertionError('done already')

    for step in ('_look', '_render', '_export', '_measure'):
        monkeypatch.setattr(Maker, step, never)
    (made.output / 'report.html').unlink()
    state = made.output / 'work' / 'state.json'
    values = json.loads(state.read_text())
    del values['trained']  # killed at the end of the training: no time is left for it
    state.write_text(json.dumps(values))
    assert main(made.command) == 1
    told = capsys.readouterr().out
    assert 'going on in' in told and 'training (0:00 left)' in told
    assert (made.output / 'report.html').is_file()


@pytest.mark.parametrize(('change', 'told'), [
    (['--views', 'table'], r'was begun with other views \({"views": "any"}\)'),
    (['--symmetry', 'part=none'], 'was begun with other symmetries'),
    (['--detector'], r'was begun with other detector'),
    ([], r'was begun with other meshes \(changed: part.stl\)'),
    (['--symmetry', 'pin=none'], "is of \\['pin'\\]"),
])
def test_another_request_in_the_same_output_is_refused(
        made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        change: list[str], told: str) -> None:
    """It says what differs and what to do, and leaves the model as it is."""
    monkeypatch.chdir(made.output.parents[1])
    before = (made.output / 'model.json').read_bytes()
    if not change:
        monkeypatch.setattr('mrcnet_ros.new_model.work.mesh_digest', lambda _: 'of a new file')
    assert main([*made.command, *change]) == 2
    assert re.search(told, capsys.readouterr().err)
    assert (made.output / 'model.json').read_bytes() == before


def test_a_model_whose_work_folder_is_gone_is_left_as_it_is(
        tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page says that the work folder may be removed; nothing can continue then."""
    part, model = write(tmp_path / 'part.stl', BOX), tmp_path / 'out' / 'model.json'
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
        start, 'model.json', lambda model: model['files'].update({'weights.pt': 'others'}))
    with pytest.raises(Stopped):
        go_on(models, 'models_info.json', lambda info: info['1'].pop('symmetries_discrete', 0))
    with pytest.raises(Stopped):
        go_on(start, 'model.json', lambda model: model.update({'name': 'another'}))


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
    write(tmp_path / 'part.stl', trimesh.creation.box((84, 52, 30)))
    assert main(['new', str(tmp_path / 'part.stl'), '--output', str(tmp_path / 'out'), '--start',
                 str(start)]) == 2
    told = capsys.readouterr().err
    assert 'has no weights.pt' in told and '--start SOURCES/models/lmo' in told
    assert not (tmp_path / 'out').exists()


def test_a_missing_ray_tracer_is_told_before_anything_is_written(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """Not after the search for symmetries, which takes minutes."""
    monkeypatch.setattr(trimesh.ray, 'has_embree', False)
    write(tmp_path / 'part.stl', BOX)
    assert main(['new', str(tmp_path / 'part.stl'), '--output', str(tmp_path / 'out')]) == 2
    assert "embreex, which is not installed; pip install 'mrcnet_ros[train]'" in (
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
    (['chances.ocluded=1'], "unknown ['ocluded']"),
    (['detector.size_px=65'], 'size_px must be a multiple'),
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


def beginning(tiny_model: TinyModel, folder: Path) -> list[str]:
    """Return a command that begins a model of a box in ``out``."""
    part = write(folder / 'part.stl', BOX)
    return ['new', str(part), '--output', str(folder / 'out'), '--start', str(tiny_model.path),
            '--backgrounds', str(tiny_model.config.backgrounds[0]), '--minutes', '1']


def test_a_ball_of_any_rotation_is_right(tmp_path: Path) -> None:
    """The report compares its position, and the law of scores learns that such poses are right."""
    mesh = write(tmp_path / 'ball.ply', trimesh.creation.icosphere(subdivisions=3, radius=50))
    circles = [{'axis': axis, 'offset': [0, 0, 0]} for axis in ([0, 0, 1], [1, 0, 0])]
    ball = ObjectModel(
        object_id=1, label='ball', mesh_path=mesh, diameter_m=0.1,
        symmetries=Symmetries.from_bop({'symmetries_continuous': circles}, 0.001))
    done, rng = Run(), np.random.default_rng(0)
    for frame in held_out_frames([ball], 8, upright=False):
        for truth in frame.target_ground_truth():
            T = make_transform(exp_so3(2 * rng.normal(size=3)), truth.T_camera_object[:3, 3])
            done.rows.append(ResultRow(frame.scene_id, frame.image_id, 1, 0.9, T))
            done.poses.append(PoseEstimate('ball', 1, T, 0.9, 0, '', truth.box_amodal_xyxy,
                                           evidence=Evidence(0.9)))
        done.frames.append(frame)
    answers = measured_answers(done, {'ball': ball})
    assert answers and max(a.mssd_part for a in answers) < 0.01
    assert max(a.rotation_deg for a in answers) < 1e-6
    judged = judged_poses(done.frames, done.rows, done.poses, {'ball': ball}, {'ball': 1.0})
    assert judged and all(pose.right for pose in judged)


class Stopped(Exception):
    """Ends a command before its long steps."""


def stop(*_: object) -> None:
    """End the command here."""
    raise Stopped


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
