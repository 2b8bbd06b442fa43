"""The estimator with a depth image: better on real photographs, unchanged without depth."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bop_folder import write_dataset as write_toy
from synth_folder import write_dataset

from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.errors import DatasetError, ImageError
from mrcnet_ros.evaluation.runner import Run, depth_figures, depth_line, run_frames
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.inference.depth_alignment import DepthFit
from mrcnet_ros.inference.depth_correction import (
    ACROSS,
    ALONG,
    NO_LAWS,
    DepthCorrection,
    doubt_of,
)
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.poses import Detection, FrameResult, PoseEstimate
from mrcnet_ros.objects import ObjectModel, load_bop_objects

ROOT = Path(__file__).resolve().parents[2]
LM = ROOT.parent / 'shared' / 'data' / 'lm' / 'test'
MESHES = ROOT.parent / 'shared' / 'data' / 'lmo' / 'models'
CAMERA = Camera(np.array([[250.0, 0, 119.5], [0, 250.0, 89.5], [0, 0, 1]]), 240, 180)
IMAGE = np.random.default_rng(0).integers(0, 255, (180, 240, 3), np.uint8)
DETECTIONS = [Detection('box', np.array([100.0, 60, 160, 110]))]


@pytest.fixture(scope='module')
def estimator(tiny_model: Any) -> PoseEstimator:
    """Return the tiny model's estimator."""
    return PoseEstimator.load(tiny_model.path, tiny_model.meshes, store_root=tiny_model.store,
                              threads=1, crops=1)


def test_without_depth_nothing_is_said_of_it(estimator):
    """A pose from colour alone has no depth fit, and no time is spent on it."""
    result = estimator.estimate(IMAGE, CAMERA, DETECTIONS)
    assert result.poses[0].depth is None
    assert 'depth' not in result.stage_seconds


def test_empty_depth_leaves_every_number_as_it_is(estimator):
    """All zeros are no measurement: the same pose to the bit, and the fit says so."""
    plain = estimator(IMAGE, CAMERA, DETECTIONS)[0]
    result = estimator.estimate(IMAGE, CAMERA, DETECTIONS, np.zeros((180, 240), np.float32))
    np.testing.assert_array_equal(result.poses[0].T_camera_object, plain.T_camera_object)
    fit = result.poses[0].depth
    assert isinstance(fit, DepthFit) and fit.used == 'none'
    assert result.stage_seconds['depth'] > 0


def test_prepared_depth_reads_no_mesh_with_the_first_depth_image(tiny_model, monkeypatch):
    """Meshes are read when it is prepared; no frame waits for the disk."""
    prepared, lazy = (PoseEstimator.load(tiny_model.path, tiny_model.meshes,
                                         store_root=tiny_model.store, threads=1, crops=1)
                      for _ in range(2))
    prepared.prepare_depth()

    def unreadable(item: Any) -> None:
        raise AssertionError(item.label)

    monkeypatch.setattr(ObjectModel, 'load_mesh', unreadable)
    depth = np.ones((180, 240), np.float32)
    assert prepared(IMAGE, CAMERA, DETECTIONS, depth)[0].depth is not None
    with pytest.raises(AssertionError, match='box'):
        lazy(IMAGE, CAMERA, DETECTIONS, depth)


@pytest.mark.parametrize(('depth', 'text'), [
    (np.zeros((180, 240), np.uint16), 'float32 in metres'),
    (np.zeros((180, 240, 1), np.float32), 'float32 in metres'),
    (np.zeros((90, 120), np.float32), 'register the depth'),
    (np.full((180, 240), 800.0, np.float32), 'median depth is 800 m.*depth_m is in metres'),
])
def test_depth_of_another_type_or_size_is_refused(estimator, depth, text):
    """The error says what was given and what to do."""
    with pytest.raises(ImageError, match=text):
        estimator.estimate(IMAGE, CAMERA, DETECTIONS, depth)


def estimate_with(covariance: np.ndarray | None) -> PoseEstimate:
    """Return a pose a metre away."""
    return PoseEstimate('box', 1, make_transform(np.eye(3), [0.0, 0.0, 1.0]), 0.9, 0, '',
                        np.zeros(4), covariance=covariance)


def test_doubt_is_that_of_the_covariance_within_bounds():
    """Standard deviations along and across the ray; absurd ones are bounded."""
    C = np.diag([0.005**2, 0.005**2, 0.05**2, 0.2**2, 0.2**2, 0.2**2])
    doubt = doubt_of(estimate_with(C))
    assert doubt.along == pytest.approx(0.05)
    assert doubt.across == pytest.approx(0.005)
    assert doubt.rotation_rad == pytest.approx(0.2)
    wide, narrow = doubt_of(estimate_with(1e4 * C)), doubt_of(estimate_with(1e-6 * C))
    assert (wide.along, wide.across) == (ALONG[1], ACROSS[1])
    assert (narrow.along, narrow.across) == (ALONG[0], ACROSS[0])
    assert doubt_of(estimate_with(None)).along == 0.06


