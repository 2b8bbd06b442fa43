"""The mrcnet command and its evaluate part, with estimators whose errors are known."""

import dataclasses
import json

import bop_folder
import cv2
import numpy as np
import pytest
from html_check import check_html

from mrcnet_ros.cli import evaluate_bop
from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.datasets.bop import BopDataset, ResultRow, read_results_csv, write_results_csv
from mrcnet_ros.errors import ImageError
from mrcnet_ros.inference.depth_alignment import DepthFit
from mrcnet_ros.inference.poses import FrameResult, PoseEstimate, Skipped
from mrcnet_ros.objects import load_bop_objects
from mrcnet_ros.rendering.drawing import GREEN, draw_text, scaled_intrinsics

LABELS = {1: 'blob', 3: 'die'}


root = bop_folder.root_fixture()


class KnowsTheTruth:
    """Finds the annotation whose box it is given; its poses are off by a known shift."""

    def __init__(self, root, *, shift_m=0.0, known=(1, 3), fails_at=None, fit=None, stands=False):
        models = load_bop_objects(root / 'toy' / 'models_eval', known, LABELS)
        self.objects = {model.label: model for model in models.values()}
        self.frames = iter(BopDataset(root, 'toy', 'test').frames)
        self.shift_m, self.fails_at, self.fit, self.stands = shift_m, fails_at, fit, stands
        self.boxes = []

    def estimate(self, image_rgb, camera, detections, most=None):
        """Answer with the truth, moved; one call an image, in the order of the dataset."""
        frame = next(self.frames)
        np.testing.assert_array_equal(image_rgb, frame.load_image())
        if frame.image_id == self.fails_at:
            raise ImageError('image went bad')
        poses, skipped = [], []
        for index, detection in enumerate(detections):
            self.boxes.append(detection.box_xyxy)
            middle = (detection.box_xyxy[:2] + detection.box_xyxy[2:]) / 2
            model = self.objects[detection.label]
            truth = min((g for g in frame.ground_truth if g.object_id == model.object_id),
                        key=lambda g: np.linalg.norm(
                            camera.project(g.T_camera_object[:3, 3]) - middle))
            T = truth.T_camera_object.copy()
            T[2, 3] += self.shift_m
            poses.append(PoseEstimate(detection.label, model.object_id, T, 0.9, index, '',
                                      detection.box_xyxy, depth=self.fit, stands=self.stands))
        if frame.image_id == 17:
            skipped.append(Skipped(0, 'non_finite', 'for the test'))
        return FrameResult(poses, skipped, {'crop': 0.002, 'stage1': 0.03}, 3, 1)


def arguments(root, *extra):
    model = root / 'model'
    model.mkdir(exist_ok=True)
    (model / 'model.json').write_text('{}')
    return ['evaluate', 'bop', '--bop-dir', str(root), '--dataset', 'toy', '--model', str(model),
            '--csv', str(root / 'out.csv'), '--json', str(root / 'out.json'), *extra]


def evaluate(monkeypatch, root, estimator, *extra):
    """Run the real command with the estimator in place of a trained one."""
    monkeypatch.setattr(evaluate_bop, 'load_estimator', lambda args: estimator)
    code = mrcnet.main(arguments(root, *extra))
    figures = json.loads((root / 'out.json').read_text()) if (root / 'out.json').exists() else {}
    return code, figures


