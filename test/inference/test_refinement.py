"""The last stage: the refiner measures a pose once more, in a crop made for it."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from tiny_estimator import CAMERA, DETECTIONS, IMAGE, assert_same_pose, load

from mrcnet_ros.errors import SpecError
from mrcnet_ros.geometry.pose_crop import pose_crop
from mrcnet_ros.geometry.sampling import sample_crop
from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_angle, rotation_to_axis
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.refinement import ANSWER_WEIGHT, Refiner
from mrcnet_ros.runtimes import runtime_choice
from mrcnet_ros.runtimes.backend import Arrays
from mrcnet_ros.runtimes.backends import load_backend

STARTS = np.stack([make_transform(exp_so3(w), t) for w, t in (
    ([0.3, -1.2, 0.4], [0.02, -0.01, 0.5]), ([2.0, 0.1, -0.7], [-0.08, 0.05, 0.7]))])
CLASSES = np.array([0, 1])


@pytest.fixture
def refining(refined_model) -> PoseEstimator:
    """Load the tiny model with its refiner, one pass."""
    return load(refined_model, refine=1)


def refiner_of(estimator: PoseEstimator) -> Refiner:
    """Return the refiner that an estimator uses."""
    assert estimator.refiner is not None
    return estimator.refiner


def answering(estimator: PoseEstimator, monkeypatch: Any, **outputs: np.ndarray) -> list[Arrays]:
    """Let the refiner answer so; return what it is asked.

    :param outputs: that differ from its own, by name.
    """
    run, asked = estimator.backend.run, []

    def changed(graph: str, inputs: Arrays) -> dict[str, Any]:
        found = dict(run(graph, inputs))
        if graph == 'refiner':
            asked.append(inputs)
            found |= {name: value.astype(np.float32) for name, value in outputs.items()}
        return found

    monkeypatch.setattr(estimator.backend, 'run', changed)
    return asked


def measuring(estimator: PoseEstimator, monkeypatch: Any, change: Any, quality: float = 0.8
              ) -> None:
    """Let the refiner end at changed poses.

    :param change: (4, 4) pose of a start to that of its end.
    """
    def measure(T: np.ndarray, classes: Any, *_: Any) -> tuple[np.ndarray, np.ndarray, int, int]:
        return np.stack([change(one) for one in T]), np.full(len(T), quality), 0, len(T)

    monkeypatch.setattr(refiner_of(estimator), 'measure', measure)


def test_the_answer_that_nothing_is_wrong_is_the_start(refining, monkeypatch):
    """Of the network's numbers: the rotation seen along the ray, no offset, the usual size."""
    refiner = refiner_of(refining)
    six = []
    for T, c in zip(STARTS, CLASSES, strict=True):
        crop, nearest = pose_crop(T, refining.centred[c].diameter_m, refiner._spec.template,
                                  refiner._grid, refiner._seen[c])
        in_crop = crop.R_crop_camera @ T[:3]
        R_ray = rotation_to_axis(in_crop[:, 3]) @ in_crop[:, :3]
        six.append((R_ray @ refiner._grid[nearest].T)[:, :2].T.reshape(6))
    answering(refining, monkeypatch, six=np.array(six), fine_xy=np.zeros((2, 2)),
              fine_log_size=np.full(2, np.log(0.8)), quality=np.full(2, 1.5))
    ends, quality, _, _ = refiner.measure(STARTS, CLASSES, IMAGE, CAMERA)
    np.testing.assert_allclose(ends, STARTS, atol=2e-6)
    np.testing.assert_allclose(quality, 1 / (1 + np.exp(-1.5)), rtol=1e-6)


def test_it_looks_at_the_crops_of_the_poses_and_at_the_nearest_templates(refining, monkeypatch):
    """Pixels of the image, and features that its own graph has computed."""
    refiner = refiner_of(refining)
    asked = answering(refining, monkeypatch)
    refiner.measure(STARTS, CLASSES, IMAGE, CAMERA)
    for i, (T, c) in enumerate(zip(STARTS, CLASSES, strict=True)):
        crop, nearest = pose_crop(T, refining.centred[c].diameter_m, refiner._spec.template,
                                  refiner._grid, refiner._seen[c])
        np.testing.assert_array_equal(asked[0]['image'][i], sample_crop(IMAGE, CAMERA, crop))
        features, _, _ = refiner.features.fetch([int(c)], [nearest])
        np.testing.assert_array_equal(asked[0]['t16'][i], features['t16'][0])
        of_stage2, _, _ = refining.features.fetch([int(c)], [0])
        assert not np.array_equal(of_stage2['t16'][0], features['t16'][0])


