"""The measuring tools as commands, on a tiny model and a small dataset of its objects."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('torch', reason='needs the train extra')

import measured_model
from tiny_model import TinyModel

from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.datasets.boxes import BoxSpec
from mrcnet_ros.datasets.known_view import KnownView, photographed
from mrcnet_ros.evaluation import response, swap
from mrcnet_ros.evaluation.response import RefinerAlone, Stage2Alone
from mrcnet_ros.evaluation.runner import estimate_view
from mrcnet_ros.geometry.se3 import rotation_angle
from mrcnet_ros.inference.calibration_entries import write_size_ratios
from mrcnet_ros.inference.consensus import mean_pose
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.refinement import ANSWER_WEIGHT
from mrcnet_ros.rendering.template_store import TemplateStore

RUNGS = ['clean renders', '+ occluders, clutter', '+ changed colours and light', 'photographs']


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> Path:
    """Write a configuration and a dataset of the objects of the tiny model."""
    folder = tmp_path_factory.mktemp('measured')
    measured_model.write_dataset(folder, tiny_model)
    measured_model.write_config(folder / 'train.yaml', tiny_model.config)
    return folder


@pytest.fixture(scope='module')
def estimator(tiny_model: TinyModel) -> PoseEstimator:
    return PoseEstimator.load(tiny_model.path, tiny_model.meshes, store_root=tiny_model.store,
                              backend='onnxruntime', threads=1, crops=1)


@pytest.fixture(scope='module')
def views(folder: Path, estimator: PoseEstimator) -> list[KnownView]:
    labels = {item.object_id: label for label, item in estimator.objects.items()}
    return photographed(BopDataset(folder, measured_model.DATASET).frames, labels, BoxSpec())


def run(folder: Path, model: TinyModel, task: str, *extra: str) -> tuple[int, dict[str, Any]]:
    """Run a task and return its exit code and its figures."""
    code = mrcnet.main([
        'evaluate', task, '--bop-dir', str(folder), '--dataset', measured_model.DATASET,
        '--model', str(model.path), '--meshes', str(model.meshes), '--threads', '1',
        '--json', str(folder / f'{task}.json'), *extra])
    file = folder / f'{task}.json'
    return code, json.loads(file.read_text()) if file.exists() else {}


def composed(folder: Path) -> list[str]:
    return ['--config', str(folder / 'train.yaml'), '--views', '4', '--samples', '5']


def test_the_ladder_has_a_row_for_each_kind_of_image(
        folder: Path, tiny_model: TinyModel, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows tell recalls and errors, and the file tells what they were measured with."""
    code, figures = run(folder, tiny_model, 'ladder', *composed(folder))
    assert code == 0 and list(figures['rows']) == RUNGS and figures['complete']
    targets = {row['all']['targets'] for row in figures['rows'].values()}
    assert targets == {figures['targets']} and figures['targets'] > 0
    assert figures['boxes'] == {'kind': 'visib', 'jitter': 0.0, 'seed': 0}
    for row in figures['rows'].values():
        assert 0 <= row['all']['ar_mean'] <= 1 and row['all']['rotation_deg'] > 0
        assert sum(o['targets'] for o in row['objects'].values()) == row['all']['targets']
        assert set(row['objects']) == {'blob', 'box'}
    assert figures['config']['seed'] != 0 and len(figures['model']['sha256_of_model_json']) == 64
    printed = capsys.readouterr().out
    assert all(name in printed for name in RUNGS)


def test_the_row_of_photographs_is_what_evaluate_bop_scores(
        folder: Path, tiny_model: TinyModel) -> None:
    """One crop, the same boxes, each object once in an image: the same recall."""
    _, figures = run(folder, tiny_model, 'ladder', *composed(folder))
    code, scored = run(folder, tiny_model, 'bop', '--crops', '1',
                       '--csv', str(folder / 'out.csv'))
    assert code == 0
    row = figures['rows']['photographs']['all']
    assert row['targets'] == scored['overall']['targets'] == 4
    for key in ('ar_mssd', 'ar_mspd', 'near'):
        assert row[key] == pytest.approx(scored['overall'][key])


