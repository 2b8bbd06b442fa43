"""Recall by BOP's rules, on hand-made errors and on a small dataset."""

import dataclasses

import bop_folder
import cv2
import numpy as np
import pytest

from mrcnet_ros.datasets.bop import BopDataset, ResultRow
from mrcnet_ros.evaluation import report
from mrcnet_ros.evaluation.recall import (
    MSPD_THRESHOLDS,
    MSSD_THRESHOLDS,
    TargetErrors,
    match,
    recall,
)
from mrcnet_ros.evaluation.scores import ScoredObject, score
from mrcnet_ros.evaluation.vsd_scores import score_vsd
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.objects import load_bop_objects
from mrcnet_ros.rendering.renderer import Renderer


def target(object_id, scores, errors):
    errors = np.asarray(errors, dtype=float).reshape(len(scores), -1)
    return TargetErrors(object_id, np.asarray(scores, dtype=float), errors)


def nothing(object_id, instances=1):
    return TargetErrors(object_id, np.zeros(0), np.zeros((0, instances)))


def test_thresholds_are_those_of_bop():
    """Ten steps from 5 % to 50 % of the diameter and from 5 to 50 px."""
    np.testing.assert_allclose(
        MSSD_THRESHOLDS, [.05, .1, .15, .2, .25, .3, .35, .4, .45, .5])
    np.testing.assert_allclose(MSPD_THRESHOLDS, [5, 10, 15, 20, 25, 30, 35, 40, 45, 50])


def test_an_error_must_be_below_the_threshold():
    """Equal is not below."""
    assert match(target(1, [1.0], [[0.1]]), 0.1) == []
    assert match(target(1, [1.0], [[0.1]]), 0.1000001) == [(0, 0)]


def test_the_most_confident_estimate_chooses_first():
    """The better fit of a less confident estimate does not matter."""
    both_like_the_first = target(1, [0.2, 0.9], [[0.01, 0.5], [0.04, 0.06]])
    assert match(both_like_the_first, 0.1) == [(1, 0)]
    assert match(both_like_the_first, 0.6) == [(1, 0), (0, 1)]


def test_an_estimate_takes_the_nearest_free_instance():
    """The second estimate gets what the first left."""
    errors = target(1, [0.9, 0.8], [[0.3, 0.1], [0.4, 0.05]])
    assert match(errors, 0.5) == [(0, 1), (1, 0)]


def test_each_instance_is_found_once_at_most():
    """Two estimates of one instance are one hit, and only as many estimates as instances count."""
    assert match(target(1, [0.9, 0.8], [[0.1], [0.01]]), 0.5) == [(0, 0)]
    assert match(target(1, [0.9, 0.8], [[0.7], [0.01]]), 0.5) == []


def test_equal_scores_keep_their_order():
    """Ties are broken by the order in the file, as a stable sort does."""
    assert match(target(1, [0.5, 0.5], [[0.2], [0.1]]), 0.5) == [(0, 0)]


def test_a_missing_estimate_is_a_miss():
    """An object that was not found counts in the denominator."""
    result = recall([target(1, [1.0], [[0.0]]), nothing(1)], MSSD_THRESHOLDS)
    np.testing.assert_allclose(result.by_object[1], 0.5)


def test_overall_recall_counts_targets_not_objects():
    """Three hits of an easy object and one miss of a hard one: 3/4."""
    result = recall(
        [target(1, [1.0], [[0.0]])] * 3 + [target(2, [1.0], [[9.0]])], MSSD_THRESHOLDS)
    assert result.average == pytest.approx(0.75)
    assert result.average_of(1) == 1.0 and result.average_of(2) == 0.0
    assert result.target_counts == {1: 3, 2: 1}


def test_average_recall_is_the_share_of_thresholds_met():
    """An error of 22 % meets 25 % to 50 %: six of ten."""
    assert recall([target(1, [1.0], [[0.22]])], MSSD_THRESHOLDS).average == pytest.approx(0.6)
    assert recall([target(1, [1.0], [[41.0]])], MSPD_THRESHOLDS).average == pytest.approx(0.2)


def test_instances_count_one_by_one():
    """Two instances, one found: half."""
    result = recall([target(3, [0.9, 0.3], [[0.01, 2.0], [3.0, 2.0]])], MSSD_THRESHOLDS)
    assert result.average == pytest.approx(0.5)
    assert result.target_counts == {3: 2}


root = bop_folder.root_fixture(scope='module')


@pytest.fixture(scope='module')
def dataset(root):
    return BopDataset(root, 'toy', 'test')


@pytest.fixture(scope='module')
def objects(dataset):
    return load_bop_objects(dataset.models_dir)


