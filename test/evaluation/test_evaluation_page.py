"""The page of an evaluation: its curves are right, and it needs nothing but itself."""

import re

import bop_folder
import numpy as np
import pytest
from html_check import check_html

from mrcnet_ros.datasets.bop import BopDataset, GroundTruth, ResultRow
from mrcnet_ros.evaluation.charts import Line, LineChart
from mrcnet_ros.evaluation.confidence_curves import coverage, score_curves
from mrcnet_ros.evaluation.gallery import TILE_PX, best_median_worst, close_up
from mrcnet_ros.evaluation.page import EvaluationPage, Latency, write_report_page
from mrcnet_ros.evaluation.scores import TargetScore
from mrcnet_ros.evaluation.svg import svg_of
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.objects import load_bop_objects

DEVIATIONS = np.array([2e-3, 1e-3, 9e-3, 0.05, 0.1, 0.02])  # m, rad


root = bop_folder.root_fixture(scope='module')


@pytest.fixture(scope='module')
def objects(root):
    return load_bop_objects(BopDataset(root, 'toy', 'test').models_dir)


def target(number, errors, score=0.5, near=True):
    """Return a target of the blob with an estimate that is off by errors."""
    T_est = make_transform(exp_so3([0.3, 0.2, 0.1 * number]), [0.1, 0.0, 0.8])
    T_gt = make_transform(exp_so3(errors[3:]) @ T_est[:3, :3], T_est[:3, 3] + errors[:3])
    return TargetScore(
        1, number, 1, 0, 1.0, score, float(np.linalg.norm(errors[:3])), 1.0, None, near=near,
        estimate=ResultRow(1, number, 1, score, T_est),
        truth=GroundTruth(1, 0, T_gt, None, None, 1.0))


@pytest.mark.parametrize(('said', 'at_half'), [(1.0, 0.5), (0.5, 0.12), (3.0, 0.97)])
def test_errors_drawn_from_a_covariance_are_inside_its_ellipsoids(objects, said, at_half):
    """As often as they should; less often when it says less than is true, more for more."""
    rng = np.random.default_rng(0)
    targets = [target(i, rng.normal(size=6) * DEVIATIONS) for i in range(600)]
    C = np.diag((said * DEVIATIONS) ** 2)
    found = coverage(targets, [(t.estimate, C) for t in targets], objects)
    assert found.poses == 600
    half = found.levels.index(pytest.approx(0.5))
    assert found.position[half] == pytest.approx(at_half, abs=0.09)
    assert found.rotation[half] == pytest.approx(at_half, abs=0.09)
    assert np.all(np.diff(found.position) >= 0)


def test_poses_without_a_covariance_do_not_count(objects):
    """Nor do too few make a curve."""
    targets = [target(i, 0.5 * DEVIATIONS) for i in range(10)]
    C = np.diag(DEVIATIONS ** 2)
    assert coverage(targets, [(t.estimate, None) for t in targets], objects) is None
    assert coverage(targets[:3], [(t.estimate, C) for t in targets[:3]], objects) is None


def test_precision_and_recall_follow_the_score():
    """With a score that sorts right from wrong, all above some score are right."""
    targets = [target(i, DEVIATIONS, 0.1 * i, near=i >= 4) for i in range(10)]
    targets.append(TargetScore(1, 10, 1, 0, 1.0))  # not found
    found = score_curves(targets)
    assert found.thresholds == sorted(found.thresholds) and len(found.thresholds) == 10
    assert found.precision[0] == pytest.approx(0.6) and found.recall[0] == pytest.approx(6 / 11)
    assert found.precision[4:] == [1.0] * 6
    assert found.recall[-1] == pytest.approx(1 / 11)
    assert found.bin_right == sorted(found.bin_right)
    assert score_curves(targets[:3]) is None


def test_equal_scores_are_accepted_together():
    """A threshold cannot tell them apart."""
    found = score_curves([target(i, DEVIATIONS, 0.5, near=i < 6) for i in range(12)])
    assert (found.thresholds, found.precision, found.recall) == ([0.5], [0.5], [0.5])


@pytest.mark.parametrize('count', [0, 1, 2, 5, 40])
def test_galleries_hold_each_pose_once(objects, count):
    """The best first, the worst last, however few there are."""
    targets = [target(i, 1e-3 * (i + 1) * np.ones(6)) for i in range(count)]
    groups = best_median_worst(targets[::-1], objects)
    shown = [t.image_id for group in groups.values() for t in group]
    assert len(shown) == len(set(shown)) == min(count, 18)
    if count:
        assert groups['best'][0].image_id == 0
    if count > 1:
        assert groups['worst'][0].image_id == count - 1


@pytest.mark.parametrize('lens', [(), (-0.2, 0.05, 0.001, -0.0007, 0.0)])
def test_a_close_up_keeps_points_on_their_pixels(objects, lens):
    """What the camera projects to a pixel is there in the enlarged part, distorted or not."""
    K = np.array([[600.0, 0, 320], [0, 600.0, 240], [0, 0, 1]])
    camera = Camera(K, 640, 480, 'plumb_bob' if lens else 'none', lens)
    T = make_transform(np.eye(3), [0.1, -0.05, 0.9])
    image = np.zeros((480, 640, 3), np.uint8)
    u, v = (round(float(x)) for x in camera.project(T[:3, 3]))
    image[v - 1:v + 2, u - 1:u + 2] = 255
    picture, own = close_up(image, camera, [T], objects[1])
    assert picture.shape == (TILE_PX, TILE_PX, 3)
    bright = np.argwhere(picture[..., 0] > 128)
    back = own.project(camera.unproject([float(u), float(v)]))
    np.testing.assert_allclose(bright.mean(axis=0)[::-1], back, atol=0.6)


def test_a_page_of_nothing_is_a_page(tmp_path):
    """Without truth, poses or time it says what was measured, and escapes what it is told."""
    path = write_report_page(tmp_path / 'deep', EvaluationPage(
        '<b>', {'command': 'a & b'}, {'overall': None}, Latency('time', []),
        notes=['went <wrong>']))
    text = path.read_text()
    assert '&lt;b&gt;' in text and 'a &amp; b' in text and 'went &lt;wrong&gt;' in text
    check_html(text)


def test_a_chart_as_svg_stays_inside_its_frame():
    """Every coordinate is within the view box."""
    text = svg_of(LineChart('a < b', 'x', [Line('one', [0, 1, 2], [0.0, None, 1.0]),
                                           Line('two', [0.5], [0.3])]))
    assert '<title>a &lt; b</title>' in text
    for name, most in (('x', 760), ('y', 400), ('cx', 760), ('cy', 400)):
        assert all(0 <= float(v) <= most for v in re.findall(rf' {name}="([-0-9.]+)"', text))
