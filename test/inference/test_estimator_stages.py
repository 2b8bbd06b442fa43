"""The stages of the estimator: templates in memory, several crops and hypotheses, crowds."""

from __future__ import annotations

import dataclasses
import json
import shutil
from typing import Any

import numpy as np
import pytest
from tiny_estimator import (
    CAMERA,
    DETECTIONS,
    IMAGE,
    assert_same_pose,
    load,
)

from mrcnet_ros.errors import SpecError
from mrcnet_ros.geometry.crop import crop_camera
from mrcnet_ros.geometry.rotation_grid import nearest_bin
from mrcnet_ros.geometry.se3 import (
    make_transform,
    rotation_angle,
    rotation_to_axis,
)
from mrcnet_ros.geometry.view_prior import allowed_bins
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.known_start import KnownPose
from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.inference.template_features import AT_ONCE, TemplateFeatures
from mrcnet_ros.runtimes.backend import Arrays
from mrcnet_ros.specs import CropSpec, ViewPrior


def test_templates_seen_before_come_from_memory(tiny_model):
    """The second time all template features are in memory, and the poses are the same."""
    estimator = load(tiny_model)
    first = estimator.estimate(IMAGE, CAMERA, DETECTIONS)
    second = estimator.estimate(IMAGE, CAMERA, DETECTIONS)
    assert (first.cache_hits, first.cache_misses) == (0, 5)
    assert (second.cache_hits, second.cache_misses) == (5, 0)
    for a, b in zip(first.poses, second.poses, strict=True):
        assert_same_pose(a, b)


def test_more_boxes_of_an_object_are_answered_only_in_doubt(tiny_model, estimator, monkeypatch):
    """All boxes where nothing is sure; where the first ones are, the others are not looked at."""
    most, boxes = {'box': 1, 'blob': 2}, [
        dataclasses.replace(d, score=score)
        for d, score in zip(DETECTIONS, (0.4, 0.8, 0.7, 0.9, 0.6), strict=True)]
    all_poses = estimator(IMAGE, CAMERA, boxes)
    result = estimator.estimate(IMAGE, CAMERA, boxes, most=most)
    assert result.rows['stage1'] == 5
    assert sorted(p.label for p in result.poses) == ['blob', 'blob', 'box']
    for pose in result.poses:
        assert_same_pose(pose, all_poses[pose.detection_index])
    left_out = dict.fromkeys(range(5), 'outranked') | {s.detection_index: s.reason
                                                     for s in result.skipped}
    for pose in result.poses:
        assert left_out.pop(pose.detection_index) == 'outranked'
    assert left_out == {s.detection_index: s.reason for s in result.skipped}
    sure = load(tiny_model)
    monkeypatch.setattr('mrcnet_ros.inference.detection_choice.SURE_QUALITY', 0.0)
    monkeypatch.setattr(sure, '_corrected', lambda poses, *_: [
        dataclasses.replace(p, stands=True) for p in poses])
    result = sure.estimate(IMAGE, CAMERA, boxes, most=most)
    assert [p.detection_index for p in result.poses] == [1, 2, 3]
    assert [s.detection_index for s in result.skipped] == [0, 4] and result.rows['stage1'] == 3


@pytest.mark.parametrize('most', [{'box': -1}, {'box': 1.5}, {'box': True}, {'box': 'a'}, ['box']])
def test_a_number_of_instances_that_is_none_is_refused(estimator, most):
    """Instead of leaving out some object without a word."""
    with pytest.raises(SpecError, match='most'):
        estimator.estimate(IMAGE, CAMERA, DETECTIONS, most=most)
    result = estimator.estimate(IMAGE, CAMERA, DETECTIONS, most={'box': 0, 'blob': 0})
    assert result.poses == [] and [s.reason for s in result.skipped] == ['outranked'] * 5


def test_poses_are_followed_whatever_was_detected(tiny_model, estimator):
    """Where nobody says how often an object is there, nothing is chosen."""
    found = estimator.estimate(IMAGE, CAMERA, DETECTIONS[:2], most={'box': 1}).poses
    followed = estimator.follow(IMAGE, CAMERA, [
        KnownPose(pose.label, pose.T_camera_object, pose.detection_id) for pose in found])
    assert [p.label for p in followed.poses] == [p.label for p in found] and not followed.skipped


def test_templates_can_be_computed_ahead(tiny_model, estimator):
    """No image waits for them then, and the poses are the same."""
    ahead = load(tiny_model, preload=True)
    assert len(ahead.features.cache) == sum(
        len(t.bin_indices) for t in ahead.features._templates)
    result = ahead.estimate(IMAGE, CAMERA, DETECTIONS)
    assert (result.cache_hits, result.cache_misses) == (5, 0)
    for a, b in zip(result.poses, estimator(IMAGE, CAMERA, DETECTIONS), strict=True):
        assert_same_pose(a, b)


