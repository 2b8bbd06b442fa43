"""The estimator: every detection answered or counted, whatever comes with it."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq
from tiny_estimator import (
    CAMERA,
    DETECTIONS,
    HEIGHT,
    IMAGE,
    WIDTH,
    assert_same_pose,
    load,
    texture,
)

from mrcnet_ros.errors import BackendError, BoxError, CameraError, ImageError, SpecError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.crop import crop_camera
from mrcnet_ros.geometry.se3 import (
    rotation_angle,
)
from mrcnet_ros.inference.calibration_entries import write_law
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.poses import Detection
from mrcnet_ros.inference.scoring import ScoreLaw
from mrcnet_ros.inference.uncertainty import CovarianceLaw
from mrcnet_ros.runtimes.backend import Arrays

NAN = float('nan')
LAW = CovarianceLaw(lateral_floor=0.01, lateral_gain=0.4, depth_floor=0.02, depth_gain=0.5,
                    rotation_floor_rad=0.05, rotation_gain=0.6, score_exponent=0.3)


def test_each_detection_gets_its_own_pose(estimator):
    """Poses come in the order of the detections and carry their ids, labels and boxes."""
    result = estimator.estimate(IMAGE, CAMERA, DETECTIONS)
    assert result.skipped == []
    assert [p.detection_index for p in result.poses] == [0, 1, 2, 3, 4]
    for pose, detection in zip(result.poses, DETECTIONS, strict=True):
        assert (pose.label, pose.detection_id) == (detection.label, detection.detection_id)
        assert pose.object_id == {'blob': 2, 'box': 7}[pose.label]
        np.testing.assert_array_equal(pose.box_xyxy, detection.box_xyxy)
        T = pose.T_camera_object
        np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(T[:3, :3]) == pytest.approx(1.0)
        assert T[2, 3] > 0
        assert 0 < pose.score < 1
    assert len({p.T_camera_object.tobytes() for p in result.poses}) == 5
    assert set(result.stage_seconds) == {'crop', 'stage1', 'template', 'stage2', 'decode'}
    assert all(s >= 0 for s in result.stage_seconds.values())


def test_several_detections_get_the_poses_they_get_alone(estimator):
    """What else is in the image does not change a pose."""
    together = estimator(IMAGE, CAMERA, DETECTIONS)
    for pose, detection in zip(together, DETECTIONS, strict=True):
        assert_same_pose(pose, estimator(IMAGE, CAMERA, [detection])[0])


def test_a_calibrated_model_tells_the_covariance_of_every_pose(tiny_model, estimator, tmp_path):
    """The poses are the same as without; the stage that is left out leaves no covariance."""
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    write_law(path, LAW)
    poses, coarse = (PoseEstimator.load(path, tiny_model.meshes, store_root=tiny_model.store,
                                        threads=1, crops=1, hypotheses=1, stage1_only=only)(
                         IMAGE, CAMERA, DETECTIONS)
                     for only in (False, True))
    for pose, plain in zip(poses, estimator(IMAGE, CAMERA, DETECTIONS), strict=True):
        np.testing.assert_array_equal(pose.T_camera_object, plain.T_camera_object)
        C = pose.covariance
        assert (C.shape, C.dtype) == ((6, 6), np.float64)
        np.testing.assert_array_equal(C, C.T)
        assert np.linalg.eigvalsh(C).min() > 0
        ray = pose.T_camera_object[:3, 3]  # nowhere is depth surer than floor and best score are
        assert ray @ np.linalg.solve(C[:3, :3], ray) < LAW.depth_floor**-2 * 50.0**0.6
    assert len({p.covariance.tobytes() for p in poses}) == len(DETECTIONS)
    assert all(p.covariance is None for p in coarse)


def test_a_law_of_scores_changes_scores_alone(tiny_model, estimator, tmp_path):
    """Poses and covariances stay, and so do scores of the coarse stage, which it is not for."""
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    write_law(path, LAW)
    before = PoseEstimator.load(path, tiny_model.meshes, store_root=tiny_model.store, threads=1,
                                crops=2)(IMAGE, CAMERA, DETECTIONS)
    law = ScoreLaw(offset=-3.0, quality_gain=2.0, apart_gain=-0.7, usual_apart=0.2)
    write_law(path, law)
    poses, coarse = (PoseEstimator.load(path, tiny_model.meshes, store_root=tiny_model.store,
                                        threads=1, crops=2, stage1_only=only)(
                         IMAGE, CAMERA, DETECTIONS)
                     for only in (False, True))
    for pose, plain in zip(poses, before, strict=True):
        np.testing.assert_array_equal(pose.T_camera_object, plain.T_camera_object)
        np.testing.assert_array_equal(pose.covariance, plain.covariance)
        assert pose.evidence.apart > 0 and pose.evidence == plain.evidence
        assert plain.score == plain.evidence.quality
        assert pose.score == law.probability(pose.evidence) != plain.score
    assert all(p.score == p.evidence.quality for p in coarse)
    alone = estimator(IMAGE, CAMERA, DETECTIONS)
    assert all(math.isnan(p.evidence.apart) for p in alone)


def test_without_a_law_there_is_no_covariance(tiny_model, estimator):
    """What it would come from is told to those who ask."""
    assert all(p.covariance is None and p.spread is None
               for p in estimator(IMAGE, CAMERA, DETECTIONS))
    for pose in load(tiny_model, spreads=True)(IMAGE, CAMERA, DETECTIONS):
        assert pose.covariance is None
        assert pose.spread.score == pose.score


def test_a_plane_is_looked_for_only_where_poses_have_covariances(tiny_model, tmp_path, caplog):
    """The log says once what is missing."""
    caplog.set_level('INFO')
    assert not load(tiny_model).finds_plane and not load(tiny_model, find_plane=False).finds_plane
    assert [r.getMessage() for r in caplog.records if 'find_plane' in r.getMessage()] == [
        "model 'tiny': find_plane has no effect, because the model has no covariance calibration; "
        'run mrcnet calibrate --write']
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    write_law(path, LAW)
    assert PoseEstimator.load(path, tiny_model.meshes, store_root=tiny_model.store).finds_plane


@pytest.mark.parametrize(('graph', 'name'), [('stage2', 'fine_xy'), ('stage1', 'scale_logits')])
def test_a_covariance_goes_with_its_pose_whatever_happens_to_others(
        tiny_model, tmp_path, monkeypatch, graph, name):
    """A pose that is not finite is skipped, a covariance that is not is left out."""
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    write_law(path, LAW)
    estimator = PoseEstimator.load(path, tiny_model.meshes, store_root=tiny_model.store, threads=1,
                                   crops=1, hypotheses=1)
    expected = estimator(IMAGE, CAMERA, DETECTIONS)[1:]
    whole = estimator.backend.run

    def broken(wanted: str, inputs: Arrays) -> dict[str, Any]:
        outputs = whole(wanted, inputs)
        if wanted == graph:
            outputs[name] = outputs[name].copy()
            outputs[name][0] = NAN
        return outputs

    monkeypatch.setattr(estimator.backend, 'run', broken)
    poses = estimator(IMAGE, CAMERA, DETECTIONS)
    if graph == 'stage1':
        assert poses.pop(0).covariance is None
    assert len(poses) == len(expected)
    for pose, same in zip(poses, expected, strict=True):
        np.testing.assert_allclose(pose.covariance, same.covariance, rtol=1e-6, atol=1e-12)


def test_bin_and_covariance_come_from_a_crop_that_took_part(tiny_model, tmp_path, monkeypatch):
    """With the least turned crop left out they are those of the other one."""
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    write_law(path, LAW)
    estimator = PoseEstimator.load(path, tiny_model.meshes, store_root=tiny_model.store, threads=1,
                                   crops=2, hypotheses=1)
    whole, logits = estimator.backend.run, []

    def broken(wanted: str, inputs: Arrays) -> dict[str, Any]:
        outputs = whole(wanted, inputs)
        if wanted == 'stage1':
            logits.append(outputs['rotation_logits'])
        elif wanted == 'stage2':
            outputs['fine_xy'] = outputs['fine_xy'].copy()
            outputs['fine_xy'][0] = NAN
        return outputs

    monkeypatch.setattr(estimator.backend, 'run', broken)
    pose = estimator(IMAGE, CAMERA, DETECTIONS[:1])[0]
    allowed = estimator._allowed[estimator._index[pose.label]]
    bins = np.where(allowed, logits[0], -np.inf).argmax(axis=1)
    assert bins[0] != bins[1], 'this image tells nothing'
    assert pose.bin_index == bins[1] and np.linalg.eigvalsh(pose.covariance).min() > 0


def test_the_order_of_detections_does_not_matter(estimator):
    """Shuffled detections get the same poses, in their new order."""
    poses = estimator(IMAGE, CAMERA, DETECTIONS)
    order = [3, 0, 4, 2, 1]
    shuffled = estimator(IMAGE, CAMERA, [DETECTIONS[i] for i in order])
    for new, old in enumerate(order):
        assert shuffled[new].detection_index == new
        assert_same_pose(shuffled[new], poses[old])


def test_the_pose_depends_on_image_and_label(estimator):
    """Another image, or another object in the same box, gives another pose."""
    detection = DETECTIONS[1]
    base = estimator(IMAGE, CAMERA, [detection])[0].T_camera_object
    other_image = estimator(texture(1), CAMERA, [detection])[0].T_camera_object
    other_label = estimator(IMAGE, CAMERA, [Detection('box', detection.box_xyxy)])[0]
    assert np.abs(base - other_image).max() > 1e-3
    assert np.abs(base - other_label.T_camera_object).max() > 1e-3


@pytest.mark.parametrize(('bad', 'reason', 'message'), [
    (Detection('teapot', np.array([10.0, 10, 60, 60])), 'unknown_label', "'teapot'.*blob, box"),
    (Detection('blob', np.array([500.0, 10, 560, 60])), 'box_outside', 'outside the 240x180'),
    (Detection('blob', np.array([-90.0, -90, -10, -10])), 'box_outside', 'outside'),
    (Detection('blob', np.array([10.0, NAN, 60, 60])), 'non_finite', 'finite'),
    (Detection('blob', np.array([10.0, 10, np.inf, 60])), 'non_finite', 'finite'),
    (Detection('blob', np.array([-5000.0, -5000, 5000, 5000])), 'box_outside', 'far larger'),
    (Detection('blob', np.array([60.0, 60, 10, 10])), 'box_outside', 'at least 2 px'),
    (Detection('blob', np.array([60.0, 60, 60, 80])), 'box_outside', 'at least 2 px'),
])
def test_a_detection_that_cannot_be_answered_is_counted(estimator, bad, reason, message):
    """It is skipped with a reason and a message; the others are answered as without it."""
    good = estimator(IMAGE, CAMERA, DETECTIONS[:2])
    result = estimator.estimate(IMAGE, CAMERA, [DETECTIONS[0], bad, DETECTIONS[1]])
    assert [(s.detection_index, s.reason) for s in result.skipped] == [(1, reason)]
    assert [p.detection_index for p in result.poses] == [0, 2]
    for pose, expected in zip(result.poses, good, strict=True):
        assert_same_pose(pose, expected)
    assert re.search(message, result.skipped[0].message)


def test_every_detection_is_a_pose_or_skipped(estimator):
    """Only bad detections, or none at all, give a result without poses."""
    bad = [Detection('teapot', DETECTIONS[0].box_xyxy), Detection('blob', np.full(4, NAN))]
    result = estimator.estimate(IMAGE, CAMERA, bad)
    assert result.poses == []
    assert [s.detection_index for s in result.skipped] == [0, 1]
    nothing = estimator.estimate(IMAGE, CAMERA, [])
    assert (nothing.poses, nothing.skipped) == ([], [])


@pytest.mark.parametrize(('image', 'message'), [
    (IMAGE[:-1], 'image is 240x179, but the camera is calibrated for 240x180'),
    (np.transpose(IMAGE, (1, 0, 2)), 'image is 180x240'),
    (IMAGE.astype(np.float32), 'uint8 RGB, got .* float32'),
    (IMAGE[..., 0], r'got \(180, 240\) uint8'),
    (np.dstack([IMAGE, IMAGE[..., :1]]), r'got \(180, 240, 4\)'),
    (IMAGE.tolist(), 'must be a NumPy array, got list'), (None, 'got NoneType')])
def test_an_image_that_does_not_fit_is_refused(estimator, image, message):
    """Size and type are told, with those expected."""
    with pytest.raises(ImageError, match=message):
        estimator.estimate(image, CAMERA, DETECTIONS)


def test_detections_of_any_kind_are_answered_or_refused(estimator):
    """None is passed over without a word, as a generator was that is read twice."""
    expected = estimator.estimate(IMAGE, CAMERA, DETECTIONS).poses
    found = estimator.estimate(IMAGE, CAMERA, (d for d in DETECTIONS)).poses
    assert len(found) == len(expected) == len(DETECTIONS)
    for given, got in ((DETECTIONS[0], 'Detection'), (None, 'NoneType'),
                       ([DETECTIONS[0], ('box', (1, 2, 3, 4))], 'tuple')):
        with pytest.raises(SpecError, match=f'list of Detection objects, got {got}'):
            estimator.estimate(IMAGE, CAMERA, given)
    with pytest.raises(CameraError, match='must be a Camera, got ndarray'):
        estimator.estimate(IMAGE, CAMERA.K, DETECTIONS)
    with pytest.raises(ImageError, match='depth must be a NumPy array'):
        estimator.estimate(IMAGE, CAMERA, DETECTIONS, [[1.0]])


def test_a_camera_of_another_resolution_is_told_and_one_in_other_units_refused(tiny_model, caplog):
    """Its poses would be wrong by as much, and nothing else tells; once for each is enough."""
    estimator = load(tiny_model)
    estimator.estimate(IMAGE, CAMERA, [])
    assert not caplog.records
    for _ in range(2):
        half = Camera(CAMERA.K * [[2.0], [2], [1]], WIDTH, HEIGHT)
        estimator.estimate(IMAGE, half, [])
        estimator.follow(IMAGE, Camera(CAMERA.K * [[3.0], [3], [1]], WIDTH, HEIGHT), [])
    assert [r.getMessage().partition(':')[0] for r in caplog.records] == 2 * ['poses may be wrong']
    assert 'the principal point of the camera, (236, 182), is far from' in caplog.text
    assert '(354, 273)' in caplog.text
    estimator.estimate(IMAGE, Camera(CAMERA.K * [[2.5], [2.5], [1]], WIDTH, HEIGHT, part=True), [])
    assert len(caplog.records) == 2
    with pytest.raises(CameraError, match=r'4 and 4 px are too short for 240x180 px'):
        estimator.estimate(IMAGE, Camera(np.array([[4.0, 0, 118], [0, 4, 91], [0, 0, 1]]),
                                         WIDTH, HEIGHT), [])


@pytest.mark.parametrize(('values', 'error', 'message'), [
    (('box', [1, 2, 3]), BoxError, 'must be four numbers'),
    (('box', np.zeros((1, 4))), BoxError, 'must be four numbers'),
    (('box', None), BoxError, 'must be four numbers'),
    ((3, [1, 2, 30, 40]), SpecError, 'must be text, got 3'),
    (('box', [1, 2, 30, 40], 'id 7'), SpecError, "score of a detection must be a .*, got 'id 7'"),
    (('box', [1, 2, 30, 40], 1, 7), SpecError, 'detection_id of a detection must be text, got 7'),
    ((['box'], [1, 2, 30, 40]), SpecError, 'must be text')])
def test_a_detection_that_is_none_is_refused_when_it_is_made(values, error, message):
    """Where the mistake is, not in a later image; a box keeps its own numbers."""
    with pytest.raises(error, match=message):
        Detection(*values)
    mine = np.array([10, 20, 200, 250], np.uint8)
    detection = Detection('box', mine)
    mine[:] = 0
    assert detection.box_xyxy.tolist() == [10.0, 20.0, 200.0, 250.0]


@pytest.mark.parametrize('bad', [{'threads': 0}, {'threads': 2.5}, {'threads': 10**6},
                                 {'threads': True}, {'crops': 10**9}, {'crops': 2.5},
                                 {'crops': '3'}, {'hypotheses': 0}, {'hypotheses': '3'},
                                 {'hypotheses': True}, {'cache_bytes': -1}, {'cache_bytes': NAN}])
def test_numbers_out_of_range_are_refused_when_a_model_is_loaded(tiny_model, bad):
    """A wrong one took all memory or failed in the first image."""
    with pytest.raises(SpecError, match='capacity' if 'cache_bytes' in bad else next(iter(bad))):
        load(tiny_model, **bad)


def test_a_closed_estimator_says_so(tiny_model):
    """Whatever is asked of it; it failed with the name of a graph."""
    closed = load(tiny_model)
    closed.close()
    closed.close()
    with pytest.raises(BackendError, match='estimator is closed; load the model again'):
        closed.estimate(IMAGE, CAMERA, DETECTIONS)

def scene(camera: Camera) -> np.ndarray:
    """Return what a camera sees of smooth colours at infinity, (H, W, 3) uint8."""
    rays = camera.unproject(np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1))
    x, y = rays[..., 0], rays[..., 1]
    waves = [np.sin(9 * x + 2 * y), np.cos(3 * x - 11 * y), np.sin(6 * x) * np.cos(8 * y)]
    return np.rint(127.5 + 100 * np.stack(waves, -1)).astype(np.uint8)


@pytest.mark.parametrize(('model', 'coefficients'), [
    ('plumb_bob', (-0.25, 0.08, 0.002, -0.001, 0.0)), ('equidistant', (-0.02, 0.01, 0.0, 0.0))])
def test_distortion_is_taken_out(estimator, monkeypatch, model, coefficients):
    """A distorted image gives the pose of the rectified one, when both show the same view."""
    bent = Camera(CAMERA.K, WIDTH, HEIGHT, model, coefficients)
    box = np.array([50.0, 45, 100, 95])  # as far from the centre as its crop is in the image
    target = crop_camera(bent, box, estimator.spec.crop)
    middle = CAMERA.project(bent.unproject([(box[:2] + box[2:]) / 2]))[0]

    def straight_box(half: float) -> np.ndarray:
        return np.concatenate([middle - half, middle + half])

    half = brentq(lambda h: crop_camera(CAMERA, straight_box(h), estimator.spec.crop).focal_px
                  - target.focal_px, 15.0, 60.0)
    crops: list[np.ndarray] = []
    run = estimator.backend.run

    def noted(graph: str, inputs: Arrays) -> dict[str, Any]:
        crops.extend(inputs['image'].astype(float) if graph == 'stage1' else [])
        return run(graph, inputs)

    monkeypatch.setattr(estimator.backend, 'run', noted)
    a, b, _ = (estimator(scene(lens), seen_as, [Detection('blob', where)])[0].T_camera_object
               for lens, seen_as, where in ((bent, bent, box),
                                            (CAMERA, CAMERA, straight_box(half)),
                                            (bent, CAMERA, box)))
    assert np.abs(crops[0] - crops[1]).max() <= 2
    assert np.abs(crops[0] - crops[2]).max() > 5  # it would matter to ignore the distortion
    # what is left is rounding of colours, which a network of noise makes much of
    assert np.degrees(rotation_angle(a[:3, :3].T @ b[:3, :3])) < 4.0
    np.testing.assert_allclose(a[:3, 3], b[:3, 3], rtol=0.05, atol=2e-3)


def test_a_model_is_loaded_without_torch(tiny_model):
    """Inference drags in neither torch nor the training."""
    code = ('import sys; from pathlib import Path; from mrcnet_ros.inference.estimator import '
            f'PoseEstimator; PoseEstimator.load(Path({str(tiny_model.path)!r}), '
            f'Path({str(tiny_model.meshes)!r}), store_root=Path({str(tiny_model.store)!r})); '
            'assert "torch" not in sys.modules')
    subprocess.run([sys.executable, '-c', code], check=True, timeout=600)
