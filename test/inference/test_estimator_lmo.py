"""The shipped LM-O model on real photographs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mrcnet_ros.cli.main import main
from mrcnet_ros.datasets.bop import BopDataset, BopFrame
from mrcnet_ros.evaluation.pose_errors import mssd
from mrcnet_ros.geometry.hull import hull_vertices
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.poses import Detection

ROOT = Path(__file__).parents[2]
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


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    """Return a folder for templates, which are drawn once."""
    return tmp_path_factory.mktemp('templates')


def test_poses_are_near_the_truth(store):
    """On a few frames the well visible objects are found, most of them closely."""
    estimator = PoseEstimator.load(MODEL, DATA / 'lmo' / 'models', store_root=store, threads=1)
    frames = BopDataset(DATA, 'lmo', 'test').frames[::7]
    errors = np.array([e for frame in frames for e in frame_errors(estimator, frame)])
    assert len(errors) >= 12
    recall = np.mean([errors < threshold for threshold in THRESHOLDS])
    assert recall > 0.45  # random rotations near the true place: 0.01
    assert np.median(errors) < 0.3


def test_covariances_are_calibrated_on_images_that_their_law_was_not_fitted_to(
        tmp_path, store, capsys, monkeypatch):
    """The command keeps a law; with each photograph left out, ellipsoids hold what they should."""
    path = shutil.copytree(MODEL, tmp_path / 'model')
    monkeypatch.setenv('MRCNET_CACHE', str(store))
    assert main(['calibrate', '--bop-dir', str(DATA), '--dataset', 'lmo', '--model', str(path),
                 '--meshes', str(DATA / 'lmo' / 'models'), '--threads', '1', '--write']) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    for group in ('lateral', 'depth', 'rotation'):
        poses, half, most, *_ = lines[group].replace('%', '').split()[1:]
        assert int(poses) > 100
        assert 38 <= int(half) <= 68
        assert 78 <= int(most) <= 97
        assert float(lines[group].split()[-1]) > 0.3, 'deviations rank errors'
    estimator = PoseEstimator.load(path, DATA / 'lmo' / 'models', threads=1)
    frame = BopDataset(DATA, 'lmo', 'test').frames[3]
    detections = [Detection(estimator.model.objects[0].label, np.array([200.0, 150, 300, 250]))]
    covariance = estimator(frame.load_image(), frame.camera, detections)[0].covariance
    assert np.linalg.eigvalsh(covariance).min() > 0