def test_perfect_poses_score_one_and_everything_is_written(monkeypatch, root, capsys):
    """CSV, JSON and table agree: five targets, all found, no error."""
    code, figures = evaluate(monkeypatch, root, KnowsTheTruth(root))
    assert code == 0
    assert figures['complete'] is True and figures['failure'] is None
    assert figures['command'].startswith('mrcnet evaluate bop --bop-dir')
    assert figures['overall']['ar_mean'] == 1.0
    assert figures['overall']['targets'] == figures['overall']['estimates'] == 5
    assert {i: o['label'] for i, o in figures['objects'].items()} == {'1': 'blob', '3': 'die'}
    assert len(figures['model']['sha256_of_model_json']) == 64
    assert figures['overall']['ar_vsd'] is None and 'depth' in figures['vsd_missing']
    assert figures['timings']['stage_median_ms'] == {'crop': 2.0, 'stage1': 30.0}
    assert figures['timings']['cache_hit_rate'] == 0.75
    assert figures['skipped'] == {'non_finite': 1}
    rows = read_results_csv(root / 'out.csv')
    assert len(rows) == 5 and all(row.time_s > 0 for row in rows)
    printed = capsys.readouterr().out
    assert '1 blob' in printed and '3 die' in printed and '1.000' in printed


@pytest.mark.parametrize('option', ['--refine', '--hypotheses'])
def test_what_stage_1_alone_does_not_do_is_refused(monkeypatch, root, capsys, option):
    """The figures would say that it was done."""
    assert evaluate(monkeypatch, root, KnowsTheTruth(root), '--stage1-only', option, '2')[0] == 2
    assert f'{option} would have no effect: --stage1-only' in capsys.readouterr().err


def test_images_that_are_not_on_disk_are_told(monkeypatch, root, caplog):
    """A split that is extracted in part is not scored as if it were whole, without a word."""
    assert evaluate(monkeypatch, root, KnowsTheTruth(root))[1]['images_without_file'] == 0
    assert not caplog.text
    next((root / 'toy/test').rglob('rgb/*')).unlink()
    figures = evaluate(monkeypatch, root, KnowsTheTruth(root))[1]
    assert figures['images_without_file'] == 1 and figures['images'] == 1
    assert '1 of 2 images with targets are not on disk' in caplog.text


def test_a_known_shift_is_measured(monkeypatch, root):
    """Poses 12 mm too far score as 12 mm of MSSD and of depth."""
    _, figures = evaluate(monkeypatch, root, KnowsTheTruth(root, shift_m=0.012))
    assert figures['overall']['median_depth_mm'] == pytest.approx(12.0)
    assert figures['overall']['median_signed_depth_mm'] == pytest.approx(12.0)
    assert 0.5 < figures['overall']['ar_mssd'] < 1.0


def test_what_size_ratios_are_worth_is_told(monkeypatch, root, capsys):
    """Right poses of an object 4 % larger than its mesh are too near when its mesh is believed."""
    estimator = KnowsTheTruth(root)
    assert evaluate(monkeypatch, root, KnowsTheTruth(root))[1]['without_size_ratios'] is None
    assert 'without size ratios' not in capsys.readouterr().out
    estimator.objects['die'] = dataclasses.replace(estimator.objects['die'], size_ratio=1.04)
    _, figures = evaluate(monkeypatch, root, estimator)
    without = figures['without_size_ratios']
    assert figures['overall']['ar_mssd'] == 1.0 and without['ar_mssd'] < 0.9
    assert without['targets'] == 5 and without['median_depth_percent'] == pytest.approx(
        100 * (1 - 1 / 1.04))
    assert '\nwithout size ratios ' in capsys.readouterr().out


def test_why_size_ratios_have_no_row_is_told(monkeypatch, root, capsys):
    """A pose that a plane has corrected does not depend on the size alone."""
    estimator = KnowsTheTruth(root, stands=True)
    estimator.objects['die'] = dataclasses.replace(estimator.objects['die'], size_ratio=1.04)
    assert evaluate(monkeypatch, root, estimator)[1]['without_size_ratios'] is None
    assert 'the row "without size ratios" is left out' in capsys.readouterr().out


@pytest.mark.parametrize(('changes', 'told'), [
    ({'object_id': 50}, 'the objects [1, 3], and the model knows none of them, only 50 (die)'),
    ({'diameter_m': 0.02}, 'object 3 there is obj_000003 of 139 mm with a box of 80 x 80 x 80 mm, '
                           'but object 3 of the model is die of 20 mm;'),
    ({'bounds_m': np.array([[0, 0, 0], [0.01, 0.1, 0.1]])},
     'a box of 80 x 80 x 80 mm, but object 3 of the model is die of 139 mm with a box of 10 x')])
