"""Boxes whose numbers mean something else, and poses that are probably wrong, are told."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_frames import frame
from stand_in_node import DIAMETERS_M, BoxEstimator

from mrcnet_ros.detector.object_detector import LEAST_SCORE
from mrcnet_ros.errors import SpecError
from mrcnet_ros.inference.estimator import DEFAULT_CACHE_BYTES
from mrcnet_ros.ros.box_watch import BoxWatch
from mrcnet_ros.ros.detection_reading import DetectionSettings, image_box, settings_from
from mrcnet_ros.ros.detection_watch import ScoreWatch
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.parameter_help import parameter_table
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.statuses import Account, pose_status

SIZE = np.array([640.0, 480.0])


def true_boxes(seed: int, *, clipped: bool, count: int = 60) -> np.ndarray:
    """Return boxes of a detector, (N, 4) [px], all over the image, perhaps cut at its border."""
    draw = np.random.default_rng(seed)
    centres, half = draw.uniform(0, SIZE, (count, 2)), draw.uniform(15, 90, (count, 2))
    boxes = np.hstack([centres - half, centres + half])
    return np.clip(boxes, 0, np.tile(SIZE, 2)) if clipped else boxes


def read(centres, sizes) -> np.ndarray:
    """Return what the node makes of centres and sizes."""
    return np.hstack([centres - sizes / 2, centres + sizes / 2])


def told(boxes, settings=None) -> str:
    """Return what is said of boxes that come one after the other."""
    watch = BoxWatch(lambda: 1.0)
    for box in boxes:
        watch.see([box], (640, 480), settings or DetectionSettings(), nameless=False)
    problem = watch.problem()
    return problem.text if problem else ''


@pytest.mark.parametrize('seed', range(5))
def test_boxes_in_another_convention_are_told_by_name(seed):
    """Upper left corner for the centre, two corners for centre and size, parts of the image."""
    true = true_boxes(seed, clipped=True)
    corners, sizes = true[:, :2], true[:, 2:] - true[:, :2]
    assert 'upper left corners; publish the centre' in told(read(corners, sizes))
    assert 'look like lower right corners' in told(read(corners, true[:, 2:]))
    assert 'set detections_size to [1, 1]' in told(true / np.tile(SIZE, 2))


@pytest.mark.parametrize('clipped', [True, False])
@pytest.mark.parametrize('seed', range(20))
def test_boxes_that_are_right_are_not_accused(seed, clipped):
    """Whether they end at the border or not, inexact ones, few and many of them, at one place."""
    true = true_boxes(seed, clipped=clipped)
    true = true + np.random.default_rng(seed).normal(0, 2, true.shape)
    for boxes in (true, true[:12], np.repeat(true[:1], 20, axis=0)):
        said = told(boxes)
        assert 'corners' not in said and 'between 0 and 1' not in said


@pytest.mark.parametrize(('size', 'swing', 'clipped'), [
    ((380, 300), (60, 30), True), ((520, 400), (100, 60), False)])
def test_boxes_of_a_near_object_are_not_accused(size, swing, clipped):
    """They fill half of the image and more, move, and may end beyond its border."""
    turn = np.arange(60)[:, None] / 5
    centres = SIZE * 0.45 + np.hstack([np.sin(turn), np.cos(turn)]) * swing
    boxes = read(centres, np.array(size, float))
    assert ((boxes >= 0) & (boxes <= np.tile(SIZE, 2))).all() == clipped
    assert told(boxes) == ''


def test_boxes_of_an_object_that_comes_nearer_are_not_accused():
    """Their size grows while they move, but they end at the border."""
    part = np.linspace(0.0, 1.0, 40)[:, None]
    boxes = read(SIZE * (0.3 + 0.2 * part), SIZE * (0.4 + 0.55 * part))
    boxes = np.clip(boxes, 0, np.tile(SIZE, 2))
    assert told(boxes) == ''


@pytest.mark.parametrize('fit', ['stretch', 'letterbox', 'pad'])
def test_parts_of_the_image_become_its_pixels(fit):
    """From border to border; with letterbox and pad they are parts of a square network input."""
    settings = settings_from((), (1, 1), fit)
    image = np.array([640.0, 480.0])
    bars = {'stretch': 0.0, 'letterbox': 0.125, 'pad': 0.0}[fit]
    shape = np.ones(2) if fit == 'stretch' else np.array([1.0, 0.75])
    for part in (np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.25, 0.5, 0.5, 0.75])):
        given = part.reshape(2, 2) * shape + [0.0, bars]
        box = image_box(given.ravel(), settings, (640, 480))
        np.testing.assert_allclose(box.reshape(2, 2), part.reshape(2, 2) * image - 0.5)
    with pytest.raises(SpecError, match=r'\[1, 1\] for boxes as fractions'):
        settings_from((), (1, 480), fit)


@pytest.mark.parametrize('fit', ['letterbox', 'pad'])
def test_boxes_of_an_input_that_is_not_square_need_its_size(fit):
    """As fractions they would be of a square one, and the parameter's description says so."""
    whole = np.array([0.0, 12.0, 640.0, 372.0])
    if fit == 'pad':
        whole -= [0.0, 12.0, 0.0, 12.0]
    size = np.array([640.0, 384.0, 640.0, 384.0])
    image = [-0.5, -0.5, 1279.5, 719.5]
    pixels = image_box(whole - 0.5, settings_from((), (640, 384), fit), (1280, 720))
    np.testing.assert_allclose(pixels, image)
    parts = image_box(whole / size, settings_from((), (1, 1), fit), (1280, 720))
    assert not np.allclose(parts, image, atol=100.0)
    assert 'letterbox and pad mean a square input' in parameter_table()


