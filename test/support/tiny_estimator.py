"""An estimator with the tiny model, and images and detections that it is asked about."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.poses import Detection, PoseEstimate

WIDTH, HEIGHT = 240, 180
CAMERA = Camera(np.array([[250.0, 0, 118.0], [0, 252.0, 91.0], [0, 0, 1]]), WIDTH, HEIGHT)


def texture(seed: int = 0) -> np.ndarray:
    """Return a smooth random photograph."""
    small = np.random.default_rng(seed).integers(0, 255, (10, 14, 3), np.uint8)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


IMAGE = texture()
DETECTIONS = [
    Detection('box', np.array([100.0, 60, 160, 110]), detection_id='first'),
    Detection('blob', np.array([20.0, 30, 70, 90])),
    Detection('blob', np.array([150.0, 100, 235, 175])),
    Detection('box', np.array([-20.0, 100, 40, 160])),
    Detection('blob', np.array([90.0, 5, 120, 60]), detection_id='last'),
]


def load(tiny_model: Any, **options: Any) -> PoseEstimator:
    """Load the tiny model; its templates are drawn once. By default it tries one hypothesis."""
    return PoseEstimator.load(tiny_model.path, tiny_model.meshes, store_root=tiny_model.store,
                              **{'threads': 1, 'crops': 1, 'hypotheses': 1, **options})


def assert_same_pose(a: PoseEstimate, b: PoseEstimate, tolerance: float = 1e-4) -> None:
    """Compare what two estimates say of an object."""
    assert (a.label, a.object_id, a.detection_id) == (b.label, b.object_id, b.detection_id)
    np.testing.assert_allclose(a.T_camera_object, b.T_camera_object, atol=tolerance)
    assert a.score == pytest.approx(b.score, abs=tolerance)