def test_another_object_of_the_same_number_is_refused(monkeypatch, root, capsys, changes, told):
    """Its poses would score nearly 0, as those of a bad model do."""
    box = {f'{part}_{axis}': mm for axis in 'xyz' for part, mm in (('min', -40), ('size', 80))}
    bop_folder.edit(root / 'toy/models_eval/models_info.json', lambda info: info['3'].update(box))
    estimator = KnowsTheTruth(root, known=[3])
    estimator.objects['die'] = dataclasses.replace(estimator.objects['die'], **changes)
    assert evaluate(monkeypatch, root, estimator) == (2, {})
    assert told in capsys.readouterr().err and not (root / 'out.csv').exists()


@pytest.mark.parametrize(('bounds_mm', 'told'), [
    ([[-40, -40, 0], [40, 40, 80]], 'x -40 to 40, y -40 to 40, z 0 to 80 mm'),  # from its foot
    ([[-40, -36, -40], [40, 44, 40]], '')])  # another mesh of it
def test_the_same_object_in_another_frame_is_refused(
        monkeypatch, root, capsys, bounds_mm, told):
    """Every pose would be off by the distance of the origins, and score as a bad one."""
    box = {f'{part}_{axis}': mm for axis in 'xyz' for part, mm in (('min', -40), ('size', 80))}
    bop_folder.edit(root / 'toy/models_eval/models_info.json', lambda info: info['3'].update(box))
    estimator = KnowsTheTruth(root, known=[3])
    estimator.objects['die'] = dataclasses.replace(
        estimator.objects['die'], bounds_m=1e-3 * np.array(bounds_mm))
    code, figures = evaluate(monkeypatch, root, estimator)
    error = capsys.readouterr().err
    assert (code, figures == {}) == ((2, True) if told else (0, False))
    assert told in error and ('their frames differ' in error) == bool(told)


def test_an_object_the_model_lacks_counts_as_missed(monkeypatch, root):
    """Its targets stay in the denominator and the reason is reported."""
    _, figures = evaluate(monkeypatch, root, KnowsTheTruth(root, known=[3]))
    assert figures['objects']['1']['ar_mssd'] == 0.0
    assert figures['objects']['3']['ar_mssd'] == 1.0
    assert figures['overall']['ar_mssd'] == pytest.approx(3 / 5)
    assert figures['skipped']['not_in_model'] == 2


def test_after_an_error_the_images_done_are_kept(monkeypatch, root, capsys):
    """Rows and scores of the first image survive the failure of the second."""
    code, figures = evaluate(monkeypatch, root, KnowsTheTruth(root, fails_at=17))
    assert code == 2
    assert 'image went bad' in capsys.readouterr().err
    assert figures['complete'] is False
    assert figures['failure'] == 'ImageError: image went bad'
    assert figures['images'] == 1 and figures['overall']['targets'] == 2
    assert {row.image_id for row in read_results_csv(root / 'out.csv')} == {4}


def test_an_error_in_the_first_image_keeps_the_files_of_the_run_before(
        monkeypatch, root, capsys):
    """There is nothing to put in their place."""
    report = ('--report', str(root / 'report'))
    evaluate(monkeypatch, root, KnowsTheTruth(root), *report)
    files = [root / 'out.csv', root / 'out.json', root / 'report' / 'index.html']
    before = [file.read_bytes() for file in files]
    capsys.readouterr()
    assert evaluate(monkeypatch, root, KnowsTheTruth(root, fails_at=4), *report)[0] == 2
    said = capsys.readouterr()
    assert 'image went bad' in said.err and not said.out
    assert [file.read_bytes() for file in files] == before


