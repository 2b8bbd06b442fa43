"""Sizes of real objects, measured from photographs, change distances and nothing else."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from bop_folder import MESHES, write_dataset

from mrcnet_ros.datasets.bop import BopDataset, ResultRow
from mrcnet_ros.errors import DatasetError, ModelError
from mrcnet_ros.evaluation.size_calibration import (
    SizeMeasurement,
    check_sizes,
    measure_sizes,
)
from mrcnet_ros.geometry.se3 import exp_so3
from mrcnet_ros.inference.calibration_entries import write_size_ratios
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.objects import load_bop_objects


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    """Return two frames with five objects."""
    root = tmp_path_factory.mktemp('bop')
    write_dataset(root)
    return BopDataset(root, 'toy', 'test')


@pytest.fixture(scope='module')
def frames(dataset):
    """Return the frame with one object of each kind, as seen on many photographs."""
    return [dataclasses.replace(dataset.frames[0], image_id=i) for i in range(8)]


@pytest.fixture(scope='module')
def objects(dataset):
    """Return the objects by label."""
    return {m.label: m for m in load_bop_objects(dataset.models_dir).values()}


def rows_of(frames, factors, rotation=(0.0, 0.0, 0.0)):
    """Return the truth, distances times a factor for each frame, turned by a rotation vector."""
    rows = []
    for frame, factor in zip(frames, factors, strict=True):
        for truth in frame.target_ground_truth():
            T = truth.T_camera_object.copy()
            T[:3, 3] *= factor
            T[:3, :3] = T[:3, :3] @ exp_so3(rotation)
            rows.append(ResultRow(frame.scene_id, frame.image_id, truth.object_id, 0.9, T, 0.1))
    return rows


def test_poses_too_far_by_a_factor_mean_a_smaller_object(frames, objects):
    """Distances 5 % too large, give or take, are an object 5 % smaller than its mesh."""
    noise = np.random.default_rng(0).normal(0, 0.005, len(frames))
    for size in measure_sizes(frames, rows_of(frames, 1.05 * np.exp(noise)), objects):
        assert len(size.log_ratios) == len(frames)
        assert size.significant
        assert size.measured == pytest.approx(1 / 1.05, abs=0.006)
        assert size.ratio == pytest.approx(1 / 1.05, abs=0.008)
        before, after = size.left_out()
        assert after < 0.3 * before


def test_a_size_that_is_known_already_is_measured_on_top(frames, objects):
    """The size does not depend on the one that the estimates were made with."""
    factors = 1.05 * np.linspace(0.999, 1.001, 8)
    smaller = {k: dataclasses.replace(m, size_ratio=0.9) for k, m in objects.items()}
    before = measure_sizes(frames, rows_of(frames, factors), objects)
    for size, again in zip(before, measure_sizes(frames, rows_of(frames, factors * 0.9), smaller),
                           strict=True):
        assert again.known == 0.9
        assert again.ratio == pytest.approx(size.ratio)


@pytest.mark.parametrize(('factor', 'count'), [(1e3, 8), (1e-3, 8), (1.3, 8), (0.8, 8), (1e3, 2)])
def test_a_size_that_no_scan_has_is_refused(frames, objects, factor, count):
    """It tells of a wrong unit or mesh; a few photographs are enough for a factor of 1000."""
    few = frames[:count]
    factors = factor * np.linspace(0.999, 1.001, count)
    with pytest.raises(DatasetError, match=r'expected 0\.85 to 1\.15.*nothing is written'):
        check_sizes(measure_sizes(few, rows_of(few, factors), objects))
    check_sizes(measure_sizes(few, rows_of(few, 0.9 * np.ones(count)), objects))


def ratio_of(*log_ratios, known=1.0):
    """Return the size that photographs tell."""
    return SizeMeasurement('box', tuple(log_ratios), known).ratio


def test_few_photographs_move_a_size_less_than_many():
    """The size lies between the mesh and the photographs, nearer to these the more they are."""
    ratios = [ratio_of(*[0.05] * count) for count in (3, 6, 20, 200)]
    assert 1.02 < ratios[0] < ratios[1] < ratios[2] < ratios[3] < np.exp(0.05)
    assert ratios[3] == pytest.approx(np.exp(0.05), abs=1e-3)


def test_photographs_that_disagree_move_a_size_less():
    """Distances that scatter as much as they are off say little."""
    scattered = (-0.1, 0.14, -0.05, 0.2, -0.15, 0.08, 0.02, 0.1)
    assert abs(np.log(ratio_of(*scattered))) < 0.5 * np.median(scattered)
    assert not SizeMeasurement('box', scattered, 1.0).significant


def test_fewer_photographs_than_three_change_nothing():
    """One wrong distance among two would decide."""
    assert ratio_of(0.05, 0.06, known=0.97) == 0.97
    assert ratio_of(known=0.97) == 0.97
    assert not SizeMeasurement('box', (0.05, 0.06), 0.97).told


def test_one_wrong_distance_moves_a_size_little():
    """The median of six photographs does not follow one of them."""
    right = ratio_of(*[0.02, 0.021, 0.019, 0.02, 0.021, 0.02])
    wrong = ratio_of(*[0.02, 0.021, 0.019, 0.02, 0.021, 0.4])
    assert wrong == pytest.approx(right, abs=0.002)


def test_poses_with_a_wrong_rotation_say_nothing_of_size(frames, objects):
    """A distance is compared only where the rotation was found."""
    turned = rows_of(frames, [1.05] * 8, rotation=(0.0, 1.2, 0.4))
    assert all(not size.log_ratios for size in measure_sizes(frames, turned, objects))


def test_a_symmetric_view_is_as_good_as_the_true_one(frames, objects):
    """An object that looks the same after a quarter turn is measured after one."""
    turned = rows_of(frames, [1.05] * 8, rotation=(0.0, 0.0, np.pi / 2))
    counts = {size.label: len(size.log_ratios) for size in measure_sizes(frames, turned, objects)}
    labels = {m.object_id: m.label for m in objects.values()}
    assert counts == {labels[1]: 0, labels[3]: 8}
    assert set(labels) == set(MESHES)


def test_sizes_are_kept_in_the_model_and_nothing_else_changes(tiny_model, tmp_path):
    """What is written is read again; other objects and the graphs stay as they were."""
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    before = json.loads((path / 'model.json').read_text())
    write_size_ratios(path, {'box': 0.954})
    sizes = {o.label: o.size_ratio for o in read_model_directory(path, tiny_model.meshes).objects}
    assert sizes == {'blob': 1.0, 'box': 0.954}
    after = json.loads((path / 'model.json').read_text())
    for entry in after['objects']:
        entry.pop('size_ratio', None)
    assert after == before


def test_an_unknown_object_is_refused(tiny_model, tmp_path):
    """A size for an object the model lacks is an error that names those it has."""
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    with pytest.raises(ModelError, match='blob'):
        write_size_ratios(path, {'teapot': 0.9})


def test_a_smaller_object_is_nearer_on_the_same_ray(tiny_model, tmp_path):
    """With a size ratio, the same image gives the same rotation and a shorter way to it."""
    from mrcnet_ros.geometry.camera import Camera
    from mrcnet_ros.inference.estimator import PoseEstimator
    from mrcnet_ros.inference.poses import Detection

    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    write_size_ratios(path, {'box': 0.9})
    K = np.array([[200.0, 0.0, 80.0], [0.0, 200.0, 60.0], [0.0, 0.0, 1.0]])
    camera = Camera(K=K, width=160, height=120)
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    detections = [Detection(label, np.array([40.0, 30.0, 100.0, 90.0])) for label in
                  ('blob', 'box')]
    whole, small = (
        PoseEstimator.load(p, tiny_model.meshes, store_root=tiny_model.store).estimate(
            image, camera, detections).poses for p in (tiny_model.path, path))
    np.testing.assert_array_equal(small[0].T_camera_object, whole[0].T_camera_object)
    np.testing.assert_array_equal(small[1].T_camera_object[:3, :3],
                                  whole[1].T_camera_object[:3, :3])
    np.testing.assert_allclose(small[1].T_camera_object[:3, 3],
                               0.9 * whole[1].T_camera_object[:3, 3])
