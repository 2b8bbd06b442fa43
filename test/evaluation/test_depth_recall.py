"""What depth is worth and what wrong depth does: a network that errs, corrected for real."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synth_folder

from mrcnet_ros.cli import evaluate_depth
from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.evaluation.known_scenes import (
    COLOUR,
    DEPTH,
    EMPTY,
    LATE,
    OTHER_IMAGE,
    PLANE,
    TEN_TIMES,
    UNREGISTERED,
    WRONG,
    KnownScenes,
)
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import exp_so3
from mrcnet_ros.inference.depth_correction import DepthCorrection
from mrcnet_ros.inference.estimator import PoseEstimator
from mrcnet_ros.inference.poses import Detection, FrameResult, Measured, PoseEstimate, Skipped
from mrcnet_ros.inference.resting_bodies import Bodies
from mrcnet_ros.inference.support_plane import SupportCorrection
from mrcnet_ros.objects import load_bop_objects
from mrcnet_ros.synth.depth_sensor import DepthSensor


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate two short sequences with a depth camera; an image is 100 ms after the last."""
    folder = tmp_path_factory.mktemp('scenes')
    synth_folder.write_dataset(folder, scenes=2, images=3, rate_hz=10.0, upright=True,
                               sensor=DepthSensor())
    synth_folder.write_dataset(folder, 'unrelated', images=1)
    return folder


class Errs:
    """Finds all objects, about as wrong as a network; depth and plane correct its poses.

    Like a model that was calibrated on photographs, it takes objects to be larger than their
    meshes.
    """

    def __init__(self, root: Path) -> None:
        """Know the truth."""
        dataset = BopDataset(root, 'made', 'test')
        self._meshes = load_bop_objects(dataset.models_dir)
        self._frames = {f.load_image().tobytes(): f for f in dataset.frames}
        self._take(1.15)

    def assume_sizes_of_meshes(self) -> None:
        """Take objects to be as large as their meshes."""
        self._take(1.0)

    def _take(self, size_ratio: float) -> None:
        self.objects = {item.label: dataclasses.replace(item, size_ratio=size_ratio)
                        for item in self._meshes.values()}
        self._depth = DepthCorrection(self.objects)
        self._support = SupportCorrection(Bodies(self.objects))

    def close(self) -> None:
        """Hold nothing."""

    def estimate_with_each(self, image_rgb: np.ndarray, camera: Camera,
                           detections: Sequence[Detection], known: Sequence[Measured],
                           most: Mapping[str, int] | None = None) -> list[FrameResult]:
        """Answer each target with its pose, moved and turned, and correct that."""
        poses = self._wrong_poses(image_rgb)
        results = []
        for item in known:
            found = poses
            if item.depth_m is not None:
                found = self._depth.correct(found, item.depth_m, camera)
            if item.support_plane is not None:
                found = self._support.correct(found, item.support_plane)
            results.append(FrameResult(list(found), []))
        return results

    def _wrong_poses(self, image_rgb: np.ndarray) -> list[PoseEstimate]:
        frame = self._frames[image_rgb.tobytes()]
        rng = np.random.default_rng([frame.scene_id, frame.image_id])
        labels = {item.object_id: label for label, item in self.objects.items()}
        poses = []
        for truth in frame.target_ground_truth():
            T = truth.T_camera_object.copy()
            T[:3, 3] *= 1 + 0.03 * rng.standard_normal()
            T[:3, :3] = exp_so3(0.04 * rng.standard_normal(3)) @ T[:3, :3]
            poses.append(PoseEstimate(labels[truth.object_id], truth.object_id, T, 0.8,
                                      len(poses), '', np.zeros(4)))
        return poses