def test_an_interrupted_run_keeps_the_images_done(monkeypatch, root, capsys):
    """Control-C in the second image leaves the scores of the first."""
    estimator = KnowsTheTruth(root)
    answer = estimator.estimate

    def interrupted(*question, **known):
        if estimator.boxes:
            raise KeyboardInterrupt
        return answer(*question, **known)

    monkeypatch.setattr(estimator, 'estimate', interrupted)
    code, figures = evaluate(monkeypatch, root, estimator)
    assert code == 130
    assert figures['failure'] == 'interrupted' and figures['overall']['targets'] == 2
    assert 'overall' in capsys.readouterr().out


def test_boxes_are_of_the_kind_and_jitter_asked_for(monkeypatch, root):
    """The estimator sees visible boxes by default, amodal or jittered ones when asked."""
    seen = {}
    for name, extra in {'visib': (), 'amodal': ('--boxes', 'amodal'),
                        'jitter': ('--box-jitter', '0.1', '--seed', '3')}.items():
        estimator = KnowsTheTruth(root)
        code, figures = evaluate(monkeypatch, root, estimator, *extra)
        assert code == 0
        seen[name] = np.array(estimator.boxes)
    np.testing.assert_array_equal(seen['amodal'] - seen['visib'], [[0, 0, 0, 6]] * 5)
    moved = np.abs(seen['jitter'] - seen['visib'])
    side = seen['visib'][:, 2:] - seen['visib'][:, :2]
    assert (moved > 0).all() and (moved <= 0.15 * np.tile(side, 2) + 1e-9).all()
    assert figures['boxes'] == {'kind': 'visib', 'jitter': 0.1, 'seed': 3}


def test_a_limit_takes_the_first_images(monkeypatch, root):
    """Only their targets count."""
    _, figures = evaluate(monkeypatch, root, KnowsTheTruth(root), '--limit', '1')
    assert figures['images'] == 1 and figures['overall']['targets'] == 2


