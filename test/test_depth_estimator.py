"""The estimator with a depth image: better on real photographs, unchanged without depth."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mrcnet_ros.errors import ImageError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import make_transform
from mrcnet_ros.inference.depth_alignment import DepthFit
from mrcnet_ros.inference.depth_correction import ACROSS, ALONG, DepthCorrection, doubt_of
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.poses import Detection, PoseEstimate

ROOT = Path(__file__).resolve().parent.parent
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


@pytest.mark.parametrize(('depth', 'text'), [
    (np.zeros((180, 240), np.uint16), 'float32 in metres'),
    (np.zeros((180, 240, 1), np.float32), 'float32 in metres'),
    (np.zeros((90, 120), np.float32), 'register the depth'),
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
    assert np.median(after) < 0.5 * np.median(before)


def test_surfaces_have_the_true_size(estimator):
    """An object larger than its mesh is compared in its own size."""
    objects = dict(estimator.objects)
    objects['box'] = dataclasses.replace(objects['box'], size_ratio=1.1)
    plain, larger = DepthCorrection(estimator.objects), DepthCorrection(objects)
    ratio = larger._surface('box').diameter_m / plain._surface('box').diameter_m
    assert ratio == pytest.approx(1.1)