@pytest.fixture(scope='module')
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the command with a network that errs, on some fifty targets."""
    root = tmp_path_factory.mktemp('many')
    synth_folder.write_dataset(root, scenes=8, images=2, rate_hz=10.0, upright=True,
                               sensor=DepthSensor())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_depth, 'load_estimator', lambda args: Errs(root))
        code = mrcnet.main(arguments(root, 'made', '--support-plane'))
    assert code == 0
    return dict(json.loads((root / 'out.json').read_text()))


def arguments(root: Path, dataset: str, *more: str) -> list[str]:
    """Return the command line of a model directory that nobody reads."""
    model = root / 'model'
    model.mkdir(exist_ok=True)
    (model / 'model.json').write_text('{}')
    return ['evaluate', 'depth', '--bop-dir', str(root), '--dataset', dataset, '--model',
            str(model), '--json', str(root / 'out.json'), *more]


def test_depth_raises_all_three_recalls(figures):
    """Of surface, projection and visible surface; the distance is nearer in the middle."""
    ways = figures['ways']
    plain, depth = (ways[name]['overall'] for name in (COLOUR, DEPTH))
    for rate in ('ar_mssd', 'ar_vsd'):
        assert depth[rate] > plain[rate] + 0.05
    assert depth['ar_mspd'] > plain['ar_mspd'] - 0.02
    told = ways[DEPTH]['corrected']
    assert told['targets'] > plain['targets'] / 2
    assert told['median_depth_mm_after'] < 0.6 * told['median_depth_mm_before']
    assert ways[COLOUR]['corrected']['targets'] == 0


def test_the_table_brings_those_that_stand_to_their_distance(figures):
    """The plane z = 0 of the world; what is carried above it stays."""
    told = figures['ways'][PLANE]['corrected']
    assert 0 < told['targets'] < figures['ways'][COLOUR]['overall']['targets']
    assert told['median_depth_mm_after'] < 0.6 * told['median_depth_mm_before']


def test_objects_on_rendered_images_are_as_large_as_their_meshes(root, figures):
    """What a model measured on photographs does not count there, and the figures say so."""
    assert figures['sizes'] == 'of the meshes'
    made = BopDataset(root, 'made', 'test')
    assert made.rendered
    (made.split_path / 'rendered.json').rename(root / 'elsewhere.json')
    try:
        assert not made.rendered
    finally:
        (root / 'elsewhere.json').rename(made.split_path / 'rendered.json')


@pytest.mark.parametrize('name', WRONG)
def test_no_object_loses_by_depth_that_is_wrong(figures, name):
    """Late, of another scale, empty, or of another camera: at most 0.02 of average recall.

    A single pose of fifty may be worse, which is 0.05 of its object's recall. Late depth shows
    where objects were, so of moving objects it is the mean that counts.
    """
    ways = figures['ways']
    assert ways[name]['wrong']
    for rate in ('ar_mssd', 'ar_mspd', 'ar_vsd'):
        assert ways[name]['overall'][rate] > ways[COLOUR]['overall'][rate] - 0.02
    if name != LATE:
        assert ways[name]['worst_object']['change'] > -0.05


def test_what_is_visible_of_the_targets_divides_them(figures):
    """Each is in one part, and the recalls of the parts make up the whole, that of VSD too."""
    for way in figures['ways'].values():
        parts = way['by_visible_fraction'].values()
        assert sum(p['targets'] for p in parts) == way['overall']['targets']
        for rate in ('ar_mssd', 'ar_vsd'):
            whole = sum(p[rate] * p['targets'] for p in parts) / way['overall']['targets']
            assert whole == pytest.approx(way['overall'][rate])


def test_the_table_tells_what_was_lost_and_won(root, monkeypatch, capsys):
    """A row for each kind of depth, parts by what is visible, and a sentence about harm."""
    monkeypatch.setattr(evaluate_depth, 'load_estimator', lambda args: Errs(root))
    assert mrcnet.main(arguments(root, 'made', '--limit', '2')) == 0
    printed = capsys.readouterr().out
    for name in (COLOUR, DEPTH, EMPTY, TEN_TIMES, LATE, OTHER_IMAGE, UNREGISTERED, 'AR_VSD',
                 'visible 0.8-1.0', 'the median error of distance was'):
        assert name in printed
    assert PLANE not in printed
    assert 'by depth that is wrong' in printed or 'an object lost more than 0.02' in printed


class Declines(Errs):
    """Lacks an object, and gives no pose of the first detection of each image."""

    def _take(self, size_ratio: float) -> None:
        super()._take(size_ratio)
        self.objects.popitem()

    def estimate_with_each(self, image_rgb: np.ndarray, camera: Camera,
                           detections: Sequence[Detection], known: Sequence[Measured],
                           most: Mapping[str, int] | None = None) -> list[FrameResult]:
        """Answer nothing and say why for one detection."""
        return [FrameResult([], [Skipped(0, 'box_outside', '')]) for _ in known]


def test_the_file_says_why_targets_have_no_pose_and_whose_the_boxes_are(root, monkeypatch, capsys):
    """As that of evaluate bop; objects that the model lacks are told as well."""
    monkeypatch.setattr(evaluate_depth, 'load_estimator', lambda args: Declines(root))
    assert mrcnet.main(arguments(root, 'made', '--boxes', 'amodal', '--seed', '3')) == 0
    figures = json.loads((root / 'out.json').read_text())
    lacking = figures['targets_not_in_model']
    assert figures['skipped'] == {'box_outside': figures['images'], 'not_in_model': lacking}
    assert figures['boxes'] == {'kind': 'amodal', 'jitter': 0.0, 'seed': 3}
    assert lacking and f'{lacking} targets are of objects that the model lacks: they count as ' \
        'missed' in capsys.readouterr().out


def test_wrong_depth_is_what_its_name_says(root):
    """Late images are of the scene's other moments; images without stamps have no late depth."""
    frames = BopDataset(root, 'made', 'test').frames
    scenes = KnownScenes(frames)
    depth = [frame.load_depth_m() for frame in frames]
    known = [dict(zip(scenes.names, scenes.known(i), strict=True)) for i in range(len(frames))]
    for i, other in enumerate((1, 0, 1, 4, 3, 4)):
        np.testing.assert_array_equal(known[i][LATE].depth_m, depth[other])
        np.testing.assert_array_equal(known[i][TEN_TIMES].depth_m, 10 * depth[i])
        np.testing.assert_array_equal(known[i][OTHER_IMAGE].depth_m, depth[(i + 3) % 6])
        assert not known[i][EMPTY].depth_m.any() and known[i][COLOUR].depth_m is None
        moved = known[i][UNREGISTERED].depth_m
        assert moved.shape == depth[i].shape and 0.2 < (moved > 0).mean() < 0.6
    assert LATE not in KnownScenes(BopDataset(root, 'unrelated', 'test').frames).names