def test_overlays_show_truth_and_estimate_where_they_are(monkeypatch, root):
    """White and green outlines run along the projected silhouettes, with a label."""
    code, _ = evaluate(monkeypatch, root, KnowsTheTruth(root, shift_m=0.15),
                       '--overlays', str(root / 'pictures'))
    assert code == 0
    assert sorted(p.name for p in (root / 'pictures').iterdir()) == [
        '000007_000004.png', '000007_000017.png']
    photo = cv2.imread(str(root / 'toy/test/000007/rgb/000004.png'))
    picture = cv2.imread(str(root / 'pictures/000007_000004.png'))
    assert picture.shape == (480, 640, 3)
    plain = cv2.resize(photo, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    changed = (picture != plain).any(axis=2)
    T = bop_folder.SCENE[4][0][1]
    K = scaled_intrinsics(bop_folder.K, 2)
    points = bop_folder.MESHES[1].vertices @ T[:3, :3].T + T[:3, 3]
    uv = points @ K.T
    u, v = (uv[:, :2] / uv[:, 2:]).T
    column, row = np.rint([u.min(), v[np.argmin(u)]]).astype(int)
    window = changed[row - 3:row + 4, column - 2:column + 4]
    assert window.any()
    assert 0.005 < changed.mean() < 0.2


def test_the_report_is_one_page_with_pictures(monkeypatch, root, capsys):
    """Scores, latency and the poses with outlines and residual depth, without any other file."""
    fit = DepthFit(np.eye(4), 'pose', 0.9, 0.0012, 200, np.zeros((6, 6)))
    code, figures = evaluate(monkeypatch, root, KnowsTheTruth(root, shift_m=0.01, fit=fit),
                             '--report', str(root / 'report'), '--depth', 'auto')
    assert code == 0
    assert f'report: {root}/report/index.html' in capsys.readouterr().out
    assert [p.name for p in (root / 'report').iterdir()] == ['index.html']
    page = (root / 'report' / 'index.html').read_text()
    check_html(page)
    assert page.count('data:image/jpeg;base64,') == figures['overall']['estimates']
    assert f'{figures["overall"]["ar_mssd"]:.3f}' in page
    assert page.count('1.2 mm off the measured surface') == figures['overall']['estimates']
    assert f'auto, depth: whole pose corrected {figures["overall"]["estimates"]}' in page
    for told in ('1 blob', '3 die', 'median of each stage', 'SHA-256', 'Best', 'non_finite'):
        assert told in page


def test_the_report_of_images_before_an_error_says_so(monkeypatch, root):
    """Nothing that was measured is lost."""
    code, _ = evaluate(monkeypatch, root, KnowsTheTruth(root, fails_at=17), '--report',
                       str(root / 'report'))
    assert code == 2
    assert 'Not complete: ImageError: image went bad' in (
        root / 'report' / 'index.html').read_text()


@pytest.mark.parametrize('option', ['--report', '--overlays'])
def test_pictures_that_cannot_be_written_are_told_before_the_work(monkeypatch, root, capsys,
                                                                  option):
    """A file has the name of their folder; no image is answered first."""
    (root / 'taken').write_text('')
    estimator = KnowsTheTruth(root)
    code, figures = evaluate(monkeypatch, root, estimator, option, str(root / 'taken'))
    assert (code, figures, estimator.boxes) == (2, {}, [])
    assert 'cannot be written' in capsys.readouterr().err


@pytest.mark.parametrize(('task', 'detections'), [('bop', True), ('csv', False)])
def test_without_ground_truth_the_advice_is_one_that_the_command_takes(
        monkeypatch, root, capsys, task, detections):
    """Only some commands take the boxes of a detector."""
    for name in ('scene_gt.json', 'scene_gt_info.json'):
        (root / 'toy/test/000007' / name).unlink()
    write_results_csv(root / 'in.csv', [ResultRow(7, 4, 1, 1.0, bop_folder.SCENE[4][0][1])])
    words = arguments(root) if task == 'bop' else [
        'evaluate', 'csv', '--bop-dir', str(root), '--dataset', 'toy', '--results',
        str(root / 'in.csv')]
    assert mrcnet.main(words) == 2
    said = capsys.readouterr().err
    assert 'use a split with ground truth' in said and ('--detections' in said) == detections


def test_an_enlarged_image_keeps_points_where_they_are():
    """The centre of pixel 0 of the photograph is between pixels 0 and 1 of the double."""
    K = scaled_intrinsics(np.eye(3), 2)
    np.testing.assert_allclose(K @ [0.0, 0.0, 1.0], [0.5, 0.5, 1.0])
    np.testing.assert_allclose(K @ [-0.5, 10.0, 1.0], [-0.5, 20.5, 1.0])


def test_a_label_stays_inside_the_picture():
    """Also for an object at the upper right corner."""
    image = np.full((60, 200, 3), 128, np.uint8)
    draw_text(image, (195, 0), 'duck 0.93', GREEN)
    green = (image[..., 1] > 200) & (image[..., 0] < 100)
    assert green.sum() > 60
    assert not green[:, 199].any()


@pytest.mark.parametrize(('extra', 'named'), [
    (('--bop-dir', 'nowhere'), '--bop-dir'),
    (('--split', 'train'), 'no such split'),
    (('--limit', '1', '--csv', '/dev/null/out.csv'), '/dev/null/out.csv: cannot be written'),
    (('--box-jitter', '-1'), r'jitter must be in [0, 1), got -1.0'),
])
def test_bad_input_is_one_line_on_stderr_and_exit_code_two(
        monkeypatch, root, capsys, extra, named):
    """No traceback; what is wrong is named."""
    monkeypatch.setattr(evaluate_bop, 'load_estimator', lambda args: KnowsTheTruth(root))
    assert mrcnet.main([*arguments(root), *extra]) == 2
    error = capsys.readouterr().err
    assert named in error and error.startswith('mrcnet evaluate: ') and error.count('\n') == 1
