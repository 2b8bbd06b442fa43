"""From the network's numbers to poses: fed with true ones, the estimator tells the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from decoding import decode_pose
from test_estimator import CAMERA, DETECTIONS, IMAGE, NAN

from mrcnet_ros.errors import BoxError
from mrcnet_ros.geometry.bins import encode_translation
from mrcnet_ros.geometry.crop import CropCamera, crop_camera, turned
from mrcnet_ros.geometry.rotation_grid import grid_of, nearest_bin, rotation_grid
from mrcnet_ros.geometry.se3 import exp_so3, inverse, make_transform, rotation_to_axis
from mrcnet_ros.inference.detection_crops import crop_turns
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.inference.poses import Detection
from mrcnet_ros.rendering.template_store import TemplateStore
from mrcnet_ros.runtimes.backend import Arrays, HostBackend
from mrcnet_ros.specs import CropSpec


def random_pose(rng: np.random.Generator) -> np.ndarray:
    """Return a T_camera_object in view of the camera, (4, 4) [m]."""
    z = rng.uniform(0.3, 2.0)
    return make_transform(exp_so3(rng.normal(size=3) * 2),
                          [rng.uniform(-0.4, 0.4) * z, rng.uniform(-0.3, 0.3) * z, z])


def encode(T: np.ndarray, crop: CropCamera, R_bin: np.ndarray, diameter_m: float
           ) -> tuple[np.ndarray, np.ndarray, float]:
    """Return six, xy and log size that describe a pose in a crop."""
    t_crop = crop.R_crop_camera @ T[:3, 3]
    R_ray_object = rotation_to_axis(t_crop) @ crop.R_crop_camera @ T[:3, :3]
    residual = R_ray_object @ R_bin.T
    code = encode_translation(t_crop, crop.focal, diameter_m)
    return np.concatenate([residual[:, 0], residual[:, 1]]), code[:2], float(code[2])


def test_decoding_a_pose_undoes_its_description():
    """Any pose, in a box that need not be around it, comes back to 1e-9."""
    rng = np.random.default_rng(0)
    grid = rotation_grid(1, 4)
    for _ in range(200):
        T = random_pose(rng)
        u, v = CAMERA.project(T[:3, 3]) + rng.uniform(-20, 20, 2)
        half = rng.uniform(10, 60, 2)
        box = np.array([u - half[0], v - half[1], u + half[0], v + half[1]])
        try:
            crop = crop_camera(CAMERA, box, CropSpec(size_px=32))
        except BoxError:  # beyond the image
            continue
        R_bin = grid[rng.integers(len(grid))]
        found = decode_pose(*encode(T, crop, R_bin, 0.12), R_bin, crop, 0.12)
        np.testing.assert_allclose(found, T, atol=1e-9)
        scaled = encode(T, crop, R_bin, 0.12)
        longer = decode_pose(2.5 * scaled[0], *scaled[1:], R_bin, crop, 0.12)
        np.testing.assert_allclose(longer, T, atol=1e-9)  # lengths of the six do not matter


class Oracle(HostBackend):
    """A backend that knows the pose in each crop, whichever bin it starts from."""

    name = device = 'oracle'

    def __init__(self, poses: Sequence[np.ndarray], crops: Sequence[CropCamera],
                 grid: np.ndarray, diameters: Sequence[float]) -> None:
        self.poses, self.crops, self.grid, self.diameters = poses, crops, grid, diameters

    def _answer(self, row: int, bin_index: int) -> tuple[np.ndarray, np.ndarray, float]:
        return encode(self.poses[row], self.crops[row], self.grid[bin_index], self.diameters[row])

    def run(self, graph: str, inputs: Arrays) -> dict[str, Any]:
        """Answer like the graph of this name."""
        count = len(inputs['class_index'])
        if graph == 'template':
            return {'t4': inputs['image'].astype(np.float32).mean((1, 2))}
        if graph == 'stage1':
            logits = np.zeros((count, len(self.grid)), np.float32)
            for row, bin_index in enumerate(self.bins()):
                logits[row, bin_index] = 1.0
            codes = [self._answer(row, 0) for row in range(count)]
            names = ('x4', 'x8', 'x16', 'dense')
            rows = np.arange(count, dtype=np.float32)
            return {'rotation_logits': logits, 'xy': np.array([c[1] for c in codes]),
                    'log_size': np.array([c[2] for c in codes]), **dict.fromkeys(names, rows)}
        six = [self._answer(row, bin_index)[0] for row, bin_index in enumerate(self.bins())]
        return {'six': np.array(six), 'fine_xy': inputs['xy'], 'quality': np.full(count, 2.0),
                'fine_log_size': inputs['log_size']}

    def bins(self) -> list[int]:
        """Return the nearest bin of every pose."""
        rays = [rotation_to_axis(c.R_crop_camera @ T[:3, 3]) @ c.R_crop_camera @ T[:3, :3]
                for c, T in zip(self.crops, self.poses, strict=True)]
        return [int(nearest_bin(R, self.grid)) for R in rays]


@pytest.mark.parametrize('crops_each', [1, 2, 3])
def test_true_numbers_give_true_poses(tiny_model, crops_each):
    """Fed by a runtime that knows the answers, the estimator returns the true poses."""
    rng = np.random.default_rng(4)
    model = read_model_directory(tiny_model.path, tiny_model.meshes)
    poses, detections = [random_pose(rng) for _ in range(3)], []
    for T, label in zip(poses, ('box', 'blob', 'box'), strict=True):
        u, v = np.clip(CAMERA.project(T[:3, 3]), 20, 160)
        detections.append(Detection(label, np.array([u - 25, v - 20, u + 31, v + 26])))
    crops = [turned(crop_camera(CAMERA, d.box_xyxy, model.spec.crop), angle)
             for d in detections for angle in crop_turns(crops_each)]
    diameters = [{o.label: o.diameter_m for o in model.objects}[d.label] for d in detections
                 for _ in range(crops_each)]
    grid = grid_of(model.spec.bins)
    oracle = Oracle(np.repeat(poses, crops_each, axis=0), crops, grid, diameters)
    estimator = PoseEstimator(model, oracle, TemplateStore(tiny_model.store), crops=crops_each)
    for pose, T in zip(estimator(IMAGE, CAMERA, detections), poses, strict=True):
        np.testing.assert_allclose(inverse(T) @ pose.T_camera_object, np.eye(4), atol=1e-9)
        assert pose.score == pytest.approx(1 / (1 + np.exp(-2.0)))


@pytest.mark.parametrize(('broken_crops', 'answered'), [(1, [0, 1]), (2, [1])])
def test_a_pose_that_is_not_finite_is_skipped(tiny_model, broken_crops, answered):
    """Should a runtime answer nan, other crops and other detections are answered all the same."""
    model = read_model_directory(tiny_model.path, tiny_model.meshes)
    T = make_transform(np.eye(3), [0.0, 0.0, 1.0])
    crops = [turned(crop_camera(CAMERA, d.box_xyxy, model.spec.crop), angle)
             for d in DETECTIONS[:2] for angle in crop_turns(2)]
    grid = grid_of(model.spec.bins)
    backend = Oracle([T] * 4, crops, grid, [0.1] * 4)
    answer = backend._answer

    def broken(row: int, bin_index: int) -> tuple[np.ndarray, np.ndarray, float]:
        six, xy, log_size = answer(row, bin_index)
        return six, xy * (NAN if row < broken_crops else 1.0), log_size

    backend._answer = broken  # type: ignore[method-assign]
    # with several hypotheses an outline would weigh the answers
    estimator = PoseEstimator(model, backend, TemplateStore(tiny_model.store), crops=2,
                              hypotheses=1)
    result = estimator.estimate(IMAGE, CAMERA, DETECTIONS[:2])
    assert [p.detection_index for p in result.poses] == answered
    assert {(s.detection_index, s.reason) for s in result.skipped} == {
        (i, 'non_finite') for i in {0, 1} - set(answered)}
    good = 1 / (1 + np.exp(-2.0))
    assert [p.score for p in result.poses] == pytest.approx([good / 2, good][-len(answered):])