@pytest.mark.skipif(not LM.is_dir(), reason='needs ../shared/data/lm')
def test_depth_brings_objects_on_photographs_to_their_distance():
    """On five Kinect frames of LM the median error of distance falls to 4 mm or less."""
    estimator = PoseEstimator.load(ROOT / 'models' / 'lmo', MESHES, threads=1)
    before, after = [], []
    for scene, label in (('000001', 'ape'), ('000006', 'cat')):
        truth, info, cameras = (json.loads((LM / scene / f'scene_{name}.json').read_text())
                                for name in ('gt', 'gt_info', 'camera'))
        for image_id, annotated in truth.items():
            rgb = cv2.imread(str(LM / scene / 'rgb' / f'{int(image_id):06d}.png'))
            raw = cv2.imread(str(LM / scene / 'depth' / f'{int(image_id):06d}.png'), -1)
            assert rgb is not None and raw is not None
            depth_m = (raw * cameras[image_id]['depth_scale'] / 1000).astype(np.float32)
            camera = Camera(np.array(cameras[image_id]['cam_K']).reshape(3, 3), *raw.shape[::-1])
            x, y, w, h = info[image_id][0]['bbox_visib']
            boxes = [Detection(label, np.array([x, y, x + w, y + h], np.float64))]
            image = np.ascontiguousarray(rgb[..., ::-1])
            distance_m = np.linalg.norm(annotated[0]['cam_t_m2c']) / 1000
            for errors, depth in ((before, None), (after, depth_m)):
                pose = estimator(image, camera, boxes, depth)[0]
                errors.append(abs(np.linalg.norm(pose.T_camera_object[:3, 3]) - distance_m))
            assert pose.depth is not None and pose.depth.used != 'none'
            assert pose.covariance is not None
            assert np.linalg.eigvalsh(pose.covariance).min() > 0
    assert np.median(after) < 0.004
    assert np.mean(after) < 0.4 * np.mean(before)


def test_surfaces_have_the_true_size(estimator):
    """An object larger than its mesh is compared in its own size."""
    objects = dict(estimator.objects)
    objects['box'] = dataclasses.replace(objects['box'], size_ratio=1.1)
    plain, larger = DepthCorrection(estimator.objects), DepthCorrection(objects)
    ratio = larger._surface('box').diameter_m / plain._surface('box').diameter_m
    assert ratio == pytest.approx(1.1)


@pytest.mark.parametrize(('score', 'usual', 'after'), [(0.2, 0.6, 0.6), (0.8, 0.6, 0.8)])
@pytest.mark.parametrize('used', ['pose', 'distance', 'none'])
def test_a_distance_that_depth_has_told_lowers_no_score(estimator, score, usual, after, used):
    """Without a law of scores with depth, that of colour alone would doubt it all the same."""
    fit = DepthFit(np.eye(4), used, 0.9, 0.001, 50, np.eye(6))
    pose = PoseEstimate('box', 7, np.eye(4), score, 0, '', np.zeros(4), usual_score=usual)
    corrected = DepthCorrection(estimator.objects)._corrected(pose, fit, NO_LAWS)
    if used == 'none':
        assert (corrected.score, corrected.usual_score) == (score, usual)
    else:
        assert (corrected.score, corrected.presence) == (after, after)


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Generate scenes of two objects that hide one another, with depth."""
    root = tmp_path_factory.mktemp('made')
    write_dataset(root, scenes=2, images=4, objects=5)
    return BopDataset(root, 'made', 'test')


def wrong_poses(frame: Any, objects: dict[int, Any], seed: int) -> list[tuple[Any, PoseEstimate]]:
    """Return each visible annotation with a pose about as wrong as the network's."""
    rng = np.random.default_rng(seed)
    found = []
    for truth in frame.ground_truth:
        if truth.visible_fraction > 0.3:
            T = truth.T_camera_object.copy()
            T[:3, 3] *= 1 + 0.04 * rng.standard_normal()
            T[:3, :3] = exp_so3(0.12 * rng.standard_normal(3)) @ T[:3, :3]
            label = objects[truth.object_id].label
            found.append((truth, PoseEstimate(label, truth.object_id, T, 0.8, 0, '',
                                              np.zeros(4))))
    return found


