"""A mesh whose origin is far away: the network works about its middle."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from meshes import write_ply
from test_estimator import CAMERA, DETECTIONS, IMAGE, LAW
from tiny_model import HALF_TURN, TinyModel

from mrcnet_ros.errors import DatasetError
from mrcnet_ros.evaluation.covariance_errors import errors_of
from mrcnet_ros.evaluation.runner import ResultRow, Run
from mrcnet_ros.export.directory import export_checkpoint
from mrcnet_ros.geometry.se3 import Array, exp_so3, make_transform
from mrcnet_ros.inference import depth_correction
from mrcnet_ros.inference.calibration_entries import write_law
from mrcnet_ros.inference.depth_fit import DepthFit
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.meshes import Mesh, read_mesh
from mrcnet_ros.objects import ObjectModel, load_object_list
from mrcnet_ros.rendering.template_store import draw_templates
from mrcnet_ros.synth.held_out import held_out_frames

OFFSET_M = np.array([0.5, -0.2, 1.0])
SHIFT = make_transform(np.eye(3), OFFSET_M)


def shifted_symmetry(values: list[float]) -> list[float]:
    """Return a symmetry about the z axis through the offset, in millimetres."""
    T = SHIFT @ np.array(values).reshape(4, 4) @ np.linalg.inv(SHIFT)
    T[:3, 3] *= 1000
    return [float(v) for v in T.ravel()]


@pytest.fixture(scope='module')
def shifted(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the tiny model with meshes whose origins are a metre away."""
    folder = tmp_path_factory.mktemp('shifted')
    middle = [float(v) for v in OFFSET_M * 1000]
    entries: list[dict[str, Any]] = [
        {'id': 2, 'label': 'blob', 'mesh': 'blob.ply', 'middle': middle},
        {'id': 7, 'label': 'box', 'mesh': 'box.ply', 'middle': middle,
         'symmetries_discrete': [shifted_symmetry(HALF_TURN)]}]
    for name in ('blob.ply', 'box.ply'):
        mesh = read_mesh(tiny_model.meshes / name, 0.001)
        write_ply(folder / name, moved(mesh))
    (folder / 'objects.yaml').write_text(yaml.safe_dump(entries))
    config = dataclasses.replace(tiny_model.config, models=folder / 'objects.yaml')
    return export_checkpoint(tiny_model.checkpoint, config, folder / 'model')


def moved(mesh: Mesh) -> Mesh:
    """Return a mesh with its middle at the offset."""
    return dataclasses.replace(mesh, vertices=mesh.vertices + OFFSET_M)


@pytest.fixture(scope='module')
def pair(tiny_model: TinyModel, shifted: Path) -> Iterator[tuple[PoseEstimator, PoseEstimator]]:
    """Give the estimators of the meshes as they were and with far origins, with covariances."""
    plain_dir = Path(shutil.copytree(tiny_model.path, shifted.parent / 'plain'))
    for path in (shifted, plain_dir):
        write_law(path, LAW)
    options = {'store_root': tiny_model.store, 'spreads': True}
    plain = PoseEstimator.load(plain_dir, tiny_model.meshes, **options)
    far = PoseEstimator.load(shifted, shifted.parent, **options)
    yield plain, far
    plain.close()
    far.close()


def test_poses_are_those_of_the_frame_of_the_file(pair: tuple[PoseEstimator, ...]) -> None:
    """The same image gives the same place of the surface, told from the other origin."""
    plain, far = (e.estimate(IMAGE, CAMERA, DETECTIONS).poses for e in pair)
    assert len(plain) == len(far) == len(DETECTIONS)
    for a, b in zip(plain, far, strict=True):
        T = a.T_camera_object.copy()
        T[:3, 3] -= T[:3, :3] @ OFFSET_M
        # points of the outline that fall on another pixel change the weights of the mean a little
        np.testing.assert_allclose(b.T_camera_object, T, atol=2e-3)


def test_the_covariance_of_a_far_origin_grows_with_the_doubt_of_the_rotation(
        pair: tuple[PoseEstimator, ...]) -> None:
    """It is that of poses drawn about the middle and told from the far origin."""
    plain, far = (e.estimate(IMAGE, CAMERA, DETECTIONS[:1]).poses[0] for e in pair)
    assert plain.covariance is not None and far.covariance is not None
    rng = np.random.default_rng(0)
    small = rng.multivariate_normal(np.zeros(6), 1e-4 * plain.covariance, 20000)
    origin = plain.T_camera_object[:3, :3] @ -OFFSET_M
    drawn = np.concatenate([small[:, :3] + exp_so3(small[:, 3:]) @ origin - origin,
                            small[:, 3:]], axis=1)
    expected = 1e4 * np.cov(drawn.T)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(far.covariance / scale, expected / scale, atol=0.05)
    assert np.trace(far.covariance[:3, :3]) > 5 * np.trace(plain.covariance[:3, :3])


def test_depth_corrects_the_same_place(pair: tuple[PoseEstimator, ...]) -> None:
    """An object with a far origin is aligned with depth like the one at the origin."""
    depth = np.full((CAMERA.height, CAMERA.width), 0.8, np.float32)
    plain, far = (e.estimate(IMAGE, CAMERA, DETECTIONS[:1], depth).poses[0] for e in pair)
    assert plain.depth is not None and far.depth is not None
    np.testing.assert_allclose(far.T_camera_object @ SHIFT, plain.T_camera_object, atol=2e-3)