def test_defaults_are_those_of_what_they_are_for():
    """Whose modules take too long to import for a list of parameters."""
    assert NodeParameters().cache_mb << 20 == DEFAULT_CACHE_BYTES
    assert NodeParameters().detector_threshold == LEAST_SCORE


def test_scores_that_are_far_too_low_are_told():
    """Half of the poses below 0.15; few poses, usual ones and old ones are not accused."""
    now = [0.0]
    watch = ScoreWatch(lambda: now[0])
    watch.see([0.07] * 19)
    assert watch.problem() is None
    watch.see([0.05])
    assert 'most poses are probably wrong' in watch.problem().text
    watch.see([0.8] * 21)
    assert watch.problem() is None
    now[0] = 100.0
    watch.see([0.07] * 30)
    assert watch.problem() is not None
    now[0] = 200.0
    assert watch.problem() is None


class Unsure(BoxEstimator):
    """Has little trust in its poses."""

    def estimate(self, *args):
        """Return poses with low scores."""
        import dataclasses

        result = super().estimate(*args)
        return dataclasses.replace(result, poses=[
            dataclasses.replace(p, score=0.05, usual_score=self.usual) for p in result.poses])


@pytest.mark.parametrize(('law', 'usual'), [(None, None), (object(), None), (object(), 0.5)])
def test_low_scores_are_told_where_they_are_probabilities(law, usual):
    """Those of a model without a law mean nothing, and those of far objects are no fault."""
    estimator = Unsure()
    estimator.usual = usual
    estimator.model = SimpleNamespace(name='boxes', path='')
    estimator.laws = SimpleNamespace(score_law=law)
    handler = FrameHandler(estimator, dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))),
                           DropCounters(lambda *_: None), compressed=False)
    for second in range(30):
        handler.answer(Frame(*frame(second, ('duck',))), NodeParameters(min_pose_score=0.5))
    assert handler.doubts() == [], 'none of them is published'
    for second in range(30, 60):
        handler.answer(Frame(*frame(second, ('duck',))), NodeParameters())
    told = law is not None and usual is None
    assert bool(handler.doubts()) == told
    status = pose_status(Account(10.0, {}, {}, {}, {}, doubts=handler.doubts()),
                         NodeParameters(), None)
    assert ('probably wrong' in status.message) == told


def test_that_no_detection_led_to_a_pose_comes_with_the_reason():
    """As of boxes in parts of the image, which are smaller than a pixel."""
    recent = {'frames': 5, 'detections': 9, 'box_outside': 9}
    reasons = {'box_outside': 'box must be at least 2 px wide'}
    status = pose_status(Account(10.0, recent, recent, reasons, {}), NodeParameters(), None)
    assert 'box_outside 9 (box must be at least 2 px wide)' in status.message