def truth(dataset, shift_m=0.0):
    """Return the true poses as estimates, moved along the optical axis."""
    rows = []
    for frame in dataset.frames:
        for g in frame.target_ground_truth():
            T = g.T_camera_object.copy()
            T[2, 3] += shift_m
            rows.append(ResultRow(frame.scene_id, frame.image_id, g.object_id, 1.0, T, 0.1))
    return rows


def test_the_truth_scores_one(dataset, objects):
    """Perfect estimates meet all thresholds and have no error."""
    scores = score(dataset.frames, truth(dataset), objects)
    assert scores.mssd.average == scores.mspd.average == 1.0
    assert len(scores.targets) == 5
    for t in scores.targets:
        assert t.mssd_m < 1e-9 and t.mspd_px < 1e-6
        np.testing.assert_allclose(t.difference, 0.0, atol=1e-7)


def test_a_known_shift_scores_what_the_definitions_say(dataset, objects):
    """12 mm back is 12 mm of MSSD: the recall follows from diameter and thresholds alone."""
    scores = score(dataset.frames, truth(dataset, 0.012), objects)
    for i, model in objects.items():
        expected = np.mean(0.012 / model.diameter_m < MSSD_THRESHOLDS)
        assert 0 < expected < 1
        assert scores.mssd.average_of(i) == pytest.approx(expected)
    for t in scores.targets:
        assert t.mssd_m == pytest.approx(0.012)
        assert t.difference.depth_m == pytest.approx(0.012)
        assert t.difference.rotation_rad == pytest.approx(0.0, abs=1e-7)


def test_pixels_are_counted_as_in_an_image_640_wide(dataset, objects):
    """In an image of 320 px an error of 3 px counts as 6."""
    rows = []
    for row in truth(dataset):
        T = row.T_camera_object.copy()
        T[0, 3] += 3.0 * T[2, 3] / 300.0  # 3 px at the depth of the origin
        rows.append(ResultRow(row.scene_id, row.image_id, row.object_id, 1.0, T))
    scores = score(dataset.frames, rows, objects)
    np.testing.assert_allclose(scores.mspd.overall, [0] + [1] * 9)
    assert all(3.0 < t.mspd_px < 4.0 for t in scores.targets)


def test_symmetric_equivalents_score_as_the_truth_and_others_do_not(dataset, objects):
    """Object 3 may be turned by quarters, object 1 may not."""
    turn = bop_folder.SYMMETRIES[3][0]
    rows = [ResultRow(r.scene_id, r.image_id, r.object_id, 1.0, r.T_camera_object @ turn)
            for r in truth(dataset)]
    scores = score(dataset.frames, rows, objects)
    assert scores.mssd.average_of(3) == scores.mspd.average_of(3) == 1.0
    assert scores.mssd.average_of(1) == 0.0
    assert all(t.difference.rotation_rad < 1e-6 for t in scores.targets if t.object_id == 3)


def test_estimates_that_are_no_target_neither_help_nor_harm(dataset, objects):
    """Other images, surplus estimates of low score and the order of rows change nothing."""
    rows = truth(dataset)
    far = rows[0].T_camera_object.copy()
    far[2, 3] = 5.0
    extra = [ResultRow(7, 999, 1, 1.0, far), ResultRow(8, 4, 1, 1.0, far),
             ResultRow(7, 4, 1, 0.01, far), ResultRow(7, 4, 77, 1.0, far)]
    scores = score(dataset.frames, list(reversed(rows + extra)), objects)
    assert scores.mssd.average == 1.0
    assert len(scores.targets) == 5


def test_missing_estimates_lower_the_recall_and_are_reported(dataset, objects):
    """Without the rows of one image its targets are missed."""
    rows = [r for r in truth(dataset) if r.image_id == 4]
    scores = score(dataset.frames, rows, objects)
    assert scores.mssd.average == pytest.approx(2 / 5)
    missed = [t for t in scores.targets if t.image_id == 17]
    assert len(missed) == 3
    assert all(t.mssd_m is None and t.difference is None for t in missed)


def test_a_false_pose_takes_no_instance_from_a_right_one(dataset, objects):
    """Its score is higher; the figures of an instance are those of the pose that is there."""
    right = next(r for r in truth(dataset) if (r.image_id, r.object_id) == (17, 3))
    away = right.T_camera_object.copy()
    away[0, 3] -= 0.3
    rows = [dataclasses.replace(right, score=0.9, T_camera_object=away),
            dataclasses.replace(right, score=0.8)]
    scores = score(dataset.frames, rows, objects)
    found = [t for t in scores.targets if t.mssd_m is not None]
    assert [t.near for t in found] == [True, False] and found[0].mssd_m < 1e-9
    figures = report.recall_figures(scores, score_vsd(dataset.frames, rows, objects), {})
    whole, part = figures['overall'], figures['by_visible_fraction']['0.8-1.0']
    assert part['ar_mssd'] == pytest.approx(whole['ar_mssd']) and whole['ar_mssd'] == 0.2
    assert len({(t['image_id'], t['object_id'], t['instance']) for t in figures['targets']}) == 5