def test_templates_that_were_not_in_memory_are_counted(refined_model, tiny_model):
    """Beside those of stage 2."""
    plain = load(tiny_model).estimate(IMAGE, CAMERA, DETECTIONS)
    estimator = load(refined_model, refine=2)
    first, second = (estimator.estimate(IMAGE, CAMERA, DETECTIONS) for _ in range(2))
    assert first.cache_misses > plain.cache_misses
    asked = second.rows['stage2'] + second.rows['refine']
    assert (second.cache_hits, second.cache_misses) == (asked, 0)


def test_several_poses_are_answered_as_each_alone(refining):
    """Objects of one image do not see one another."""
    refiner = refiner_of(refining)
    together, quality, _, _ = refiner.measure(STARTS, CLASSES, IMAGE, CAMERA)
    for i in range(2):
        alone, own, _, _ = refiner.measure(STARTS[i:i + 1], CLASSES[i:i + 1], IMAGE, CAMERA)
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)
        np.testing.assert_allclose(own[0], quality[i], atol=1e-5)


@pytest.mark.parametrize('passes', [1, 2, 3])
def test_the_pose_is_the_mean_of_its_start_and_of_all_answers(refined_model, tiny_model,
                                                              monkeypatch, passes):
    """Answers have the larger weight; each is 8 degrees aside of the start and 6 % farther."""
    (before,) = load(tiny_model)(IMAGE, CAMERA, DETECTIONS[:1])
    estimator = load(refined_model, refine=passes)
    item = estimator.objects[before.label]
    T = item.to_centred(before.T_camera_object)
    aside = np.radians(8.0) * np.array([0.6, 0.0, 0.8])
    end = make_transform(T[:3, :3] @ exp_so3(aside), 1.06 * T[:3, 3])
    measuring(estimator, monkeypatch, lambda _: end)
    result = estimator.estimate(IMAGE, CAMERA, DETECTIONS[:1])
    found = item.to_centred(result.poses[0].T_camera_object)
    part = passes * ANSWER_WEIGHT / (passes * ANSWER_WEIGHT + 1)
    assert np.linalg.norm(found[:3, 3]) == pytest.approx(
        1.06**part * np.linalg.norm(T[:3, 3]), rel=1e-5)
    assert rotation_angle((T[:3, :3] @ exp_so3(part * aside)).T @ found[:3, :3]) < 1e-3
    evidence = result.poses[0].evidence
    assert evidence.quality == pytest.approx(0.8 * evidence.share)
    assert evidence.distance == pytest.approx(np.linalg.norm(found[:3, 3]) / item.diameter_m)
    assert result.rows['refine'] == passes and result.stage_seconds['refine'] > 0
    assert estimator.refinements == passes


@pytest.mark.parametrize('wrong', ['far', 'turned'])
def test_an_answer_far_away_leaves_the_pose_and_says_how_good_it_is(refined_model, tiny_model,
                                                                   monkeypatch, wrong):
    """The refiner does not see the object there: that counts, its pose does not."""
    plain, refining = load(tiny_model)(IMAGE, CAMERA, DETECTIONS), load(refined_model, refine=3)

    def change(T: np.ndarray) -> np.ndarray:
        if wrong == 'far':
            return make_transform(T[:3, :3], 2.0 * T[:3, 3])
        return make_transform(T[:3, :3] @ exp_so3([0.0, 0.0, 0.6]), T[:3, 3])

    measuring(refining, monkeypatch, change, quality=0.25)
    result = refining.estimate(IMAGE, CAMERA, DETECTIONS)
    assert result.rows['refine'] == len(DETECTIONS)  # from there the answer would be the same
    for pose, before in zip(result.poses, plain, strict=True):
        np.testing.assert_allclose(pose.T_camera_object, before.T_camera_object, atol=1e-6)
        assert pose.evidence.quality == pytest.approx(0.25 * before.evidence.share, rel=1e-4)