def test_a_configuration_without_an_object_of_the_dataset_is_refused(
        folder: Path, tiny_model: TinyModel, capsys: pytest.CaptureFixture[str]) -> None:
    """The object is named, and what the configuration has instead."""
    listed = tiny_model.config.models.read_text().replace('label: box', 'label: crate')
    other = tiny_model.config.models.with_name('other.yaml')
    other.write_text(listed)
    measured_model.write_config(folder / 'other.yaml', tiny_model.config, models=str(other))
    code, _ = run(folder, tiny_model, 'ladder', '--config', str(folder / 'other.yaml'))
    said = capsys.readouterr().err
    assert code == 2 and "['box']" in said and "['blob', 'crate']" in said


def test_after_an_error_the_rows_done_are_kept(
        folder: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """Control-C in the second row leaves the first, in the table and in the file."""
    from mrcnet_ros.evaluation import ladder

    ask, done = ladder.graded_answers, []

    def interrupted(*question: Any) -> list[ladder.GradedPose]:
        if done:
            raise KeyboardInterrupt
        done.append(question)
        return ask(*question)

    monkeypatch.setattr(ladder, 'graded_answers', interrupted)
    code, figures = run(folder, tiny_model, 'ladder', *composed(folder))
    assert code == 130
    assert figures['complete'] is False and list(figures['rows']) == RUNGS[:1]
    printed = capsys.readouterr().out
    assert RUNGS[0] in printed and RUNGS[1] not in printed


@pytest.mark.parametrize('task', ['ladder', 'response', 'swap'])
def test_a_file_that_cannot_be_written_is_told_before_all_else(
        folder: Path, tiny_model: TinyModel, capsys: pytest.CaptureFixture[str],
        task: str) -> None:
    """Not after minutes of work."""
    extra = composed(folder) if task == 'ladder' else []
    code, _ = run(folder, tiny_model, task, *extra, '--json', '/dev/null/out.json')
    said = capsys.readouterr().err
    assert code == 2 and '/dev/null/out.json: cannot be written' in said
    assert 'backend' not in said


def test_a_model_of_the_paper_preset_is_refused(
        folder: Path, tiny_model: TinyModel, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    """The test is made for cached templates and crops of the default preset."""
    values = json.loads((tiny_model.path / 'model.json').read_text())
    values['spec']['preset'] = 'paper'
    (tmp_path / 'model.json').write_text(json.dumps(values))
    code = mrcnet.main([
        'evaluate', 'swap', '--bop-dir', str(folder), '--dataset', measured_model.DATASET,
        '--model', str(tmp_path), '--json', str(tmp_path / 'out.json')])
    assert code == 2 and 'paper preset' in capsys.readouterr().err


def test_stage_two_started_as_the_estimator_starts_it_answers_the_same(
        estimator: PoseEstimator, views: list[KnownView]) -> None:
    """A start at stage 1's pose with an exact template ends where the exact estimator ends."""
    from mrcnet_ros.evaluation.exact_estimator import ExactPoseEstimator

    exact = ExactPoseEstimator(estimator.model, estimator.backend, TemplateStore(), crops=1,
                               hypotheses=1)
    coarse = PoseEstimator(estimator.model, estimator.backend, TemplateStore(), crops=1,
                           stage1_only=True)
    with Stage2Alone(estimator) as stage:
        for view in views:
            start, wanted = estimate_view(view, coarse), estimate_view(view, exact)
            assert start is not None and wanted is not None
            ends = stage.refine(view, [start, view.T_camera_object])
            np.testing.assert_allclose(ends[0], wanted, atol=2e-4)
            assert not np.allclose(ends[1], wanted, atol=2e-4)
    exact.close()


def test_stage_two_alone_takes_objects_as_large_as_the_estimator_does(
        tiny_model: TinyModel, estimator: PoseEstimator, views: list[KnownView],
        tmp_path: Path) -> None:
    """On rendered images sizes from photographs do not count."""
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    write_size_ratios(path, {'blob': 0.9, 'box': 0.9})
    smaller = PoseEstimator.load(path, tiny_model.meshes, store_root=tiny_model.store,
                                 backend='onnxruntime', threads=1, crops=1)
    ends = []
    for fit in (lambda: None, smaller.assume_sizes_of_meshes):
        fit()
        with Stage2Alone(smaller) as stage:
            ends.append([stage.refine(v, [v.T_camera_object])[0] for v in views])
    with Stage2Alone(estimator) as stage:
        wanted = [stage.refine(v, [v.T_camera_object])[0] for v in views]
    np.testing.assert_allclose(ends[1], wanted, atol=1e-5)
    assert not np.allclose(ends[0], wanted, atol=1e-3)
    smaller.close()


def test_the_refiner_alone_answers_as_in_the_estimator(
        refined_model: TinyModel, views: list[KnownView], tmp_path: Path) -> None:
    """One pass goes most of the way to where it ends; sizes from photographs count in both."""
    path = shutil.copytree(refined_model.path, tmp_path / 'model')
    write_size_ratios(path, {'blob': 0.9, 'box': 1.1})
    plain, refined = (PoseEstimator.load(
        path, refined_model.meshes, store_root=refined_model.store, backend='onnxruntime',
        threads=1, crops=1, hypotheses=1, refine=n) for n in (0, 1))
    stage = RefinerAlone(refined.refiner, plain.objects)
    compared = 0
    for view in views:
        start, wanted = estimate_view(view, plain), estimate_view(view, refined)
        (end,) = stage.refine(view, [start])
        item = plain.objects[view.label]
        a, b = item.to_centred(start), item.to_centred(end)
        near = rotation_angle(a[:3, :3].T @ b[:3, :3]) < np.radians(25)
        if near and np.linalg.norm(a[:3, 3] - b[:3, 3]) < 0.5 * item.diameter_m:
            mean = mean_pose(np.stack([a, b]), np.array([1.0, ANSWER_WEIGHT]))
            np.testing.assert_allclose(item.to_centred(wanted), mean, atol=1e-5)
            compared += 1
    assert compared
    plain.close()
    refined.close()


def test_the_refiner_is_tested_by_the_command(
        folder: Path, tiny_model: TinyModel, refined_model: TinyModel, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On photographs and on training images; a model without one is refused."""
    monkeypatch.setenv('MRCNET_CACHE', str(tiny_model.store))

    def command(model: TinyModel) -> int:
        return mrcnet.main([
            'evaluate', 'response', '--bop-dir', str(folder), '--dataset', measured_model.DATASET,
            '--model', str(model.path), '--meshes', str(model.meshes), '--stage', 'refiner',
            '--config', str(folder / 'train.yaml'), '--views', '4', '--samples', '2',
            '--threads', '1', '--json', str(tmp_path / 'out.json')])

    assert command(refined_model) == 0
    figures = json.loads((tmp_path / 'out.json').read_text())
    assert figures['stage'] == 'refiner' and figures['complete']
    assert list(figures['starts']) == ['photographs', 'training images']
    capsys.readouterr()
    assert command(tiny_model) == 2 and 'has no refiner' in capsys.readouterr().err


class Halves:
    """A stage that halves every error along the straight way."""

    def refine(self, view: KnownView, starts: list[np.ndarray]) -> list[np.ndarray]:
        from scipy.spatial.transform import Rotation

        ends = []
        for start in starts:
            end, R_true = start.copy(), view.T_camera_object[:3, :3]
            turn = Rotation.from_matrix(R_true.T @ start[:3, :3]).as_rotvec() / 2
            end[:3, :3] = R_true @ Rotation.from_rotvec(turn).as_matrix()
            end[:3, 3] = (start[:3, 3] + view.T_camera_object[:3, 3]) / 2
            ends.append(end)
        return ends


def test_the_response_test_measures_any_stage(
        folder: Path, estimator: PoseEstimator, views: list[KnownView]) -> None:
    """Starts are as far off as they say; a stage that halves errors is seen to halve them."""
    from mrcnet_ros.evaluation.ladder import Judge
    from mrcnet_ros.objects import load_bop_objects

    dataset = BopDataset(folder, measured_model.DATASET)
    known = load_bop_objects(dataset.models_dir)
    judge = Judge({label: known[item.object_id] for label, item in estimator.objects.items()},
                  estimator.spec.crop)
    found = response.respond(views, Halves(), judge, lambda view: None)
    rows = response.figures(found, views, judge, photographs=True)
    for turn in (5, 10, 15, 25):
        row = rows[f'{turn} degrees off']
        assert row['start']['all']['rotation_deg'] == pytest.approx(turn)
        assert row['end']['all']['rotation_deg'] == pytest.approx(turn / 2)
    assert rows['3 px off']['start']['all']['xy_px'] == pytest.approx(3)
    assert rows['3 px off']['end']['all']['xy_px'] == pytest.approx(1.5, rel=0.01)
    size = rows['10% of size off']
    assert 9 < size['start']['all']['depth_percent'] < 10.1
    assert size['end']['all']['depth_percent'] == pytest.approx(
        size['start']['all']['depth_percent'] / 2, rel=0.01)
    assert rows['true pose']['end']['all']['ar_mean'] == 1.0
    assert rows[response.OWN]['end']['all']['missed'] == len(views)


def test_response_prints_a_table_for_each_kind_of_image(
        folder: Path, tiny_model: TinyModel, capsys: pytest.CaptureFixture[str]) -> None:
    """Photographs alone without a configuration, training images too with one."""
    code, figures = run(folder, tiny_model, 'response')
    assert code == 0 and list(figures['starts']) == ['photographs']
    code, figures = run(folder, tiny_model, 'response', *composed(folder))
    assert code == 0 and list(figures['starts']) == ['photographs', 'training images']
    for rows in figures['starts'].values():
        assert rows['true pose']['start']['all']['ar_mean'] == 1.0
        assert rows['25 degrees off']['start']['all']['rotation_deg'] == pytest.approx(25)
    assert 'true pose' in capsys.readouterr().out


def test_swapped_objects_are_where_the_photographed_ones_were(
        estimator: PoseEstimator, views: list[KnownView]) -> None:
    """Each image changes only what it says: the object, what is around it, or both."""
    with swap.Swapper(estimator.objects) as swapper:
        for view in views[:2]:
            found = swapper.views(view)
            assert list(found) == list(swap.WAYS)
            pasted = (found[swap.PASTED].image != view.image).any(2)
            cut = (found[swap.CUT_OUT].image != view.image).any(2)
            both = found[swap.RENDERED].image
            inside = pasted & ~cut
            assert inside.sum() > 20 and cut.sum() > inside.sum()
            np.testing.assert_array_equal(both[inside], found[swap.PASTED].image[inside])
            np.testing.assert_array_equal(both[~pasted], found[swap.CUT_OUT].image[~pasted])
            rows, columns = np.nonzero(pasted)
            x1, y1, x2, y2 = view.box_xyxy
            assert x1 - 2 <= columns.min() and columns.max() <= x2 + 2
            assert y1 - 2 <= rows.min() and rows.max() <= y2 + 2


def test_a_smooth_background_has_nothing_of_the_object() -> None:
    """A white object in front of a grey wall leaves the grey wall."""
    image = np.full((60, 80, 3), 100, np.float32)
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:50] = True
    image[mask] = 255
    smooth = swap.smooth_background(image, mask, np.array([30.0, 20, 50, 40]))
    np.testing.assert_allclose(smooth, 100, atol=0.01)


def test_swap_prints_a_row_for_each_image(
        folder: Path, tiny_model: TinyModel, capsys: pytest.CaptureFixture[str]) -> None:
    """Only whole objects count, and a picture shows them."""
    code, figures = run(folder, tiny_model, 'swap', '--picture', str(folder / 'swap.png'))
    assert code == 0 and list(figures['rows']) == list(swap.WAYS)
    wanted = sum(t.visible_fraction > swap.MIN_VISIBLE for t in _targets(folder, tiny_model))
    assert {row['all']['targets'] for row in figures['rows'].values()} == {wanted}
    assert (folder / 'swap.png').stat().st_size > 1000
    assert swap.CUT_OUT in capsys.readouterr().out


def _targets(folder: Path, model: TinyModel) -> list[KnownView]:
    return photographed(BopDataset(folder, measured_model.DATASET).frames, {2: 'a', 7: 'b'},
                        BoxSpec())


def test_without_torch_the_ladder_says_what_to_install(folder: Path,
                                                       tiny_model: TinyModel) -> None:
    """Composed images need the train extra; swap and photographs do not."""
    command = ['evaluate', 'ladder', '--bop-dir', str(folder), '--dataset',
               measured_model.DATASET, '--model', str(tiny_model.path), '--meshes',
               str(tiny_model.meshes), '--json', str(folder / 'none.json'), *composed(folder)]
    script = ("import sys; sys.modules['torch'] = None\n"
              f'from mrcnet_ros.cli.main import main; sys.exit(main({command!r}))')
    result = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                            check=False)
    assert result.returncode == 2 and "extra 'train'" in result.stderr
