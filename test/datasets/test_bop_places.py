"""Ground truth whose boxes and poses contradict each other is refused."""

from pathlib import Path

import numpy as np
import pytest

from mrcnet_ros.datasets.bop_frame import BopFrame, GroundTruth
from mrcnet_ros.datasets.bop_units import check_places, check_units
from mrcnet_ros.errors import DatasetError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import exp_so3, make_transform

CAMERA = Camera(np.array([[570.0, 0, 320], [0, 570, 240], [0, 0, 1]]), 640, 480)
EXTENTS_M = {1: np.array([[-0.10, -0.02, -0.01], [0.10, 0.02, 0.03]]),
             2: np.array([[-0.03, -0.03, -0.05], [0.03, 0.03, 0.05]])}


def scene(count=60):
    """Return objects as BOP annotates them, spheroids in bounding boxes that are not centred."""
    rng = np.random.default_rng(4)
    ball = rng.normal(size=(400, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    truths = []
    for i in range(count):
        low, high = EXTENTS_M[1 + i % 2]
        T = make_transform(exp_so3(2.0 * rng.uniform(-1.0, 1.0, 3)),
                           np.array([*rng.uniform(-0.15, 0.15, 2), rng.uniform(0.6, 1.0)]))
        uv = CAMERA.project(((low + high) / 2 + ball * (high - low) / 2) @ T[:3, :3].T + T[:3, 3])
        truths.append((1 + i % 2, T, np.concatenate([uv.min(axis=0), uv.max(axis=0)])))
    return truths


def check(truths):
    """Check them as one image."""
    truth = tuple(GroundTruth(object_id, i, T, box, box, 1.0)
                  for i, (object_id, T, box) in enumerate(truths))
    check_places([BopFrame(1, 7, Path('7.png'), CAMERA, truth, {}, None, 0.001)], EXTENTS_M,
                 Path('toy/test'))


def test_objects_that_are_where_their_poses_say_are_taken():
    """Two boxes that are wrong are no fault of the whole."""
    truths = scene()
    check(truths)
    check([(i, T, box + 40.0 * (k < 2)) for k, (i, T, box) in enumerate(truths)])


def test_visible_boxes_of_corners_are_told():
    """Corners that are read as sizes; every crop would be of another place."""
    truth = tuple(GroundTruth(object_id, i, T, np.concatenate([box[:2], box[:2] + box[2:]]),
                              box, 1.0) for i, (object_id, T, box) in enumerate(scene()))
    with pytest.raises(DatasetError, match='bbox_visib of 60 of 60 objects reaches beyond'):
        check_places([BopFrame(1, 7, Path('7.png'), CAMERA, truth, {}, None, 0.001)], EXTENTS_M,
                     Path('toy/test'))


def test_inverse_rotations_are_told():
    """They keep every object in its box, and turn it wrongly."""
    wrong = [(i, make_transform(T[:3, :3].T, T[:3, 3]), box) for i, T, box in scene()]
    with pytest.raises(DatasetError, match='the transpose of cam_R_m2c fewer do'):
        check(wrong)


def test_objects_behind_the_camera_are_told():
    """As of a program whose camera looks along -z; nothing is said of units."""
    box = np.array([300.0, 200, 340, 240])
    T = make_transform(np.eye(3), [0.0, 0, -0.8])
    frame = BopFrame(1, 7, Path('7.png'), CAMERA, (GroundTruth(1, 0, T, box, box, 1.0),), {},
                     None, 0.001)
    with pytest.raises(DatasetError, match='z forward, not back as in OpenGL'):
        check_units([frame], {}, Path('toy/test'))


@pytest.mark.parametrize('fault', ['places', 'objects'])
def test_poses_of_another_object_are_told(fault):
    """Translations, or numbers of objects, that are one row off."""
    truths = scene()
    others = truths[1:] + truths[:1]
    wrong = [(i, T, box) if k % 4 else
             (i, make_transform(T[:3, :3], T[:3, 3] + np.array([0.0, 0.06, 0.0])), box)
             if fault == 'places' else (other, T, box)
             for k, ((i, T, box), (other, _, _)) in enumerate(zip(truths, others, strict=True))]
    with pytest.raises(DatasetError, match='must be of the same objects'):
        check(wrong)
