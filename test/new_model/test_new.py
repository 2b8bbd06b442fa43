"""mrcnet new, from a mesh to a model that answers, as the page about an own object has it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
import yaml
from new_model.shapes import BRICK, SMALL, write
from tiny_model import TinyModel, random_stem

from mrcnet_ros.cli.main import main
from mrcnet_ros.cli.train import read_stem
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
from mrcnet_ros.new_model.steps import Maker
from mrcnet_ros.objects import ObjectModel
from mrcnet_ros.synth.held_out import held_out_frames

PAGE = Path(__file__).parents[2] / 'docs' / 'own_object.md'


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
    """Return the first command of the tutorial, in the present folder instead of ~."""
    found = re.search(r'^    (mrcnet new part.*)$', PAGE.read_text(), re.MULTILINE)
    assert found is not None
    return [word.removeprefix('~/') for word in shlex.split(found[1])[1:]]


@pytest.fixture(scope='module')
def made(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory,
         ) -> Iterator[Made]:
    """Run the command of the tutorial on a box whose origin is far away."""
    folder = tmp_path_factory.mktemp('own')
    box = BRICK.copy()
    box.apply_translation([200, 0, 15])
    write(folder / 'part.stl', box)
    torch.save(read_stem(None) | random_stem(), folder / 'stem.pt')
    command = [*command_of_the_page(), '--start', str(tiny_model.path), '--stem',
               str(folder / 'stem.pt'), '--backgrounds', str(tiny_model.config.backgrounds[0]),
               *SMALL]
    with pytest.MonkeyPatch.context() as patch, Captured() as captured:
        patch.chdir(folder)
        patch.setenv('MRCNET_CACHE', str(folder / 'store'))
        output = folder / 'models' / 'trial'
        with pytest.MonkeyPatch.context() as killed:
            killed.setattr(Maker, '_measure', interrupt)
            assert main(command) == 130
        before = [p.name for p in output.iterdir()]
        (folder / 'elsewhere').mkdir()
        patch.chdir(folder / 'elsewhere')
        code = main([f'../{word}' if word in ('part.stl', 'models/trial') else word
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
    assert '--images 3 may give too few poses' in made.printed
    assert 'mrcnet calibrate --synthetic --model ../models/trial --distance 0.' in made.printed
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


@pytest.mark.parametrize('name', ['parts #2', 'a: b', 'ends with:', 'q"uote: x'])
def test_the_line_without_ros_survives_marks_of_yaml(tmp_path: Path, name: str) -> None:
    """ROS reads the value of a parameter as YAML, in which they begin something else."""
    words = shlex.split(line_without_ros(tmp_path / name, detector=True))
    for word in (words[4], words[-1]):
        assert yaml.safe_load(word.partition(':=')[2]) == str(tmp_path / name)


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
    judged = judged_poses(done, {'ball': ball}, {'ball': 1.0})
    assert judged and all(pose.right for pose in judged)
