"""Following by the refiner alone: no box, no stage 1, no stage 2."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import numpy as np
import pytest
from model_copy import SCORE_SOURCE
from tiny_estimator import CAMERA, DETECTIONS, IMAGE, assert_same_pose, load

from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_angle
from mrcnet_ros.inference.calibration_entries import write_law
from mrcnet_ros.inference.detection_crops import MOST_CROPS
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.known_start import KnownPose
from mrcnet_ros.inference.laws import Laws
from mrcnet_ros.inference.scoring import ScoreLaw, ScoreSource, measured_again
from mrcnet_ros.inference.uncertainty import CovarianceLaw, PoseSpread
from mrcnet_ros.runtimes.backend import Arrays

T = make_transform(exp_so3([0.3, -1.2, 0.4]), [0.02, -0.01, 0.5])
OPEN = PoseSpread(np.diag([0.1, 0.1, 0.5]), 1e-4 * np.eye(2), 4e-4, 0.01 * np.eye(3), 0.5)
SCORE = ScoreLaw(offset=1.0, quality_gain=0.5, apart_gain=0.0, usual_apart=0.1)
COVARIANCE = CovarianceLaw(
    lateral_floor=0.01, lateral_gain=0.5, depth_floor=0.02, depth_gain=0.6,
    rotation_floor_rad=0.05, rotation_gain=0.7, score_exponent=0.3)


@pytest.fixture
def following(refined_model) -> PoseEstimator:
    """Load the tiny model to follow with its refiner; detections are not refined."""
    return load(refined_model, refine=0, follows=True)


def ending(estimator: PoseEstimator, monkeypatch: Any, change: Any, quality: float = 0.8
           ) -> list[np.ndarray]:
    """Let the refiner end at changed poses; return the starts that it is given.

    :param change: (4, 4) pose of a start to that of its end.
    """
    given = []

    def measure(T: np.ndarray, classes: Any, *_: Any) -> tuple[np.ndarray, np.ndarray, int, int]:
        given.extend(T.copy())
        return np.stack([change(one) for one in T]), np.full(len(T), quality), len(T), 0

    monkeypatch.setattr(estimator.refiner, 'measure', measure)
    return given


def test_only_the_refiner_is_asked(following, monkeypatch):
    """Neither stage sees the image, so a followed object takes less time than a detected one."""
    run, asked = following.backend.run, []

    def seen(graph: str, inputs: Arrays) -> dict[str, Any]:
        asked.append(graph)
        return dict(run(graph, inputs))

    monkeypatch.setattr(following.backend, 'run', seen)
    result = following.follow(IMAGE, CAMERA, [KnownPose('blob', T, 'a'), KnownPose('box', T, 'b')])
    assert set(asked) <= {'refiner', 'refiner_template'} and 'refiner' in asked
    assert [(p.label, p.detection_id, p.bin_index) for p in result.poses] == [
        ('blob', 'a', -1), ('box', 'b', -1)]
    assert set(result.rows) == {'refine'}


def test_poses_of_detections_stay_those_of_stage_2(following, tiny_model):
    """Whoever follows does not refine for that: the model answers detections as it would."""
    plain = load(tiny_model)
    for a, b in zip(following(IMAGE, CAMERA, DETECTIONS), plain(IMAGE, CAMERA, DETECTIONS),
                    strict=True):
        assert_same_pose(a, b)
    assert following.refinements == 0


def test_a_model_without_a_refiner_follows_by_stage_2(tiny_model, monkeypatch):
    """Asking for more than a model has is no error: most models have no refiner."""
    estimator = load(tiny_model, follows=True)
    run, asked = estimator.backend.run, []
    monkeypatch.setattr(estimator.backend, 'run', lambda graph, inputs: (
        asked.append(graph), run(graph, inputs))[1])
    assert len(estimator.follow(IMAGE, CAMERA, [KnownPose('blob', T)]).poses) == 1
    assert 'stage2' in asked


def test_the_answer_is_the_pose_whatever_size_the_object_has(following, monkeypatch):
    """The refiner sees objects as large as their meshes; a smaller one is that much nearer."""
    small = dataclasses.replace(following.objects['blob'], size_ratio=0.8)
    following.objects['blob'] = small
    following.centred = [item.centred() for item in following.objects.values()]
    turn = exp_so3([0.0, 0.05, 0.0])
    given = ending(following, monkeypatch,
                   lambda S: make_transform(S[:3, :3] @ turn, 1.01 * S[:3, 3]))
    (pose,) = following.follow(IMAGE, CAMERA, [KnownPose('blob', T)]).poses
    start = small.to_centred(T)
    np.testing.assert_allclose(given[0][:3, 3], start[:3, 3] / 0.8)
    found = small.to_centred(pose.T_camera_object)
    np.testing.assert_allclose(found[:3, 3], 1.01 * start[:3, 3])
    assert rotation_angle((start[:3, :3] @ turn).T @ found[:3, :3]) < 1e-6
    assert pose.evidence.distance == pytest.approx(
        1.01 * np.linalg.norm(start[:3, 3]) / (0.8 * small.diameter_m))


@pytest.mark.parametrize(('second', 'depth_m'), [(0.9, 1.05**2 * 0.5), (0.7, 1.05 * 0.5)])
def test_an_answer_far_from_its_start_is_a_start_once_more(following, monkeypatch, second,
                                                           depth_m):
    """The second answer counts where the refiner trusts it more."""
    given = ending(following, monkeypatch, lambda S: make_transform(S[:3, :3], 1.05 * S[:3, 3]))
    measure, qualities = following.refiner.measure, iter([0.8, second])
    monkeypatch.setattr(following.refiner, 'measure', lambda *asked: (
        measure(*asked)[0], np.array([next(qualities)]), 1, 0))
    (pose,) = following.follow(IMAGE, CAMERA, [KnownPose('blob', T, spread=OPEN)]).poses
    assert [g[2, 3] for g in given] == pytest.approx([0.5, 0.525])
    assert pose.T_camera_object[2, 3] == pytest.approx(depth_m)


def test_score_and_covariance_are_those_of_refined_poses(following, monkeypatch):
    """With the refiner's confidence, and with what stage 1 left open when it last looked."""
    following.laws_followed = Laws(score_law=SCORE, covariance_law=COVARIANCE)
    ending(following, monkeypatch, lambda S: S, quality=0.8)
    sure, doubted, unknown = following.follow(IMAGE, CAMERA, [
        KnownPose('blob', T, spread=OPEN), KnownPose('blob', T, share=0.5, spread=OPEN),
        KnownPose('blob', T)]).poses
    assert (sure.quality, doubted.quality) == pytest.approx((0.8, 0.4))
    assert sure.score == SCORE.probability(sure.evidence) > doubted.score
    expected = COVARIANCE.covariances([OPEN.moved(sure.T_camera_object[:3, 3], 0.8)])[0]
    np.testing.assert_allclose(sure.covariance, expected, rtol=1e-6)
    assert np.trace(doubted.covariance) > np.trace(sure.covariance)
    assert unknown.covariance is None and unknown.score == sure.score


