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
FRAMES = 3

pytestmark = [
    pytest.mark.skipif(not (DATA / 'lmo' / 'test').is_dir(), reason=f'{DATA / "lmo"} is not here'),
    pytest.mark.skipif(not (MODEL / 'model.json').is_file(), reason=f'{MODEL} is not here'),
]


@pytest.fixture(scope='module')
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Return the errors of both stages on a few frames, in diameters of the objects."""
    frames = BopDataset(DATA, 'lmo', 'test').frames[::7][:FRAMES]
    found: dict[str, np.ndarray] = {}
    store = tmp_path_factory.mktemp('store')
    for name, stage1_only in (('fine', False), ('coarse', True)):
        estimator = PoseEstimator.load(MODEL, DATA / 'lmo' / 'models', store_root=store,
                                       stage1_only=stage1_only, threads=1)
        found[name] = np.array([e for frame in frames for e in frame_errors(estimator, frame)])
    return found


def frame_errors(estimator: PoseEstimator, frame: BopFrame) -> list[float]:
    """Return the surface distance of every well visible object of a frame, in diameters."""
    by_id = {o.object_id: o for o in estimator.objects.values()}
    truths = [g for g in frame.ground_truth
              if g.object_id in by_id and g.visible_fraction > 0.6]
    detections = [Detection(by_id[g.object_id].label, g.box_visib_xyxy) for g in truths]
    result = estimator.estimate(frame.load_image(),
                                frame.camera, detections)
    assert not result.skipped
    errors = []
    for pose, truth in zip(result.poses, truths, strict=True):
        model = by_id[truth.object_id]
        vertices = hull_vertices(model.load_mesh().vertices)
        errors.append(mssd(pose.T_camera_object, truth.T_camera_object, vertices,
                           model.symmetries) / model.diameter_m)
    return errors


def test_poses_are_near_the_truth(errors):
    """Half of the well visible objects are off by less than a fifth of their diameter."""
    assert len(errors['fine']) >= 12
    assert np.median(errors['fine']) < 0.2


def test_stage_2_improves_on_stage_1(errors):
    """Poses after stage 2 are nearer to the truth than those of the bins."""
    assert np.median(errors['fine']) < 0.85 * np.median(errors['coarse'])
