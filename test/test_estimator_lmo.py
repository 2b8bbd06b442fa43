"""The shipped LM-O model on real photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mrcnet_ros.evaluation.bop import BopDataset, BopFrame
from mrcnet_ros.evaluation.pose_errors import hull_vertices, mssd
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.poses import Detection

ROOT = Path(__file__).parents[1]
MODEL = ROOT / 'models' / 'lmo'
DATA = ROOT.parent / 'shared' / 'data'
THRESHOLDS = np.arange(0.05, 0.51, 0.05)  # BOP's, of the diameter

pytestmark = [
    pytest.mark.skipif(not (DATA / 'lmo' / 'test').is_dir(), reason=f'{DATA / "lmo"} is not here'),
    pytest.mark.skipif(not (MODEL / 'model.json').is_file(), reason=f'{MODEL} is not here'),
]


def frame_errors(estimator: PoseEstimator, frame: BopFrame) -> list[float]:
    """Return the surface distance of every well visible object of a frame, in diameters."""
    by_id = {o.object_id: o for o in estimator.objects.values()}
    truths = [g for g in frame.ground_truth
              if g.object_id in by_id and g.visible_fraction > 0.6]
    detections = [Detection(by_id[g.object_id].label, g.box_visib_xyxy) for g in truths]
    result = estimator.estimate(frame.load_image(), frame.camera, detections)
    assert not result.skipped
    errors = []
    for pose, truth in zip(result.poses, truths, strict=True):
        model = by_id[truth.object_id]
        vertices = hull_vertices(model.load_mesh().vertices)
        errors.append(mssd(pose.T_camera_object, truth.T_camera_object, vertices,
                           model.symmetries) / model.diameter_m)
    return errors


def test_poses_are_near_the_truth(tmp_path):
    """On a few frames the well visible objects are found, most of them closely."""
    estimator = PoseEstimator.load(MODEL, DATA / 'lmo' / 'models', store_root=tmp_path, threads=1)
    frames = BopDataset(DATA, 'lmo', 'test').frames[::7]
    errors = np.array([e for frame in frames for e in frame_errors(estimator, frame)])
    assert len(errors) >= 12
    recall = np.mean([errors < threshold for threshold in THRESHOLDS])
    assert recall > 0.45  # random rotations near the true place: 0.01
    assert np.median(errors) < 0.3