@pytest.mark.parametrize('numbers', [[0, 1, 2, 3], [0, 3, 4], [0, 1, 2], [0]])
def test_depth_of_another_image_is_never_the_right_one(root, numbers):
    """It is of another scene if there is one, whatever their lengths; one image has no other."""
    frames = [BopDataset(root, 'made', 'test').frames[i] for i in numbers]
    scenes, ids = KnownScenes(frames), {f.scene_id for f in frames}
    if len(frames) == 1:
        assert OTHER_IMAGE not in scenes.names
        return
    depth = {f.load_depth_m().tobytes(): f for f in frames}
    for i, frame in enumerate(frames):
        known = dict(zip(scenes.names, scenes.known(i), strict=True))
        other = depth[known[OTHER_IMAGE].depth_m.tobytes()]
        assert other is not frame and (other.scene_id != frame.scene_id) == (len(ids) > 1)


def test_a_file_of_detections_is_checked(root, monkeypatch, capsys):
    """Its boxes must be of images and objects of the dataset, or there is nothing to correct."""
    monkeypatch.setattr(evaluate_depth, 'load_estimator', lambda args: Errs(root))
    entry = {'scene_id': 1, 'image_id': 1, 'category_id': 2, 'score': 0.9, 'time': 0.1,
             'bbox': [40, 30, 50, 40]}
    for change, told in (({'scene_id': 99}, 'none of its 1 detections is of one of'),
                         ({'category_id': 0}, 'which counts from 1')):
        (root / 'boxes.json').write_text(json.dumps([entry | change]))
        code = mrcnet.main(arguments(root, 'made', '--detections', str(root / 'boxes.json')))
        assert code == 2 and told in capsys.readouterr().err


def test_a_dataset_without_depth_is_refused(root, capsys):
    """With the image's name and what to do."""
    for path in (root / 'unrelated' / 'test').rglob('depth/*.png'):
        path.unlink()
    assert mrcnet.main(arguments(root, 'unrelated')) == 2
    assert 'has no depth image; give a dataset with depth' in capsys.readouterr().err


def test_one_answer_is_corrected_as_separate_ones_are(tiny_model: Any) -> None:
    """The network runs once, and every pose is that of a call with its own depth and plane."""
    camera = Camera(np.array([[250.0, 0, 119.5], [0, 250.0, 89.5], [0, 0, 1]]), 240, 180)
    image = np.random.default_rng(0).integers(0, 255, (180, 240, 3), np.uint8)
    boxes = [Detection('box', np.array([100.0, 60, 160, 110]))]
    estimator = PoseEstimator.load(tiny_model.path, tiny_model.meshes,
                                   store_root=tiny_model.store, threads=1, crops=1)
    z_m = estimator(image, camera, boxes)[0].T_camera_object[2, 3]
    depth = np.full((180, 240), 1.02 * z_m, np.float32)
    plane = np.array([0.0, 0.0, -1.0, 1.03 * z_m])
    known = [Measured(), Measured(depth), Measured(support_plane=plane), Measured(depth, plane)]
    together = estimator.estimate_with_each(image, camera, boxes, known)
    for item, result in zip(known, together, strict=True):
        alone = estimator.estimate(image, camera, boxes, item.depth_m, item.support_plane)
        np.testing.assert_array_equal(result.poses[0].T_camera_object,
                                      alone.poses[0].T_camera_object)
        assert result.poses[0].stands == alone.poses[0].stands
        assert (result.poses[0].depth is None) == (item.depth_m is None)