def test_what_depth_says_is_of_the_frame_of_the_pose(pair: tuple[PoseEstimator, ...],
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pose is the pose, and its information about the far origin that about the middle."""
    rows = np.random.default_rng(0).normal(size=(9, 6))
    known = rows.T @ rows

    def agreed(surfaces: list[Any], T: Array, *_: Any) -> list[DepthFit]:
        return [DepthFit(one, 'pose', 1.0, 0.001, 9, known) for one in T]

    monkeypatch.setattr(depth_correction, 'align_all', agreed)
    depth = np.full((CAMERA.height, CAMERA.width), 0.8, np.float32)
    pose = pair[1].estimate(IMAGE, CAMERA, DETECTIONS[:1], depth).poses[0]
    assert pose.depth is not None
    np.testing.assert_allclose(pose.depth.T_camera_object, pose.T_camera_object, atol=1e-12)
    small = 1e-6 * np.arange(1.0, 7.0)  # of the far origin, and what it is at the middle
    to_middle = pose.T_camera_object[:3, :3] @ OFFSET_M
    middle = np.append(small[:3] + np.cross(small[3:], to_middle), small[3:])
    assert small @ pose.depth.information @ small == pytest.approx(middle @ known @ middle)


def test_the_law_is_fitted_to_errors_about_the_middle(pair: tuple[PoseEstimator, ...]) -> None:
    """An error of the same pose is as large whichever origin tells it."""
    found = []
    for estimator, change in zip(pair, (np.eye(4), np.linalg.inv(SHIFT)), strict=True):
        items = list(estimator.objects.values())
        frame = next(iter(held_out_frames(items, 1, upright=True)))
        truth = frame.target_ground_truth()[0]
        label = next(o.label for o in items if o.object_id == truth.object_id)
        pose = estimator.estimate(IMAGE, CAMERA, DETECTIONS[:1]).poses[0]
        pose = dataclasses.replace(pose, label=label, object_id=truth.object_id)
        T = make_transform(exp_so3([0.1, 0.2, 0.3]), [0.02, 0.01, 0.7]) @ change
        row = ResultRow(frame.scene_id, frame.image_id, truth.object_id, 1.0, T, 0.1)
        found += errors_of(Run([frame], [row], [pose]), estimator.objects,
                           dict.fromkeys(estimator.objects, 1.0))
    np.testing.assert_allclose(found[0].t_error_m, found[1].t_error_m, atol=1e-4)
    np.testing.assert_allclose(found[0].rotation_error_rad, found[1].rotation_error_rad, atol=1e-4)


def test_bounds_and_symmetries_stay_in_the_frame_of_the_file(shifted: Path) -> None:
    """Boxes around the object, and its half turn, are where the file has the object."""
    box = next(o for o in read_model_directory(shifted, shifted.parent).objects
               if o.label == 'box')
    np.testing.assert_allclose(box.bounds().mean(axis=0), OFFSET_M, atol=1e-6)
    np.testing.assert_allclose((box.symmetries.transforms[1] @ [*OFFSET_M, 1])[:3], OFFSET_M,
                               atol=1e-6)
    half = np.array(HALF_TURN).reshape(4, 4)
    np.testing.assert_allclose(box.centred().symmetries.transforms[1], half, atol=1e-6)
    T = make_transform(exp_so3([0.3, 1.0, 0.2]), [0.1, 0.2, 0.9])
    np.testing.assert_allclose(box.from_centred(box.to_centred(T)), T, atol=1e-12)
    small = dataclasses.replace(box, size_ratio=0.9)
    turned = small.real_symmetries.transforms[1] @ [*(0.9 * OFFSET_M), 1]
    np.testing.assert_allclose(turned[:3], 0.9 * OFFSET_M, atol=1e-6)


def test_templates_show_the_object_in_the_middle(shifted: Path) -> None:
    """Nothing is cut off, although the mesh is a metre away from its origin."""
    model = read_model_directory(shifted, shifted.parent)
    _, depth = draw_templates(model.objects[0], model.spec, np.arange(4))
    rows, columns = np.nonzero(depth[0])
    size = model.spec.template.size_px
    assert len(rows) > 50
    assert abs(rows.mean() - size / 2) < 4 and abs(columns.mean() - size / 2) < 4


@pytest.mark.parametrize('middle', [[1, 2], 'here', [1, 2, 'x'], [0, 0, float('nan')]])
def test_a_middle_that_is_no_point_is_refused(tmp_path: Path, middle: object) -> None:
    """The message names the list, the object and the field."""
    write_ply(tmp_path / 'a.ply', Mesh(np.eye(3), np.array([[0, 1, 2]], np.int32), np.eye(3),
                                       np.zeros((3, 3), np.uint8)), unit_m=0.001)
    path = tmp_path / 'objects.yaml'
    path.write_text(yaml.safe_dump([{'id': 1, 'label': 'a', 'mesh': 'a.ply', 'middle': middle}]))
    with pytest.raises(DatasetError, match='middle'):
        load_object_list(path)


def test_a_far_symmetry_is_measured_about_the_middle(tmp_path: Path, shifted: Path) -> None:
    """It moves the origin by metres and is still one of the object."""
    box: ObjectModel = load_object_list(shifted.parent / 'objects.yaml')[7]
    assert np.linalg.norm(box.symmetries.transforms[1][:3, 3]) > 10 * box.diameter_m / 2