def test_the_calibrations_are_those_of_refined_poses(refined_model, tmp_path, caplog):
    """Detections keep theirs. Where refined poses have none, others stand in, and it is told."""
    path = shutil.copytree(refined_model.path, tmp_path / 'model')
    model = dataclasses.replace(refined_model, path=path)
    write_law(path, SCORE, ScoreSource(**SCORE_SOURCE))
    alone = load(model, refine=0, follows=True)
    assert alone.laws.score_law == alone.laws_followed.score_law == SCORE
    assert 'the refiner follows objects, but score was calibrated without it' in caplog.text
    caplog.clear()
    other = dataclasses.replace(SCORE, offset=-1.0)
    write_law(path, other, ScoreSource(**{**SCORE_SOURCE, 'refine': 1}))
    both = load(model, refine=0, follows=True)
    assert (both.laws.score_law, both.laws_followed.score_law) == (SCORE, other)
    assert 'the refiner follows' not in caplog.text


def test_a_plane_corrects_followed_poses_by_their_own_calibration(following, monkeypatch):
    """The score after the plane is that of the law of refined poses, too."""
    following.laws_followed = Laws(score_law=dataclasses.replace(
        SCORE, distance_gain=-2.0, usual_distance=3.0, least_distance=0.1, most_distance=100.0),
        covariance_law=COVARIANCE)
    ending(following, monkeypatch, lambda S: S)
    start = [KnownPose('box', T, spread=OPEN)]
    free = following.follow(IMAGE, CAMERA, start).poses[0]
    # of the box's own faces, the plane below the one that looks up most
    axis = int(np.argmax(np.abs(T[2, :3])))
    up = -np.sign(T[2, axis]) * T[:3, axis]
    lowest = float((following._bodies['box'].corners @ T[:3, :3].T @ up).min())
    plane = np.append(up, -1.01 * float(up @ T[:3, 3]) - lowest)
    held = following.follow(IMAGE, CAMERA, start, support_plane=plane).poses[0]
    assert held.stands and held.score == following.laws_followed.score(measured_again(
        held.evidence, free.covariance, held.covariance)) > free.score


