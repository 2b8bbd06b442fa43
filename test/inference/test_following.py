"""Following: stage 2 started at a known pose, without a box."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_shipped_models import golden_frames

from mrcnet_ros.errors import BoxError, ImageError, SpecError
from mrcnet_ros.geometry.boxes import ious
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.crop import crop_camera
from mrcnet_ros.geometry.rotation_grid import rotation_grid
from mrcnet_ros.geometry.se3 import (
    exp_so3,
    make_transform,
    rotation_angle,
    rotation_to_axis,
)
from mrcnet_ros.inference.base_estimator import BaseEstimator
from mrcnet_ros.inference.known_start import KnownPose, start_at
from mrcnet_ros.inference.poses import Detection
from mrcnet_ros.inference.projected_box import ProjectedBoxes, outermost
from mrcnet_ros.specs import BinSpec


@pytest.fixture(scope='module')
def frames() -> list[Any]:
    """Return the golden pictures: image, camera, detections, true poses."""
    return golden_frames()


def nearby(T: np.ndarray, rng: np.random.Generator, turn_deg: float, part: float) -> np.ndarray:
    """Return a pose that is turned, and nearer or farther by a part of the distance."""
    axis = rng.standard_normal(3)
    R = exp_so3(np.radians(turn_deg) * axis / np.linalg.norm(axis)) @ T[:3, :3]
    return make_transform(R, T[:3, 3] * (1.0 + part * rng.choice([-1.0, 1.0])))


def known(detections: list[Detection], T_camera_object: list[np.ndarray]) -> list[KnownPose]:
    """Return what is expected where detections are."""
    return [KnownPose(d.label, T, d.detection_id)
            for d, T in zip(detections, T_camera_object, strict=True)]


def errors_of(estimator: Any, result: Any, truths: list[np.ndarray]) -> list[np.ndarray]:
    """Return of each pose how far it is turned [deg], too far away and aside [parts of it]."""
    assert not result.skipped
    errors = []
    for pose, T_gt in zip(result.poses, truths, strict=True):
        T = pose.T_camera_object
        item = estimator.objects[pose.label]
        E = item.symmetries.nearest(T_gt[:3, :3], T_gt[:3, 3], T[:3, :3])
        lengths = np.linalg.norm(T[:3, 3]), np.linalg.norm(E[:3, 3])
        aside = T[:3, 3] / lengths[0] - E[:3, 3] / lengths[1]
        errors.append(np.array([np.degrees(rotation_angle(E[:3, :3].T @ T[:3, :3])),
                                abs(lengths[0] / lengths[1] - 1.0), np.linalg.norm(aside)]))
    return errors


def test_it_ends_as_close_as_the_full_pipeline_does(demo_estimator, frames):
    """Started within 10 degrees and 5 % of the truth, poses are about as good as those of boxes.

    One crop and one hypothesis count and not several, so that they are a little worse.
    """
    rng = np.random.default_rng(4)
    full, followed = [], []
    for image, camera, detections, truths in frames:
        full += errors_of(demo_estimator, demo_estimator.estimate(image, camera, detections),
                          truths)
        for _ in range(2):
            starts = known(detections, [nearby(T, rng, 10.0, 0.05) for T in truths])
            followed += errors_of(demo_estimator, demo_estimator.follow(image, camera, starts),
                                  truths)
    turned, farther, aside = np.median(followed, axis=0)
    turned_full, farther_full, aside_full = np.median(full, axis=0)
    assert turned < 1.2 * turned_full + 1.5
    assert farther < farther_full + 0.01
    assert aside < aside_full + 0.0006  # of the distance: a third of a pixel of these pictures


def test_score_and_covariance_take_in_the_doubt_about_the_start(demo_estimator, frames):
    """Of an object that may as well be turned round, no answer to one start is certain."""
    image, camera, detections, truths = frames[0]
    starts = known(detections, truths)
    sure = demo_estimator.follow(image, camera, starts).poses
    doubt = demo_estimator.follow(image, camera, [
        dataclasses.replace(start, share=0.5) for start in starts]).poses
    for a, b in zip(sure, doubt, strict=True):
        np.testing.assert_array_equal(a.T_camera_object, b.T_camera_object)
        assert (a.evidence.share, b.evidence.share) == (1.0, 0.5)
        assert b.evidence.quality == pytest.approx(0.5 * a.evidence.quality)
        assert b.score < a.score and np.trace(b.covariance) > np.trace(a.covariance)
    for share in (1.5, np.nan, '0.5'):
        with pytest.raises(SpecError, match='share must be 0 to 1, got '):
            dataclasses.replace(starts[0], share=share)


def test_the_score_tells_where_there_is_no_such_object(demo_estimator, frames):
    """Started half a diameter aside, every pose scores less than half of what the true one has.

    The ratio, because the values move with the law of the score that a model was calibrated to.
    """
    image, camera, detections, truths = frames[0]
    scores = []
    for aside in (0.0, 0.5):
        moved = [T.copy() for T in truths]
        for T, detection in zip(moved, detections, strict=True):
            T[0, 3] += aside * demo_estimator.objects[detection.label].diameter_m
        result = demo_estimator.follow(image, camera, known(detections, moved))
        scores.append(np.array([p.score for p in result.poses]))
    assert (scores[1] < 0.5 * scores[0]).all()


def test_answers_come_in_the_order_of_the_starts_with_their_ids(demo_estimator, frames):
    """What cannot be seen is told with its place, like a detection without a pose."""
    image, camera, detections, truths = frames[0]
    behind = truths[0].copy()
    behind[2, 3] *= -1.0
    aside = truths[0].copy()
    aside[0, 3] += 5.0
    starts = [KnownPose('no such thing', truths[0]),
              KnownPose(detections[1].label, truths[1], 'second'),
              KnownPose(detections[0].label, behind), KnownPose(detections[0].label, aside),
              KnownPose(detections[0].label, truths[0], 'first')]
    result = demo_estimator.follow(image, camera, starts)
    assert [(p.detection_index, p.detection_id) for p in result.poses] == [
        (1, 'second'), (4, 'first')]
    assert [(s.detection_index, s.reason) for s in result.skipped] == [
        (0, 'unknown_label'), (2, 'box_outside'), (3, 'box_outside')]
    alone = demo_estimator.follow(image, camera, starts[4:])
    np.testing.assert_allclose(alone.poses[0].T_camera_object, result.poses[1].T_camera_object,
                               atol=1e-4)
    assert demo_estimator.follow(image, camera, []).poses == []


def test_a_followed_pose_has_a_covariance_and_the_box_of_its_mesh(demo_estimator, frames):
    """Answers carry what answers to detections carry; the box is near the detector's."""
    image, camera, detections, truths = frames[0]
    result = demo_estimator.follow(image, camera, known(detections, truths))
    for pose, detection in zip(result.poses, detections, strict=True):
        assert (np.linalg.eigvalsh(pose.covariance) > 0).all()
        assert ious(pose.box_xyxy[None], detection.box_xyxy)[0] > 0.5