def surface_errors(dataset: Any, change: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return mean distances of surface points from the truth in diameters, without and with.

    :param change: makes the depth that is given from the true one.
    """
    objects = load_bop_objects(dataset.models_dir)
    correction = DepthCorrection({o.label: o for o in objects.values()})
    before, after = [], []
    for seed, frame in enumerate(dataset.frames):
        depth = change(frame.load_depth_m(), np.random.default_rng(seed))
        posed = wrong_poses(frame, objects, seed)
        corrected = correction.correct([p for _, p in posed], depth, frame.camera)
        for (truth, start), end in zip(posed, corrected, strict=True):
            item = objects[truth.object_id]
            points = item.load_mesh().vertices
            for errors, T in ((before, start.T_camera_object), (after, end.T_camera_object)):
                off = points @ (T[:3, :3] - truth.T_camera_object[:3, :3]).T
                off += T[:3, 3] - truth.T_camera_object[:3, 3]
                errors.append(np.linalg.norm(off, axis=1).mean() / item.diameter_m)
    return np.array(before), np.array(after)


def of_a_sensor(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise, steps, holes and an offset, as structured light has them."""
    noisy = depth + 0.002 + 0.002 * rng.standard_normal(depth.shape)
    noisy = np.round(noisy / 0.002) * 0.002
    noisy[rng.random(depth.shape) < 0.25] = 0.0
    return np.where(depth > 0, noisy, 0).astype(np.float32)


def test_depth_of_a_sensor_halves_the_error_on_generated_scenes(made):
    """Objects hide one another and the sensor is poor: the median error is halved or better."""
    before, after = surface_errors(made, of_a_sensor)
    assert len(before) > 15
    assert np.median(after) < 0.5 * np.median(before)
    assert np.mean(after > before + 0.02) < 0.1


@pytest.mark.parametrize('wrong', [
    lambda d, rng: np.zeros_like(d),
    lambda d, rng: 10 * d,
    lambda d, rng: d / 10,
    lambda d, rng: np.roll(d, 60, axis=1),
], ids=['empty', 'ten times as far', 'a tenth as far', 'another view'])
def test_wrong_depth_makes_no_pose_much_worse(made, wrong):
    """On average no error grows by 0.02 diameters, whatever the depth image shows."""
    before, after = surface_errors(made, wrong)
    assert np.mean(after) < np.mean(before) + 0.02


def test_depth_that_agrees_with_one_of_four_objects_is_of_something_else(made):
    """It corrects none of them; two of four are enough."""
    frame = made.frames[0]
    objects = load_bop_objects(made.models_dir)
    right = [pose for _, pose in wrong_poses(frame, objects, 0)]
    correction = DepthCorrection({o.label: o for o in objects.values()})
    depth = frame.load_depth_m()
    good = [p for p, c in zip(right, correction.correct(right, depth, frame.camera), strict=True)
            if c.depth.used != 'none'][:2]
    behind = make_transform(np.eye(3), [0.0, 0.0, 5.0])
    others = [dataclasses.replace(good[0], T_camera_object=behind)] * 3
    few = correction.correct([good[0], *others], depth, frame.camera)
    assert [p.depth.used for p in few] == ['none'] * 4
    np.testing.assert_array_equal(few[0].T_camera_object, good[0].T_camera_object)
    enough = correction.correct([*good, *others[:2]], depth, frame.camera)
    assert [p.depth.used != 'none' for p in enough] == [True, True, False, False]
    rivals = correction.correct([good[0], *others], depth, frame.camera, [good[0]])
    assert [p.depth.used != 'none' for p in rivals] == [True, False, False, False]


def test_depth_that_is_required_and_missing_is_told(tmp_path):
    """The image is named, and what to do."""
    write_toy(tmp_path)
    with pytest.raises(DatasetError, match='has no depth image; give --depth auto'):
        run_frames(BopDataset(tmp_path, 'toy', 'test').frames, KnowsNothing(), AllBoxes(), None,
                   Run(), depth='required')
    done = Run()
    run_frames(BopDataset(tmp_path, 'toy', 'test').frames, KnowsNothing(), AllBoxes(), None, done,
               depth='auto')
    assert len(done.frames) == 2
    assert depth_line(done.poses) == ''


class AllBoxes:
    """No boxes at all."""

    def find(self, frame: Any) -> list[Any]:
        """Return none."""
        return []

    def seconds(self, frame: Any) -> float:
        """Return how long that took."""
        return 0.0


class KnowsNothing:
    """An estimator without objects, which takes no depth image."""

    def __init__(self) -> None:
        """Know nothing."""
        self.objects: dict[str, Any] = {}

    def estimate(self, image_rgb: Any, camera: Any, detections: Any, most: Any) -> FrameResult:
        """Return nothing."""
        return FrameResult([], [])


def test_a_line_tells_what_depth_did(estimator):
    """Counts by what was corrected, and the distance from the surface."""
    fit = DepthFit(np.eye(4), 'pose', 0.9, 0.0012, 200, np.zeros((6, 6)))
    poses = [dataclasses.replace(estimate_with(None), depth=f) for f in (
        fit, dataclasses.replace(fit, used='none', residual_m=float('nan')))]
    assert depth_line(poses) == ('depth: whole pose corrected 1, unchanged 1; '
                                 '1.2 mm off the surface (median)\n')
    assert depth_figures(poses)['residual_m'] == pytest.approx(0.0012)
    assert depth_figures([])['agreement'] is None