def test_sizes_of_meshes_are_those_that_poses_are_followed_with(following, monkeypatch):
    """As on rendered sequences, for a model whose sizes were measured on photographs."""
    following.objects['blob'] = dataclasses.replace(following.objects['blob'], size_ratio=0.8)
    following.assume_sizes_of_meshes()
    given = ending(following, monkeypatch, lambda S: S)
    (pose,) = following.follow(IMAGE, CAMERA, [KnownPose('blob', T)]).poses
    np.testing.assert_allclose(given[0], following.objects['blob'].to_centred(T))
    np.testing.assert_allclose(pose.T_camera_object, T, atol=1e-12)


def test_many_objects_are_answered_in_batches(following, monkeypatch):
    """Memory for all of them at once would be missing elsewhere."""
    run, rows = following.backend.run, []
    monkeypatch.setattr(following.backend, 'run', lambda graph, inputs: (
        rows.append(len(inputs['class_index'])) if graph == 'refiner' else None,
        run(graph, inputs))[1])
    result = following.follow(IMAGE, CAMERA, [KnownPose('blob', T)] * (MOST_CROPS + 3))
    assert rows[:2] == [MOST_CROPS, 3] and len(result.poses) == MOST_CROPS + 3


def test_an_answer_that_is_not_finite_is_no_pose(following, monkeypatch):
    """The others are answered all the same."""
    ending(following, monkeypatch,
           lambda S: np.full((4, 4), np.nan) if S[0, 3] > 0.1 else S)
    aside = T.copy()
    aside[0, 3] = 0.15
    result = following.follow(IMAGE, CAMERA, [KnownPose('blob', aside), KnownPose('blob', T)])
    assert [p.detection_index for p in result.poses] == [1]
    assert [(s.detection_index, s.reason) for s in result.skipped] == [(0, 'non_finite')]


def test_what_is_outside_the_image_is_told_in_its_place(following):
    """As where stage 2 follows."""
    outside = T.copy()
    outside[0, 3] = 5.0
    result = following.follow(IMAGE, CAMERA, [
        KnownPose('nothing', T), KnownPose('box', T), KnownPose('box', outside)])
    assert [p.detection_index for p in result.poses] == [1]
    assert [(s.detection_index, s.reason) for s in result.skipped] == [
        (0, 'unknown_label'), (2, 'box_outside')]
    assert following.follow(IMAGE, CAMERA, [KnownPose('box', outside)]).poses == []