def test_an_equivalent_start_is_the_same_start(demo_estimator, frames):
    """Of the equivalent poses of a symmetric object, that nearest to the start is answered."""
    image, camera, detections, truths = frames[0]
    index = next(i for i, d in enumerate(detections)
                 if len(demo_estimator.objects[d.label].symmetries.transforms) > 1)
    turn = demo_estimator.objects[detections[index].label].symmetries.transforms[1]
    results = [demo_estimator.follow(image, camera, [KnownPose(detections[index].label, T)])
               for T in (truths[index], truths[index] @ turn)]
    first, second = (result.poses[0].T_camera_object[:3, :3] for result in results)
    assert rotation_angle(first.T @ truths[index][:3, :3]) < 0.5
    assert rotation_angle((first @ turn[:3, :3]).T @ second) < 0.1


@pytest.mark.parametrize(('change', 'message'), [
    (lambda T: T @ np.diag([-1.0, 1, 1, 1]), 'mirror image'),
    (lambda T: T @ np.diag([2.0, 2, 2, 1]), 'changes lengths'),
    (lambda T: T.T, 'last row 0 0 0 1'), (lambda T: T[:3], 'must be 4x4'),
    (lambda T: T * np.nan, 'finite'), (lambda T: None, 'must be 4x4')])
def test_a_start_that_is_no_pose_is_refused(frames, change, message):
    """Stage 2 would answer something whatever it starts from."""
    _, _, _, truths = frames[0]
    with pytest.raises(SpecError, match=message):
        KnownPose('can', change(truths[0]))


def test_a_wrong_image_is_refused(demo_estimator, frames):
    """The image must fit its camera, as for detections."""
    image, camera, _, _ = frames[0]
    with pytest.raises(ImageError, match='calibrated for'):
        demo_estimator.follow(image[:-2], camera, [])


