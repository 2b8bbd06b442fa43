"""Templates rendered for each detection, and what the cached ones change."""

import json
import shutil

import numpy as np
import pytest
import synth_folder

pytest.importorskip('torch', reason='needs the train extra')

from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.datasets.boxes import BoxSpec
from mrcnet_ros.evaluation.exact_estimator import ExactPoseEstimator
from mrcnet_ros.evaluation.exact_templates import template_intrinsics_at
from mrcnet_ros.evaluation.runner import detections_of
from mrcnet_ros.geometry.bins import encode_translation
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.crop import crop_camera
from mrcnet_ros.geometry.se3 import exp_so3
from mrcnet_ros.inference.calibration_entries import write_size_ratios
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.rendering.template_store import TemplateStore, template_intrinsics
from mrcnet_ros.specs import CropSpec, TemplateSpec
from mrcnet_ros.synth.dataset import make_dataset
from mrcnet_ros.synth.source import from_models

CAMERA = Camera(np.array([[300.0, 0, 160], [0, 310.0, 118], [0, 0, 1.0]]), 320, 240)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory, tiny_model):
    root = tmp_path_factory.mktemp('exact')
    make_dataset(root / 'tiny', 'test', from_models(tiny_model.meshes / 'objects.yaml'),
                 synth_folder.spec(images=2))
    return BopDataset(root, 'tiny')


@pytest.fixture(scope='module')
def pair(tiny_model):
    cached = PoseEstimator.load(tiny_model.path, tiny_model.meshes, store_root=tiny_model.store)
    exact = ExactPoseEstimator(cached.model, cached.backend, TemplateStore(tiny_model.store))
    yield cached, exact
    exact.close()


def test_at_the_canonical_pose_both_templates_are_the_same(pair):
    """An object on the crop's axis at the template's distance has no perspective to lose."""
    cached, exact = pair
    spec = cached.spec.template
    view = crop_camera(CAMERA, [100, 80, 180, 160], cached.spec.crop)
    for class_index, item in enumerate(cached.model.objects):
        t = np.array([0.0, 0.0, spec.distance_diameters * item.diameter_m])
        code = encode_translation(t, view.focal, item.diameter_m)
        crop = type('Crop', (), {'class_index': class_index, 'camera': view})()
        coarse = {'xy': code[None, :2], 'log_size': code[None, 2]}
        for bin_index in (0, 5, 17):
            found, hits, misses = exact._templates([crop], coarse, np.array([bin_index]))
            expected, _, _ = cached.features.fetch([class_index], [bin_index])
            assert (hits, misses) == (0, 1) and set(found) == set(expected)
            for name, values in expected.items():
                np.testing.assert_allclose(found[name], values, atol=1e-4, err_msg=name)


def test_the_warp_of_stage_2_brings_the_template_back_to_the_crop():
    """Template pixel, shifted and scaled by the coarse pose, is the crop pixel of each point."""
    spec, size_px, diameter_m = TemplateSpec(size_px=64), 96, 0.12
    crop = crop_camera(CAMERA, [40, 30, 100, 110], CropSpec(size_px=size_px))
    t = np.array([0.03, -0.02, 0.5])
    x, y, log_size = encode_translation(t, crop.focal, diameter_m)
    K = template_intrinsics_at(t, spec, diameter_m)
    points = np.random.default_rng(0).normal(scale=0.04, size=(50, 3)) @ exp_so3([1, 2, 3]) + t

    def widths(K, size):
        uv = points @ K.T
        return (uv[:, :2] / uv[:, 2:] + 0.5) / size - 0.5

    ratio = np.exp(log_size) / spec.relative_size
    np.testing.assert_allclose([x, y] + ratio * widths(K, spec.size_px),
                               widths(crop.K_crop, size_px), atol=1e-12)
    on_axis = np.array([0.0, 0.0, spec.distance_diameters * diameter_m])
    np.testing.assert_allclose(template_intrinsics_at(on_axis, spec, diameter_m),
                               template_intrinsics(spec), atol=1e-9)


def test_exact_templates_change_poses_a_little_and_repeatably(pair, dataset):
    """Both answer every detection; the poses differ, and are the same when asked again."""
    cached, exact = pair
    for frame in dataset.frames:
        detections, _ = detections_of(frame, cached, BoxSpec())
        image = frame.load_image()
        a, b, again = (e.estimate(image, frame.camera, detections)
                       for e in (cached, exact, exact))
        assert len(a.poses) == len(b.poses) == len(detections)
        for p, q, r in zip(a.poses, b.poses, again.poses, strict=True):
            np.testing.assert_array_equal(q.T_camera_object, r.T_camera_object)
            assert np.abs(p.T_camera_object - q.T_camera_object).max() > 1e-9
            assert p.detection_index == q.detection_index


def test_every_crop_has_a_template_of_its_own(tiny_model, pair, dataset):
    """Each is rendered for the crop's own camera."""
    cached, _ = pair
    exact = ExactPoseEstimator(cached.model, cached.backend, TemplateStore(tiny_model.store),
                               crops=2, hypotheses=1)
    frame = dataset.frames[0]
    detections, _ = detections_of(frame, exact, BoxSpec())
    result = exact.estimate(frame.load_image(), frame.camera, detections)
    assert len(result.poses) == len(detections) and result.cache_misses == 2 * len(detections)
    exact.close()


def test_the_command_compares_them(monkeypatch, tiny_model, dataset, tmp_path, capsys):
    """Recall of both, times of three ways, movements of every pose; cached poses are the same."""
    monkeypatch.setenv('MRCNET_CACHE', str(tiny_model.store))
    smaller = shutil.copytree(tiny_model.path, tmp_path / 'model')
    write_size_ratios(smaller, {'blob': 0.9, 'box': 0.9})
    found = {}
    for model in (smaller, tiny_model.path):
        code = mrcnet.main(['evaluate', 'templates', '--bop-dir', str(dataset.path.parent),
                            '--dataset', 'tiny', '--model', str(model), '--meshes',
                            str(tiny_model.meshes), '--json', str(tmp_path / 'out.json')])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        found[model] = figures = json.loads((tmp_path / 'out.json').read_text())
    for name, moved in figures['moved'].items():  # rendered objects are as large as their meshes
        assert found[smaller]['moved'][name]['p95'] == pytest.approx(moved['p95'], rel=1e-4)
    assert figures['sizes'] == 'of the meshes'
    assert figures['boxes'] == {'kind': 'visib', 'jitter': 0.0, 'seed': 0}
    ways = figures['ways']
    assert list(ways) == ['cached, in memory', 'cached, not in memory', 'exact']
    assert ways['cached, in memory']['ar_mspd'] == ways['cached, not in memory']['ar_mspd']
    assert figures['images'] == 2 and figures['targets_not_in_model'] == 0
    assert figures['detections'] == sum(len(f.target_ground_truth()) for f in dataset.frames)
    assert all(entry['p95'] >= entry['median'] > 0 for entry in figures['moved'].values())
    assert '| exact against cached | median | p95 |' in printed.out