@pytest.mark.parametrize('cache_bytes', [0, 20_000])
def test_of_templates_ahead_there_are_as_many_as_fit(tiny_model, cache_bytes, monkeypatch, caplog):
    """Each object has its share, it is told, and nothing is computed in vain for long."""
    computed, compute = [], TemplateFeatures._compute
    monkeypatch.setattr(TemplateFeatures, '_compute',
                        lambda self, keys: computed.extend(keys) or compute(self, keys))
    features = load(tiny_model, preload=True, cache_bytes=cache_bytes).features
    assert len(computed) == 1 + AT_ONCE  # one for the proof of the graphs
    assert {class_index for class_index, _ in computed} == {0, 1}
    assert features.cache.size_bytes <= cache_bytes
    assert 'no room for the features of all 96' in caplog.text


@pytest.mark.parametrize('cache_bytes', [0, 20_000])
def test_a_small_memory_changes_no_pose(tiny_model, estimator, cache_bytes):
    """With room for no template, or for a few, poses are the same and memory is kept to."""
    small = load(tiny_model, cache_bytes=cache_bytes)
    expected = estimator(IMAGE, CAMERA, DETECTIONS)
    for _ in range(2):
        for a, b in zip(small(IMAGE, CAMERA, DETECTIONS), expected, strict=True):
            assert_same_pose(a, b)
    assert small.features.cache.size_bytes <= cache_bytes


def test_templates_come_from_the_store(tiny_model, estimator, monkeypatch):
    """Another estimator finds the templates that the first has drawn."""
    monkeypatch.setattr('mrcnet_ros.rendering.template_store.draw_templates', None)
    assert_same_pose(load(tiny_model)(IMAGE, CAMERA, DETECTIONS)[0],
                     estimator(IMAGE, CAMERA, DETECTIONS)[0])


def ray_rotation(pose: PoseEstimate, spec: CropSpec) -> np.ndarray:
    """Return the rotation of an estimate seen along the ray to the object, (3, 3)."""
    crop = crop_camera(CAMERA, pose.box_xyxy, spec)
    T = make_transform(crop.R_crop_camera, np.zeros(3)) @ pose.T_camera_object
    return rotation_to_axis(T[:3, 3]) @ T[:3, :3]


def test_stage_1_alone_answers_with_a_bin(tiny_model, estimator):
    """Its rotations are bin centres, and no template is asked for; stage 2 moves them."""
    result = load(tiny_model, stage1_only=True).estimate(IMAGE, CAMERA, DETECTIONS)
    assert (result.cache_hits, result.cache_misses) == (0, 0)
    assert not {'template', 'stage2'} & set(result.stage_seconds)
    for coarse, fine in zip(result.poses, estimator(IMAGE, CAMERA, DETECTIONS), strict=True):
        R = ray_rotation(coarse, estimator.spec.crop)
        centre = estimator.grid[nearest_bin(R, estimator.grid)]
        assert rotation_angle(centre.T @ R) < 1e-6
        assert np.abs(coarse.T_camera_object - fine.T_camera_object).max() > 1e-3


def test_every_crop_of_a_detection_is_asked_about(tiny_model, monkeypatch):
    """They differ from one another; the first is the one that is turned least."""
    estimator, seen = load(tiny_model, crops=4), []
    run = estimator.backend.run

    def noted(graph: str, inputs: Arrays) -> dict[str, Any]:
        seen.append(inputs)
        return run(graph, inputs)

    monkeypatch.setattr(estimator.backend, 'run', noted)
    assert len(estimator(IMAGE, CAMERA, DETECTIONS[:2])) == 2
    images = seen[0]['image'].astype(float)
    assert seen[0]['class_index'].tolist() == [estimator._index[d.label] for d in DETECTIONS[:2]
                                               for _ in range(4)]
    apart = np.abs(images[:, None] - images[None]).mean((2, 3, 4))
    assert (apart + 99 * np.eye(8) > 1.0).all()


def test_a_crowd_is_answered_in_parts(tiny_model, estimator, monkeypatch):
    """However many detections, memory is taken for 32 crops; poses are those of few."""
    counts, run = [], estimator.backend.run

    def noted(graph: str, inputs: Arrays) -> dict[str, Any]:
        counts.append(len(inputs['class_index']))
        return run(graph, inputs)

    expected = estimator(IMAGE, CAMERA, DETECTIONS)
    monkeypatch.setattr(estimator.backend, 'run', noted)
    result = estimator.estimate(IMAGE, CAMERA, DETECTIONS * 9)
    assert max(counts) == 32 and len(result.poses) == 45
    assert result.cache_hits + result.cache_misses == 45
    assert [p.detection_index for p in result.poses] == list(range(45))
    for pose, same in zip(result.poses, expected * 9, strict=True):
        np.testing.assert_allclose(pose.T_camera_object, same.T_camera_object, atol=1e-4)
    three = load(tiny_model, crops=3)
    monkeypatch.setattr(three.backend, 'run', noted)
    counts.clear()
    assert len(three(IMAGE, CAMERA, DETECTIONS * 9)) == 45
    assert max(counts) == 30  # no detection is torn apart
    eight = load(tiny_model, hypotheses=8)
    monkeypatch.setattr(eight.backend, 'run', noted)
    counts.clear()
    assert len(eight(IMAGE, CAMERA, DETECTIONS * 9)) == 45
    assert 32 < max(counts) <= 96  # several answers to each crop


