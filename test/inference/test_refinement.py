"""The last stage: stage 2 starts once more, at the pose itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tiny_estimator import CAMERA, DETECTIONS, IMAGE, assert_same_pose, load

from mrcnet_ros.errors import SpecError
from mrcnet_ros.geometry.bins import encode_translation
from mrcnet_ros.geometry.crop import crop_camera
from mrcnet_ros.geometry.se3 import exp_so3, rotation_angle, rotation_to_axis
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.known_start import KnownPose
from mrcnet_ros.runtimes.backend import Arrays

Answer = Callable[[Arrays, dict[str, Any]], None]
SAME = np.array([1, 0, 0, 0, 1, 0], np.float32)  # no rotation


def answering(estimator: PoseEstimator, monkeypatch: Any, answer: Answer) -> list[Arrays]:
    """Let stage 2 answer its later calls in another way; return what it is asked in these.

    :param answer: changes what stage 2 has said to some inputs.
    """
    run, asked = estimator.backend.run, []

    def changed(graph: str, inputs: Arrays) -> dict[str, Any]:
        outputs = dict(run(graph, inputs))
        if graph == 'stage1':
            asked.clear()
        if graph == 'stage2':
            asked.append(inputs)
            if len(asked) > 1:
                answer(inputs, outputs)
        return outputs

    monkeypatch.setattr(estimator.backend, 'run', changed)
    return asked


def content(inputs: Arrays, outputs: dict[str, Any]) -> None:
    """Say that the start is right, and how good it is."""
    outputs |= {'six': np.tile(SAME, (len(inputs['xy']), 1)), 'fine_xy': inputs['xy'],
                'fine_log_size': inputs['log_size'],
                'quality': np.full(len(inputs['xy']), 1.5, np.float32)}


@pytest.mark.parametrize('passes', [1, 3])
@pytest.mark.parametrize('crops', [1, 2])
def test_a_pose_that_stage_2_agrees_with_stays(tiny_model, monkeypatch, passes, crops):
    """It starts at the very pose; what it says of its quality replaces what was said before."""
    options = {'crops': crops, 'hypotheses': 3}
    plain = load(tiny_model, **options)(IMAGE, CAMERA, DETECTIONS)
    estimator = load(tiny_model, refine=passes, **options)
    asked = answering(estimator, monkeypatch, content)
    result = estimator.estimate(IMAGE, CAMERA, DETECTIONS)
    assert len(asked) == 1 + passes and result.stage_seconds['refine'] > 0
    for pose, before in zip(result.poses, plain, strict=True):
        np.testing.assert_allclose(pose.T_camera_object, before.T_camera_object, atol=2e-6)
        assert pose.evidence.quality == pytest.approx(
            pose.evidence.share / (1 + np.exp(-1.5)), rel=1e-6)
        assert (pose.evidence.share, pose.evidence.apart, pose.bin_index) == pytest.approx(
            (before.evidence.share, before.evidence.apart, before.bin_index), rel=1e-4,
            nan_ok=True)


def test_the_pose_is_the_mean_of_its_start_and_of_the_answer(tiny_model, monkeypatch):
    """An answer 8 degrees aside, 6 % farther and beside the start moves the pose half as far."""
    detection = DETECTIONS[:1]
    (before,) = load(tiny_model)(IMAGE, CAMERA, detection)
    estimator = load(tiny_model, refine=1)
    item = estimator.objects[before.label]
    crop = crop_camera(CAMERA, detection[0].box_xyxy, estimator.spec.crop)
    T = item.to_centred(before.T_camera_object)
    aside = np.radians(8.0) * np.array([0.6, 0.0, 0.8])
    t_end = 1.06 * exp_so3([0.0, 0.01, 0.0]) @ T[:3, 3]
    in_crop = crop.R_crop_camera @ t_end
    R_start = rotation_to_axis(crop.R_crop_camera @ T[:3, 3]) @ crop.R_crop_camera @ T[:3, :3]
    R_end = rotation_to_axis(in_crop) @ crop.R_crop_camera @ T[:3, :3] @ exp_so3(aside)
    six = (R_end @ R_start.T)[:, :2].T.reshape(6)
    code = encode_translation(in_crop, crop.focal, item.diameter_m)

    def aside_of_it(inputs: Arrays, outputs: dict[str, Any]) -> None:
        outputs |= {'six': six[None].astype(np.float32), 'fine_xy': code[None, :2],
                    'fine_log_size': code[2:]}

    answering(estimator, monkeypatch, aside_of_it)
    (pose,) = estimator(IMAGE, CAMERA, detection)
    found = item.to_centred(pose.T_camera_object)
    assert np.linalg.norm(found[:3, 3]) == pytest.approx(
        np.sqrt(1.06) * np.linalg.norm(T[:3, 3]), rel=1e-5)
    halfway = T[:3, :3] @ exp_so3(aside / 2)
    assert rotation_angle(halfway.T @ found[:3, :3]) < 1e-3
    assert pose.evidence.distance == pytest.approx(
        np.linalg.norm(found[:3, 3]) / item.diameter_m)


@pytest.mark.parametrize('passes', [1, 2, 3])
def test_every_pass_counts_as_much_as_the_start(tiny_model, monkeypatch, passes):
    """Answers are 10 % nearer than the start was; the mean is of all of them and the start."""
    plain = load(tiny_model)(IMAGE, CAMERA, DETECTIONS)
    estimator = load(tiny_model, refine=passes)
    first: dict[str, Any] = {}

    def nearer(inputs: Arrays, outputs: dict[str, Any]) -> None:
        first.setdefault('xy', inputs['xy'])
        first.setdefault('log_size', inputs['log_size'])
        content(inputs, outputs)
        outputs |= {'fine_xy': first['xy'], 'fine_log_size': first['log_size'] - np.log(0.9)}

    answering(estimator, monkeypatch, nearer)
    for pose, before in zip(estimator(IMAGE, CAMERA, DETECTIONS), plain, strict=True):
        item = estimator.objects[pose.label]
        t, t_before = (item.to_centred(p.T_camera_object)[:3, 3] for p in (pose, before))
        ratio = np.linalg.norm(t) / np.linalg.norm(t_before)
        assert ratio == pytest.approx(0.9 ** (passes / (passes + 1)), rel=2e-3)


@pytest.mark.parametrize('wrong', ['far', 'turned', 'not finite', 'quality not finite'])
def test_an_answer_that_does_not_fit_changes_nothing(tiny_model, monkeypatch, wrong):
    """Neither the pose nor its score."""
    plain = load(tiny_model)(IMAGE, CAMERA, DETECTIONS)
    estimator = load(tiny_model, refine=2)

    def unfit(inputs: Arrays, outputs: dict[str, Any]) -> None:
        content(inputs, outputs)
        if wrong == 'far':
            outputs['fine_log_size'] = inputs['log_size'] - 0.5
        elif wrong == 'turned':
            outputs['six'] = np.tile(exp_so3([0, 0, 0.6])[:, :2].T.reshape(6), (5, 1))
        else:
            name = 'fine_xy' if wrong == 'not finite' else 'quality'
            outputs[name] = np.full_like(outputs[name], np.nan)

    answering(estimator, monkeypatch, unfit)
    for pose, before in zip(estimator(IMAGE, CAMERA, DETECTIONS), plain, strict=True):
        assert_same_pose(pose, before)
        assert pose.evidence == before.evidence


def test_the_crops_of_a_detection_take_turns(tiny_model, monkeypatch):
    """Each pass looks at another one, beginning with the one that the pose belongs to."""
    estimator = load(tiny_model, refine=2, crops=2)
    asked = answering(estimator, monkeypatch, content)
    estimator(IMAGE, CAMERA, DETECTIONS[:1])
    first, second = asked[1:]
    rows = asked[0]['x16']
    assert len(rows) == 2 and np.abs(rows[0] - rows[1]).max() > 1e-3
    used = {int(np.abs(rows - one['x16']).max(axis=(1, 2, 3)).argmin()) for one in (first, second)}
    assert used == {0, 1}


def test_a_pose_that_is_not_finite_does_not_stop_the_others(tiny_model, monkeypatch):
    """It is skipped as it is without a refinement."""
    estimator = load(tiny_model, refine=1)
    run = estimator.backend.run
    calls = []

    def broken(graph: str, inputs: Arrays) -> dict[str, Any]:
        outputs = dict(run(graph, inputs))
        if graph == 'stage2' and not calls:
            calls.append(graph)
            outputs['fine_xy'] = outputs['fine_xy'].copy()
            outputs['fine_xy'][1] = np.nan
        return outputs

    monkeypatch.setattr(estimator.backend, 'run', broken)
    result = estimator.estimate(IMAGE, CAMERA, DETECTIONS)
    assert [(s.detection_index, s.reason) for s in result.skipped] == [(1, 'non_finite')]
    assert [p.detection_index for p in result.poses] == [0, 2, 3, 4]


def test_followed_objects_are_not_refined(tiny_model):
    """They start at a known pose already, at camera rate."""
    plain, refined = load(tiny_model), load(tiny_model, refine=1)
    starts = [KnownPose(p.label, p.T_camera_object) for p in plain(IMAGE, CAMERA, DETECTIONS)]
    a, b = (e.follow(IMAGE, CAMERA, starts) for e in (plain, refined))
    assert 'refine' not in b.stage_seconds
    for pose, same in zip(a.poses, b.poses, strict=True):
        assert_same_pose(pose, same)


def test_without_a_refinement_nothing_is_drawn(tiny_model, estimator, monkeypatch):
    """A machine that has the templates needs no OpenGL then."""
    assert estimator is not None  # its templates are in the store
    monkeypatch.setattr('mrcnet_ros.inference.refinement.ExactStage2', None)
    assert len(load(tiny_model)(IMAGE, CAMERA, DETECTIONS)) == len(DETECTIONS)
    assert len(load(tiny_model, refine=1, stage1_only=True)(IMAGE, CAMERA, DETECTIONS)) == 5


def test_the_backend_is_closed_whatever_the_renderer_says(tiny_model, monkeypatch):
    """Such as that another thread made it."""
    estimator, closed = load(tiny_model, refine=1), []
    monkeypatch.setattr(estimator.backend, 'close', lambda: closed.append(True))
    with ThreadPoolExecutor(1) as other, pytest.raises(RuntimeError, match='was made by'):
        other.submit(estimator.close).result()
    assert closed == [True]
    estimator._refiner.close()


@pytest.mark.parametrize('refine', [-1, 4, True, 1.5, '1'])
def test_another_number_of_passes_is_refused(tiny_model, refine):
    """By name and range."""
    with pytest.raises(SpecError, match='refine must be a whole number from 0 to 3, got'):
        load(tiny_model, refine=refine)