def test_a_preset_that_cannot_follow_says_so():
    """The paper preset has no templates that are kept."""
    class Other(BaseEstimator):
        @classmethod
        def load(cls, model_dir, meshes_dir=None, **options):
            pytest.fail('no model is loaded here')

        def _estimate(self, image, camera, detections):
            pytest.fail('a preset that cannot follow was asked for poses')

    camera = Camera(np.array([[80.0, 0, 15], [0, 80, 11], [0, 0, 1]]), 32, 24)
    other = Other(SimpleNamespace(objects=(), name='slow'), None)
    with pytest.raises(SpecError, match="'slow' cannot follow"):
        other.follow(np.zeros((24, 32, 3), np.uint8), camera, [])


def test_the_nearest_allowed_bin_is_chosen(demo_estimator):
    """The bin is at most a bin's width away, and one that the object can be seen in."""
    grid, bins = rotation_grid(2, 12), BinSpec()
    item = dataclasses.replace(demo_estimator.objects['can'], size_ratio=0.9)
    camera = Camera(np.array([[500.0, 0, 160], [0, 500, 120], [0, 0, 1]]), 320, 240)
    crop = crop_camera(camera, [100, 80, 180, 170], demo_estimator.spec.crop)
    T = make_transform(exp_so3([0.4, -1.1, 0.7]), [-0.03, 0.02, 0.6])
    every = np.ones(len(grid), bool)
    best, code = start_at(T, crop, item, grid, every, bins)
    R_ray = rotation_to_axis(crop.R_crop_camera @ T[:3, 3]) @ crop.R_crop_camera @ T[:3, :3]
    assert rotation_angle(R_ray @ grid[best].T) < np.radians(25.0)
    # the mesh is larger than the object, and is drawn farther away
    assert np.exp(code[2]) == pytest.approx(
        item.diameter_m * crop.focal / ((crop.R_crop_camera @ T[:3, 3])[2] / 0.9))
    every[best] = False
    assert start_at(T, crop, item, grid, every, bins)[0] != best


def test_a_projected_box_is_cut_off_at_the_image(demo_estimator):
    """As of a detector that sees the image alone; nothing of it outside is no box."""
    camera = Camera(np.array([[500.0, 0, 160], [0, 500, 120], [0, 0, 1]]), 320, 240)
    boxes = ProjectedBoxes(demo_estimator.objects)
    vertices = demo_estimator.objects['can'].load_mesh().vertices
    T = make_transform(exp_so3([0.4, -1.1, 0.7]), [-0.19, 0.0, 0.6])
    uv = camera.project(vertices @ T[:3, :3].T + T[:3, 3])
    assert uv[:, 0].min() < 0
    np.testing.assert_allclose(boxes.box('can', T, camera), [
        0, uv[:, 1].min(), uv[:, 0].max(), uv[:, 1].max()], atol=0.5)
    T[0, 3] -= 0.2
    with pytest.raises(BoxError, match='outside the 320x240 image'):
        boxes.box('can', T, camera)


def test_the_outermost_vertices_stand_for_the_mesh():
    """No direction reaches further than them by more than a percent."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((5000, 3))
    points *= [[1.0, 0.5, 0.2]] / np.linalg.norm(points, axis=1, keepdims=True)
    few = outermost(points)
    assert len(few) < 1500
    for direction in rng.standard_normal((50, 3)):
        assert (few @ direction).max() > 0.99 * (points @ direction).max()


@pytest.mark.parametrize(('other', 'iou'), [
    ([0, 0, 10, 10], 1.0), ([5, 0, 15, 10], 1 / 3), ([10, 0, 20, 10], 0.0), ([0, 0, 5, 5], 0.25)])
def test_boxes_overlap_by_their_union(other, iou):
    """Intersection over union, 0 for boxes that only touch."""
    assert ious(np.array([[0.0, 0, 10, 10]]), np.array(other, float)) == pytest.approx(iou)


def test_a_mesh_with_its_origin_aside_is_followed_in_its_own_frame(demo_estimator, frames,
                                                                   monkeypatch):
    """Start and answer are poses of the object frame, wherever the network's middle is."""
    image, camera, detections, truths = frames[0]
    label, T = detections[0].label, truths[0]
    plain = demo_estimator.follow(image, camera, [KnownPose(label, T)]).poses[0]
    shift = np.array([0.3, -0.1, 0.2])
    moved = dataclasses.replace(demo_estimator.objects[label], middle_m=shift)
    monkeypatch.setitem(demo_estimator.objects, label, moved)
    T_aside = T @ make_transform(np.eye(3), -shift)
    aside = demo_estimator.follow(image, camera, [KnownPose(label, T_aside)]).poses[0]
    np.testing.assert_allclose(aside.T_camera_object @ make_transform(np.eye(3), shift),
                               plain.T_camera_object, atol=1e-4)