def test_there_must_be_a_crop(tiny_model):
    """None at all is refused by name."""
    with pytest.raises(SpecError, match='crops must be a whole number from 1 to 32, got 0'):
        load(tiny_model, crops=0)


def test_several_hypotheses_have_a_template_each(tiny_model, estimator):
    """One of them is that of stage 1, and the answer is that to one of them."""
    several = load(tiny_model, hypotheses=3)
    result = several.estimate(IMAGE, CAMERA, DETECTIONS)
    count = result.cache_hits + result.cache_misses
    assert len(DETECTIONS) < count <= 3 * len(DETECTIONS)
    plain = estimator(IMAGE, CAMERA, DETECTIONS)
    same = [pose.bin_index == one.bin_index for pose, one in zip(result.poses, plain, strict=True)]
    assert len(same) == len(DETECTIONS)
    for pose, one, like in zip(result.poses, plain, same, strict=True):
        if like:  # of one crop a pose is that of one hypothesis, or a mean of near ones
            np.testing.assert_allclose(pose.T_camera_object[2, 3], one.T_camera_object[2, 3],
                                       rtol=0.5)


def test_an_outline_counts_whether_or_not_others_are_undecided(tiny_model, monkeypatch):
    """Each crop of the first box is sure of another bin; only the second box has several."""
    several = load(tiny_model, crops=2, hypotheses=3)
    whole = several.backend.run

    def sure(wanted: str, inputs: Arrays) -> dict[str, Any]:
        outputs = whole(wanted, inputs)
        if wanted == 'stage1':
            logits = outputs['rotation_logits'].copy()
            allowed = np.flatnonzero(several._allowed[int(inputs['class_index'][0])])
            logits[:2] = -50.0
            logits[0, allowed[0]] = logits[1, allowed[len(allowed) // 2]] = 50.0
            outputs['rotation_logits'] = logits
        return outputs

    monkeypatch.setattr(several.backend, 'run', sure)
    together = several.estimate(IMAGE, CAMERA, DETECTIONS[:2])
    assert together.cache_hits + together.cache_misses > 4, 'the second box is decided, too'
    alone = several(IMAGE, CAMERA, DETECTIONS[:1])[0]
    assert_same_pose(together.poses[0], alone)
    assert together.poses[0].evidence.share == pytest.approx(alone.evidence.share, abs=1e-4)


def test_a_crop_whose_rotations_are_not_finite_is_skipped(tiny_model, monkeypatch):
    """The others are answered as before."""
    several = load(tiny_model, hypotheses=3)
    expected, whole = several(IMAGE, CAMERA, DETECTIONS)[1:], several.backend.run

    def broken(wanted: str, inputs: Arrays) -> dict[str, Any]:
        outputs = whole(wanted, inputs)
        if wanted == 'stage1':
            outputs['rotation_logits'] = outputs['rotation_logits'].copy()
            outputs['rotation_logits'][0] = np.nan
        return outputs

    monkeypatch.setattr(several.backend, 'run', broken)
    result = several.estimate(IMAGE, CAMERA, DETECTIONS)
    assert [(s.detection_index, s.reason) for s in result.skipped] == [(0, 'non_finite')]
    for pose, same in zip(result.poses, expected, strict=True):
        assert_same_pose(pose, same)


def test_bins_outside_the_view_prior_are_never_answered(tiny_model, tmp_path):
    """An object that is only seen from above is only estimated from above."""
    path = tmp_path / 'model'
    shutil.copytree(tiny_model.path, path)
    values = json.loads((path / 'model.json').read_text())
    prior = {'elevation_min_deg': 30.0, 'elevation_max_deg': 80.0, 'tilt_max_deg': 15.0}
    for entry in values['objects']:
        entry['view_prior'] = prior
    (path / 'model.json').write_text(json.dumps(values))
    estimator = PoseEstimator.load(path, tiny_model.meshes, store_root=tmp_path / 'store',
                                   stage1_only=True)
    allowed = allowed_bins(ViewPrior(**prior), estimator.grid)
    assert 0 < allowed.sum() < len(allowed)
    for pose in estimator(IMAGE, CAMERA, DETECTIONS):
        assert allowed[nearest_bin(ray_rotation(pose, estimator.spec.crop), estimator.grid)]
