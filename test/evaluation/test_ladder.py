"""Errors carried over to other poses, and the ladder that is made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bop_folder import FAR, MESHES, WIDTH, K, far_origin, pose, write_dataset

from mrcnet_ros.datasets.bop import BopDataset, ResultRow
from mrcnet_ros.datasets.boxes import BoxSpec
from mrcnet_ros.datasets.known_view import KnownView, photographed
from mrcnet_ros.evaluation.carried_errors import CarriedError, carried, pose_error, worth
from mrcnet_ros.evaluation.ladder import DRAWN, GradedPose, Judge, matching, rung
from mrcnet_ros.evaluation.scores import ScoredObject, score
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.objects import ObjectModel, load_bop_objects
from mrcnet_ros.specs import CropSpec

LABELS = {1: 'blob', 3: 'die'}
CROP = CropSpec(size_px=32)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('bop')
    write_dataset(root)
    return root


@pytest.fixture(scope='module')
def objects(root: Path) -> dict[int, ObjectModel]:
    return load_bop_objects(root / 'toy' / 'models_eval', labels=LABELS)


@pytest.fixture(scope='module')
def targets(root: Path) -> list[KnownView]:
    return photographed(BopDataset(root, 'toy').frames, LABELS, BoxSpec())


@pytest.fixture(scope='module')
def judge(objects: dict[int, ObjectModel]) -> Judge:
    return Judge({item.label: item for item in objects.values()}, CROP)


def disturbed(T: np.ndarray, seed: int) -> np.ndarray:
    """Return a pose some degrees and some percent off, (4, 4) [m]."""
    rng = np.random.default_rng(seed)
    off = make_transform(exp_so3(rng.normal(0, 0.15, 3)), rng.normal(0, 0.02, 3))
    result = T @ off
    result[:3, 3] *= rng.uniform(0.95, 1.05)
    return result


@pytest.mark.parametrize('object_id', MESHES)
def test_an_error_carried_to_its_own_pose_is_the_estimate(
        objects: dict[int, ObjectModel], object_id: int) -> None:
    """Nothing is lost; symmetric equivalents of the truth are the truth."""
    item = ScoredObject(objects[object_id])
    for seed in range(5):
        T_true = pose(0.2, -0.1, 0.9, (0.4, 0.3 * seed, -0.2))
        T_est = disturbed(T_true, seed)
        error = pose_error(T_est, T_true, item)
        assert error is not None
        T_near = item.closest(T_est, T_true)
        np.testing.assert_allclose(carried(error, T_near, item), T_est,
                                   atol=1e-12)
        other = pose_error(T_est, T_true @ item.model.symmetries.transforms[-1], item)
        assert other is not None and other.rotation_deg == pytest.approx(error.rotation_deg)


def test_an_error_does_not_depend_on_where_the_object_is(objects: dict[int, ObjectModel]) -> None:
    """Carried over to another pose, it is measured there as it was."""
    item = ScoredObject(objects[1])
    T_there = pose(-0.3, 0.2, 1.4, (0.1, -0.7, 0.5))
    error = pose_error(disturbed(pose(0, 0.05, 0.6), 3), pose(0, 0.05, 0.6), item)
    assert error is not None
    again = pose_error(carried(error, T_there, item), T_there, item)
    assert again is not None
    np.testing.assert_allclose(again.R, error.R, atol=1e-9)
    np.testing.assert_allclose(again.lateral, error.lateral, atol=1e-12)
    assert again.log_distance == pytest.approx(error.log_distance)


def test_an_error_does_not_depend_on_the_origin_of_the_mesh(
        objects: dict[int, ObjectModel], tmp_path: Path) -> None:
    """Ten degrees turn the object on the spot."""
    plain, far = ScoredObject(objects[3]), ScoredObject(far_origin(objects[3], tmp_path))
    T_true, back = pose(0.1, 0.05, 0.6), np.linalg.inv(FAR)
    error = CarriedError(exp_so3([0, 0, np.radians(10)]), np.array([0.1, 0]), 0.05)
    T_far = carried(error, T_true @ back, far)
    np.testing.assert_allclose(T_far @ FAR, carried(error, T_true, plain), atol=1e-6)
    found = pose_error(T_far, T_true @ back, far)
    assert found is not None and found.log_distance == pytest.approx(0.05)
    np.testing.assert_allclose(found.lateral, error.lateral, atol=1e-6)


def test_errors_have_the_units_they_say(objects: dict[int, ObjectModel]) -> None:
    """Half a diameter aside, a tenth farther, ten degrees."""
    item = ScoredObject(objects[3])
    error = CarriedError(exp_so3([0, 0, np.radians(10)]), np.array([0.5, 0]), float(np.log(1.1)))
    assert error.rotation_deg == pytest.approx(10) and error.depth_percent == pytest.approx(10)
    T = carried(error, pose(0, 0, 2.0), item)
    np.testing.assert_allclose(T[:3, 3], [1.1 * 0.5 * item.model.diameter_m, 0, 2.2], atol=1e-12)


def test_a_pose_behind_the_camera_has_no_error(objects: dict[int, ObjectModel]) -> None:
    """It counts as none given."""
    assert pose_error(pose(0, 0, -0.5), pose(0, 0, 1.0), ScoredObject(objects[1])) is None


def test_the_worth_of_answers_is_the_average_recall(
        root: Path, objects: dict[int, ObjectModel], targets: list[KnownView],
        judge: Judge) -> None:
    """Answers to the targets themselves score as the dataset's own rules do, missing ones too."""
    frames = BopDataset(root, 'toy').frames[:1]  # with one instance of each object
    seen = [t for t in targets if t.image.tobytes() == frames[0].load_image().tobytes()]
    for missing in (0, 1):
        estimates = {t.label: disturbed(t.T_camera_object, i) for i, t in enumerate(seen)}
        rows = [ResultRow(7, frames[0].image_id, g.object_id, 1.0,
                          estimates[LABELS[g.object_id]])
                for g in frames[0].target_ground_truth()][missing:]
        kept = {LABELS[row.object_id] for row in rows}
        answers = [[judge.answer(t, estimates[t.label] if t.label in kept else None)]
                   for t in seen]
        wanted = score(frames, rows, objects)
        found = rung(answers, seen, judge)['all']
        assert 0 < wanted.mssd.average < 1
        assert found['ar_mssd'] == pytest.approx(wanted.mssd.average)
        assert found['ar_mspd'] == pytest.approx(wanted.mspd.average)
        assert found['near'] == pytest.approx(np.mean([t.near for t in wanted.targets]))
        assert found['missed'] == missing