def test_an_answer_that_is_not_finite_changes_nothing(refining, tiny_model, monkeypatch):
    """Neither the pose nor its score."""
    plain = load(tiny_model)(IMAGE, CAMERA, DETECTIONS)
    measuring(refining, monkeypatch, lambda T: np.full_like(T, np.nan), quality=np.nan)
    for pose, before in zip(refining(IMAGE, CAMERA, DETECTIONS), plain, strict=True):
        assert_same_pose(pose, before)
        assert pose.evidence.quality == pytest.approx(before.evidence.quality, rel=1e-4)


def test_of_equivalent_poses_it_ends_at_the_one_near_its_start(refining):
    """A box looks the same after half a turn: the mean with its start makes sense."""
    refiner, box = refiner_of(refining), 1
    assert len(refining.centred[box].symmetries.transforms) == 2
    half_turn = refining.centred[box].symmetries.transforms[1]
    first, second = STARTS[1], STARTS[1] @ half_turn
    ends, *_ = refiner.measure(np.stack([first, second]), np.array([box, box]), IMAGE, CAMERA)
    for start, end in zip((first, second), ends, strict=True):
        here = rotation_angle(start[:3, :3].T @ end[:3, :3])
        other = rotation_angle(start[:3, :3].T @ (end @ half_turn)[:3, :3])
        assert here <= other


def test_a_pose_that_is_not_finite_does_not_stop_the_others(refining, monkeypatch):
    """It is skipped as it is without a refiner."""
    run, calls = refining.backend.run, []

    def broken(graph: str, inputs: Arrays) -> dict[str, Any]:
        outputs = dict(run(graph, inputs))
        if graph == 'stage2' and not calls:
            calls.append(graph)
            outputs['fine_xy'] = outputs['fine_xy'].copy()
            outputs['fine_xy'][1] = np.nan
        return outputs

    monkeypatch.setattr(refining.backend, 'run', broken)
    result = refining.estimate(IMAGE, CAMERA, DETECTIONS)
    assert [(s.detection_index, s.reason) for s in result.skipped] == [(1, 'non_finite')]
    assert [p.detection_index for p in result.poses] == [0, 2, 3, 4]
    assert result.rows['refine'] == 4


def test_a_model_without_a_refiner_answers_as_it_does(tiny_model, caplog):
    """And it is told that the passes have no effect."""
    plain = load(tiny_model, refine=0)
    with caplog.at_level(logging.INFO):
        asked = load(tiny_model, refine=2)
    assert "'tiny': refine has no effect, because the model has no refiner" in caplog.text
    assert asked.refinements == 0
    for a, b in zip(plain(IMAGE, CAMERA, DETECTIONS), asked(IMAGE, CAMERA, DETECTIONS),
                    strict=True):
        assert_same_pose(a, b)


def test_without_passes_the_refiner_is_not_used(refined_model, tiny_model, monkeypatch):
    """Nothing of it is loaded, and the answers are those of stage 2; or of stage 1 alone."""
    plain = load(tiny_model, refine=0)(IMAGE, CAMERA, DETECTIONS)
    loaded = []
    monkeypatch.setattr(runtime_choice, 'load_backend', lambda graphs, options: (
        loaded.append(list(graphs)), load_backend(graphs, options))[1])
    estimator = load(refined_model, refine=0)
    assert loaded == [['stage1', 'template', 'stage2']]
    assert estimator.refiner is None and estimator.refinements == 0
    for a, b in zip(plain, estimator(IMAGE, CAMERA, DETECTIONS), strict=True):
        assert_same_pose(a, b)
    assert load(refined_model, refine=1, stage1_only=True).refinements == 0


def test_features_are_ready_before_the_first_image(refined_model):
    """Those of stage 2 and those of the refiner share the memory."""
    estimator = load(refined_model, refine=1, preload=True)
    refiner = refiner_of(estimator)
    before = len(refiner.features.cache)
    assert refiner.features.cache is estimator.features.cache
    _, hits, misses = refiner.features.fetch([0, 1], [0, 11])
    assert (hits, misses) == (2, 0) and len(refiner.features.cache) == before
    assert before == 2 * (48 + 12)


@pytest.mark.parametrize('refine', [-1, 4, True, 1.5, '1'])
def test_another_number_of_passes_is_refused(tiny_model, refine):
    """By name and range."""
    with pytest.raises(SpecError, match='refine must be a whole number from 0 to 3, got'):
        load(tiny_model, refine=refine)