def test_rows_by_visibility_add_up_to_the_recall(dataset, objects):
    """Whatever the poses are, and however many."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = []
        for row in truth(dataset) * 2:
            T = row.T_camera_object.copy()
            T[:3, 3] += rng.normal(0, 0.02, 3)
            rows.append(dataclasses.replace(row, score=rng.random(), T_camera_object=T))
        scores = score(dataset.frames, rng.permutation(rows)[:7], objects)
        assert np.mean([t.mssd_met for t in scores.targets]) == pytest.approx(scores.mssd.average)
        assert np.mean([t.mspd_met for t in scores.targets]) == pytest.approx(scores.mspd.average)


def test_without_depth_images_there_is_no_vsd_but_a_reason(dataset, objects):
    """VSD is null and the report says why."""
    vsd = score_vsd(dataset.frames, truth(dataset), objects)
    assert vsd.average is None and vsd.average_of(1) is None
    assert '2 of 2 images have no depth image' in vsd.missing
    scores = score(dataset.frames, truth(dataset), objects)
    figures = report.recall_figures(scores, vsd, {1: 'blob'})
    assert figures['overall']['ar_vsd'] is None
    assert 'no depth image' in figures['vsd_missing']
    assert 'no depth image' in report.recall_table(figures)


def test_with_depth_images_vsd_is_rendered_and_scored(tmp_path):
    """Perfect estimates score 1, estimates far behind score less, missing ones 0."""
    folder = bop_folder.write_dataset(tmp_path)
    dataset = BopDataset(tmp_path, 'toy', 'test')
    objects = load_bop_objects(dataset.models_dir)
    (folder / 'test' / '000007' / 'depth').mkdir()
    with Renderer(bop_folder.WIDTH, bop_folder.HEIGHT) as renderer:
        for i, mesh in bop_folder.MESHES.items():
            renderer.add_mesh(i, mesh)
        for image_id, entries in bop_folder.SCENE.items():
            depth = np.max([renderer.render(i, T, bop_folder.K).depth_m for i, T in entries], 0)
            cv2.imwrite(str(folder / 'test' / '000007' / 'depth' / f'{image_id:06d}.png'),
                        np.round(depth * 1000 / 0.5).astype(np.uint16))
    dataset = BopDataset(tmp_path, 'toy', 'test')
    rows = truth(dataset)
    assert score_vsd(dataset.frames, rows, objects).average == 1.0
    back = score_vsd(dataset.frames, truth(dataset, 0.02), objects)
    assert 0.1 < back.average < 0.9
    half = score_vsd(dataset.frames, [r for r in rows if r.object_id == 3], objects)
    assert half.average_of(1) == 0.0 and half.average_of(3) == 1.0
    assert half.average == pytest.approx(3 / 5)
    targets = score(dataset.frames, rows, objects).targets
    assert back.average_over(targets) == pytest.approx(back.average)
    assert half.average_over([t for t in targets if t.object_id == 3]) == pytest.approx(1.0)


def test_the_report_has_every_figure_and_the_table_every_object(dataset, objects, tmp_path):
    """JSON is plain data without nan, the table has one line an object and one for all."""
    scores = score(dataset.frames, truth(dataset, 0.012)[:-1], objects)
    figures = report.recall_figures(scores, score_vsd(dataset.frames, [], objects),
                                    {1: 'blob', 3: 'die'})
    report.write_json(tmp_path / 'deep' / 'out.json', figures)
    assert not list((tmp_path / 'deep').glob('.*.partial'))
    overall = figures['overall']
    assert overall['targets'] == 5 and overall['estimates'] == 4
    assert overall['ar_mean'] == pytest.approx((overall['ar_mssd'] + overall['ar_mspd']) / 2)
    assert overall['median_depth_mm'] == pytest.approx(12.0)
    assert overall['median_rotation_deg'] == pytest.approx(0.0, abs=1e-5)
    assert [t['mssd_mm'] is None for t in figures['targets']].count(True) == 1
    lines = report.recall_table(figures).splitlines()
    assert any(line.startswith('1 blob') for line in lines)
    assert any(line.startswith('3 die') for line in lines)
    assert next(line for line in lines if line.startswith('overall')).split()[1:3] == ['5', '4']


@pytest.mark.parametrize(('turn_deg', 'diameters', 'near'), [
    (14.0, 0.095, True), (16.0, 0.095, False), (14.0, 0.105, False)])
def test_near_is_a_tenth_of_the_diameter_and_fifteen_degrees(
        dataset, objects, turn_deg, diameters, near):
    """Both must hold, and a pose that is missing is not near."""
    shift_m = diameters * objects[1].diameter_m
    to_middle = make_transform(np.eye(3), ScoredObject(objects[1]).middle_m)
    turn = to_middle @ make_transform(exp_so3([0, 0, np.radians(turn_deg)]), np.zeros(3))
    turn = turn @ np.linalg.inv(to_middle)
    rows = [dataclasses.replace(row, T_camera_object=row.T_camera_object @ turn)
            for row in truth(dataset, shift_m)]
    scores = score(dataset.frames, [r for r in rows if r.object_id == 1], objects)
    blobs = [t for t in scores.targets if t.object_id == 1]
    assert [t.near for t in blobs] == [near] * 2
    assert not any(t.near for t in scores.targets if t.object_id == 3)
    figures = report.recall_figures(scores, score_vsd(dataset.frames, [], objects), {})
    assert figures['overall']['near'] == pytest.approx(2 / 5 if near else 0.0)
    assert figures['objects']['1']['near'] == float(near)
    depths = [(row.T_camera_object @ to_middle)[2, 3] for row in rows if row.object_id == 1]
    assert figures['objects']['1']['median_depth_percent'] == pytest.approx(
        100 * np.median([shift_m / (z - shift_m) for z in depths]))
    assert figures['objects']['1']['median_xy_mm'] == pytest.approx(0.0, abs=1e-3)


def test_no_figure_depends_on_where_the_origin_of_the_mesh_is(dataset, objects, tmp_path):
    """The same poses of the same surface, told from an origin 0.4 m away."""
    back = np.linalg.inv(bop_folder.FAR)
    off = make_transform(exp_so3([0.1, -0.05, 0.1]), [0.003, 0.002, -0.004])
    rows = [dataclasses.replace(row, T_camera_object=row.T_camera_object @ off)
            for row in truth(dataset)]
    far_rows = [dataclasses.replace(row, T_camera_object=row.T_camera_object @ back)
                for row in rows]
    far_frames = [dataclasses.replace(frame, ground_truth=tuple(
        dataclasses.replace(g, T_camera_object=g.T_camera_object @ back)
        for g in frame.ground_truth)) for frame in dataset.frames]
    far_objects = {i: bop_folder.far_origin(model, tmp_path) for i, model in objects.items()}
    plain, far = score(dataset.frames, rows, objects), score(far_frames, far_rows, far_objects)
    assert any(t.near for t in plain.targets) and plain.mssd.average < 1
    for a, b in zip(plain.targets, far.targets, strict=True):
        assert (a.near, a.mssd_met, a.mspd_met) == (b.near, b.mssd_met, b.mspd_met)
        np.testing.assert_allclose(b.difference, a.difference, atol=1e-6)
        assert b.depth_part == pytest.approx(a.depth_part, abs=1e-6)


def test_figures_are_split_by_how_much_is_visible(dataset, objects):
    """Objects of these images are 87 and 89 % visible; without estimates nothing is met."""
    vsd = score_vsd(dataset.frames, [], objects)
    figures = report.recall_figures(score(dataset.frames, truth(dataset, 0.012), objects), vsd, {})
    assert list(figures['by_visible_fraction']) == ['0.8-1.0']
    part = figures['by_visible_fraction']['0.8-1.0']
    assert part['targets'] == 5
    assert part['ar_mssd'] == pytest.approx(figures['overall']['ar_mssd'])
    assert part['ar_mspd'] == pytest.approx(figures['overall']['ar_mspd'])
    empty = report.recall_figures(score(dataset.frames, [], objects), vsd, {})
    assert empty['by_visible_fraction']['0.8-1.0']['ar_mssd'] == 0.0
    assert 'visible 0.8-1.0' in report.recall_table(figures)


def test_an_object_that_was_never_found_has_no_medians(dataset, objects):
    """Its recall is zero and its errors are unknown, not zero."""
    rows = [r for r in truth(dataset) if r.object_id == 3]
    figures = report.recall_figures(
        score(dataset.frames, rows, objects), score_vsd(dataset.frames, rows, objects), {})
    assert figures['objects']['1']['ar_mssd'] == 0.0
    assert figures['objects']['1']['median_rotation_deg'] is None
    assert '-' in next(
        line for line in report.recall_table(figures).splitlines() if line.startswith('1')).split()