def test_xy_is_in_pixels_of_the_crop(targets: list[KnownView], judge: Judge) -> None:
    """A shift of two crop pixels across the ray is two crop pixels."""
    target = targets[0]
    part = 2 / judge.diameter_px(target)
    diameter_m = judge.items[target.label].model.diameter_m
    T = carried(CarriedError(np.eye(3), np.array([part, 0]), 0.0), target.T_camera_object,
                judge.items[target.label])
    assert judge.answer(target, T).lateral_px == pytest.approx(2)
    box_px = (target.box_xyxy[2:] - target.box_xyxy[:2]).max()
    image_px = K[0, 0] * diameter_m / np.linalg.norm(target.T_camera_object[:3, 3])
    expected = image_px * CROP.size_px / (CROP.padding * box_px)
    assert judge.diameter_px(target) == pytest.approx(expected, rel=0.1)


def test_targets_get_answers_to_the_same_object_as_visible_as_they_are(
        targets: list[KnownView]) -> None:
    """And of many equally visible ones not always the same."""
    answers = [GradedPose(label, visible / 100, None) for label in LABELS.values()
               for visible in range(101)]
    answers += [GradedPose('blob', 0.5, None) for _ in range(100)]
    for target, given in zip(targets, matching(answers, targets), strict=True):
        assert len(given) == DRAWN and {a.label for a in given} == {target.label}
        assert all(abs(a.visible_fraction - target.visible_fraction) < 0.05 for a in given)
    half = [KnownView(t.image, t.camera, 'blob', t.box_xyxy, t.T_camera_object, 0.5)
            for t in targets]
    drawn = {id(a) for given in matching(answers, half) for a in given}
    assert len(drawn) > 2 * DRAWN


def test_a_perfect_estimate_meets_every_threshold(targets: list[KnownView],
                                                  judge: Judge) -> None:
    """And is near."""
    for target in targets:
        T = target.T_camera_object
        found = worth(T, T, judge.items[target.label], target.camera.K, WIDTH)
        assert found.mean == 1.0 and found.near


def test_composed_samples_are_views_with_the_truth_of_the_sample() -> None:
    """The network's crop of a composed view is the sample, and its pose is the sample's."""
    pytest.importorskip('torch', reason='needs the train extra')
    from mrcnet_ros.geometry.bins import encode_translation
    from mrcnet_ros.geometry.crop import crop_camera
    from mrcnet_ros.geometry.sampling import sample_crop
    from mrcnet_ros.geometry.se3 import rotation_to_axis
    from mrcnet_ros.training.composer import Sample
    from mrcnet_ros.training.held_out import known_view

    rng = np.random.default_rng(0)
    item = ObjectModel(object_id=1, label='blob', diameter_m=0.1, mesh_path=Path('none'),
                       symmetries=None, size_ratio=1.05)  # type: ignore[arg-type]
    for size in (32, 96):
        spec = CropSpec(size_px=size)
        sample = Sample(rng.integers(0, 255, (size, size, 3), np.uint8), 0, exp_so3([1, 2, 0.5]),
                        np.array([0.03, -0.02]), -0.4, 5.0, None, None,  # type: ignore[arg-type]
                        0.7)
        view = known_view(sample, item, spec)
        crop = crop_camera(view.camera, view.box_xyxy, spec)
        np.testing.assert_allclose(crop.R_crop_camera, np.eye(3), atol=1e-9)
        assert crop.focal == pytest.approx(sample.focal)
        difference = sample_crop(view.image, view.camera, crop).astype(int) - sample.image
        assert abs(difference).max() <= 1
        t = view.T_camera_object[:3, 3] / item.size_ratio
        code = encode_translation(t, sample.focal, item.diameter_m)
        np.testing.assert_allclose(code, [*sample.xy, sample.log_size], atol=1e-9)
        np.testing.assert_allclose(rotation_to_axis(t) @ view.T_camera_object[:3, :3],
                                   sample.R_ray_object, atol=1e-9)
