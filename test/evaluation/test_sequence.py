"""Scores of tracking, of followers whose errors are known, and the command on a real sequence."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import synth_folder

from mrcnet_ros.cli import evaluate_sequence
from mrcnet_ros.cli import main as mrcnet
from mrcnet_ros.datasets.bop import BopDataset, BopFrame, GroundTruth
from mrcnet_ros.datasets.boxes import BoxSpec
from mrcnet_ros.errors import DatasetError, ImageError, SpecError
from mrcnet_ros.evaluation import sequence
from mrcnet_ros.evaluation.sequence import FOLLOWED, PER_IMAGE, SequenceScores, Step, steps_in_time
from mrcnet_ros.evaluation.sequence_figures import sequence_error
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.inference.followed import TrackLimits
from mrcnet_ros.inference.poses import FrameResult, PoseEstimate
from mrcnet_ros.objects import ObjectModel, load_bop_objects

HZ = 30.0
DIAMETER_M = 0.1
CAN = ObjectModel(object_id=1, label='can', mesh_path=Path('none'), mesh_sha256='',
                  diameter_m=DIAMETER_M, symmetries=Symmetries.none())
CAMERA = Camera(np.array([[80.0, 0, 15], [0, 80, 11], [0, 0, 1]]), 32, 24)
BOX = np.array([2.0, 2.0, 12.0, 12.0])


def test_a_pose_is_wrong_by_where_the_object_is_not_by_its_origin():
    """Twelve degrees about the middle are no error of position, whatever the file's origin."""
    middle = np.array([0.4, 0.0, 0.1])
    far = dataclasses.replace(CAN, middle_m=middle)
    T_true = make_transform(exp_so3([0.3, -0.2, 0.5]), [0.0, 0.0, 0.8])
    T_est = T_true @ make_transform(exp_so3([0.0, 0.0, np.radians(12)]), np.zeros(3))
    back = make_transform(np.eye(3), -middle)
    found = sequence_error(T_est @ back, T_true @ back, far)
    np.testing.assert_allclose(found, sequence_error(T_est, T_true, CAN), atol=1e-9)
    assert not found.wrong and found.rotation_deg == pytest.approx(12)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / 'picture.png'
    cv2.imwrite(str(path), np.zeros((24, 32, 3), np.uint8))
    return path


def step(picture: Path, image_id: int, *cans: tuple[float, float]) -> Step:
    """Return an image of cans: how far to the right each is [m], and its visible fraction."""
    truths = tuple(GroundTruth(1, i, make_transform(np.eye(3), [x, 0.0, 0.8]), BOX, BOX, seen)
                   for i, (x, seen) in enumerate(cans))
    frame = BopFrame(1, image_id, picture, CAMERA, truths, {1: len(cans)}, None, 1.0)
    return Step(frame, image_id / HZ, np.eye(4))


class Follower:
    """Answers detections with the truth, and starts as it is told.

    :param follow_at: given image id, truths and the start's T, returns T_camera_object and score.
    """

    follows_by = 'stage 2'

    def __init__(self, follow_at=None, objects=None):
        """Look at no image yet."""
        self.objects = objects or {'can': CAN}
        self.follow_at = follow_at or nearest_truth
        self.frames, self.fails_at = [], None

    def assume_sizes_of_meshes(self):
        """They are that large."""

    def close(self):
        """Hold nothing."""

    def estimate(self, image_rgb, camera, detections, depth_m=None, most=None):
        """Answer with the truth: boxes come in the order of the instances that are visible."""
        self.frame = self.frames.pop(0)
        if self.frame.image_id == self.fails_at:
            raise ImageError('image went bad')
        seen = [g for g in self.frame.target_ground_truth()
                if g.visible_fraction >= sequence.DETECTABLE]
        assert len(seen) == len(detections)
        return FrameResult([
            PoseEstimate(d.label, g.object_id, g.T_camera_object, 0.8, i, '', d.box_xyxy)
            for i, (d, g) in enumerate(zip(detections, seen, strict=True))], [])

    def follow(self, image_rgb, camera, starts, depth_m=None, support_plane=None):
        """Answer starts as told."""
        poses = []
        for i, start in enumerate(starts):
            object_id = self.objects[start.label].object_id
            own = [g for g in self.frame.ground_truth if g.object_id == object_id]
            T, score = self.follow_at(self.frame.image_id, own, start.T_camera_object)
            poses.append(PoseEstimate(start.label, object_id, T, score, i, '', BOX))
        return FrameResult(poses, [])


def nearest_truth(image_id, truths, T_start):
    """Answer with the nearest object of the label."""
    near = min(truths, key=lambda g: np.linalg.norm(
        g.T_camera_object[:3, 3] - T_start[:3, 3]))
    return near.T_camera_object, 0.8


def scored(follower: Follower, steps: list[Step], every: int = 100, late: int = 0,
           limits: TrackLimits | None = None):
    """Return the figures of a follower that sees all steps."""
    follower.frames = [s.frame for s in steps]
    scores = SequenceScores(follower, BoxSpec(), every, limits or TrackLimits(), late)
    for each in steps:
        scores.add(each)
    return scores.figures()


def test_a_perfect_follower_has_each_pose_and_no_error(picture):
    """Figures are of the images between those with detections, and both rows agree."""
    steps = [step(picture, i, (0.01 * i, 1.0), (-0.3, 1.0)) for i in range(7)]
    figures = scored(Follower(), steps, every=3)
    assert figures['images'] == 4 and figures['visible'] == figures['compared'] == 8
    for row in figures['rows'].values():
        assert row['poses_per_image'] == 2.0 and row['covered'] == 1.0 and row['wrong'] == 0
        assert row['rotation_deg_p90'] == pytest.approx(0.0, abs=1e-5)
        assert row['position_percent_p90'] == pytest.approx(0.0, abs=1e-9)
    assert figures['losses'] == {} and figures['id_switches'] == figures['poses_of_hidden'] == 0


def test_errors_of_followed_poses_are_measured_beside_those_of_estimates(picture):
    """Poses 8 mm too far at 0.8 m are 1 % of the distance and 8 % of the diameter off."""
    def too_far(image_id, truths, T_start):
        T = truths[0].T_camera_object.copy()
        T[2, 3] += 0.008
        return T, 0.8

    rows = scored(Follower(too_far), [step(picture, i, (0.0, 1.0)) for i in range(5)])['rows']
    assert rows[FOLLOWED]['depth_percent_median'] == pytest.approx(1.0)
    assert rows[FOLLOWED]['position_percent_p90'] == pytest.approx(8.0)
    assert rows[PER_IMAGE]['depth_percent_median'] == pytest.approx(0.0)


def test_late_detections_begin_what_is_followed_from_then_on(picture):
    """A moving object has no pose until its first detection has come, and then one an image."""
    steps = [step(picture, i, (0.01 * i, 1.0)) for i in range(10)]
    figures = scored(Follower(), steps, every=6, late=3)
    # images 0 and 6 have detections; that of image 0 comes after image 3 was looked at
    assert figures['late'] == 3 and figures['images'] == 8
    row = figures['rows'][FOLLOWED]
    assert row['poses_per_image'] == pytest.approx(5 / 8)
    assert row['position_percent_p90'] == pytest.approx(0.0, abs=1e-9)
    assert figures['losses'] == {} and figures['id_switches'] == 0


@pytest.mark.parametrize(('seen', 'kind'), [(0.0, 'right'), (1.0, 'needless')])
def test_the_loss_of_a_hidden_object_is_right_and_of_a_visible_one_needless(picture, seen, kind):
    """Answers score badly from image 3 on, and the instance is given up 0.15 s later."""
    steps = [step(picture, i, (0.0, 1.0 if i < 3 else seen)) for i in range(10)]
    figures = scored(Follower(lambda image_id, truths, T: (T, 0.8 if image_id < 3 else 0.05)),
                     steps)
    other = {'right': 'needless', 'needless': 'right'}[kind]
    assert figures['losses'] == {'score': {kind: 1, other: 0}}
    assert figures['rows'][FOLLOWED]['poses'] == 2


class SecondIsPoor(Follower):
    """Answers the detection of image 3 poorly and wrongly."""

    def estimate(self, image_rgb, camera, detections, depth_m=None, most=None):
        result = super().estimate(image_rgb, camera, detections, depth_m)
        if self.frame.image_id != 3:
            return result
        T = make_transform(np.eye(3), [0.0, 0.0, 1.1])
        return dataclasses.replace(result, poses=[
            dataclasses.replace(p, T_camera_object=T, score=0.05) for p in result.poses])


def test_a_poor_answer_to_a_detection_makes_no_loss_right(picture):
    """It changes nothing that is followed, so the loss of the visible object stays needless."""
    follower = SecondIsPoor(lambda image_id, truths, T: (T, 0.8 if image_id < 3 else 0.05))
    steps = [step(picture, i, (0.0, 1.0)) for i in range(6)]
    wide = [dataclasses.replace(s, frame=dataclasses.replace(s.frame, ground_truth=tuple(
        dataclasses.replace(g, box_visib_xyxy=np.array([2.0, 2, 28, 22]))
        for g in s.frame.ground_truth))) for s in steps]
    figures = scored(follower, wide, every=3, limits=TrackLimits(min_presence=0.2, lost_s=0.05))
    assert figures['losses'] == {'score': {'right': 0, 'needless': 1}}


def test_poses_that_are_kept_far_from_the_object_are_counted(picture):
    """A pose that creeps away is wrong from half a diameter on, and its loss is right then."""
    def creeps(image_id, truths, T_start):
        T = truths[0].T_camera_object.copy()
        T[1, 3] += 0.011 * image_id
        return T, 0.8 if image_id <= 8 else 0.05

    figures = scored(Follower(creeps), [step(picture, i, (0.0, 1.0)) for i in range(15)])
    assert figures['rows'][FOLLOWED]['poses'] == 8
    assert figures['rows'][FOLLOWED]['wrong'] == 4  # of images 5 to 8
    assert figures['losses'] == {'score': {'right': 1, 'needless': 0}}


def test_a_number_that_goes_over_to_another_object_is_one_switch(picture):
    """Two cans pass one another; after that the follower goes with the other one."""
    steps = [step(picture, i, (0.01 * (i - 5), 1.0), (-0.01 * (i - 5), 1.0 if i else 0.2))
             for i in range(16)]
    figures = scored(Follower(lambda i, truths, T: (truths[i > 5].T_camera_object, 0.8)), steps)
    assert figures['id_switches'] == 1
    assert figures['rows'][FOLLOWED]['covered'] == pytest.approx(0.5)


@pytest.mark.parametrize(('good', 'back', 'expected'), [
    ((), 99, {'vanished': 1, 'in_time': 1, 'never': 0, 'median_s': 4 / HZ, 'poses': 0}),
    ((3, 4), 99, {'in_time': 1, 'worst_s': 6 / HZ, 'poses': 2, 'poses_after_withdrawal': 0}),
    ((4,), 99, {'in_time': 1, 'worst_s': 6 / HZ, 'poses': 1, 'poses_after_withdrawal': 1}),
    ((3, 4, 5), 99, {'in_time': 0, 'worst_s': 7 / HZ, 'in_time_share': 0.0, 'never': 0}),
    (range(20), 99, {'vanished': 1, 'in_time': 0, 'never': 1, 'worst_s': None, 'poses': 11}),
    (range(20), 12, {'vanished': 1, 'never': 1, 'poses': 9}),
    ((), 5, {'vanished': 0, 'in_time_share': None, 'visible_given_up': 0})])
def test_it_is_measured_how_soon_what_vanished_is_given_up(picture, good, back, expected):
    """The can is not there from image 3 until one; the follower finds it in some of these."""
    steps = [step(picture, i, (0.0, 1.0 if i < 3 or i >= back else 0.0), (0.4, 1.0))
             for i in range(14)]

    def answer(image_id, truths, T):
        found = T[0, 3] > 0.2 or image_id < 3 or image_id in good or image_id >= back
        return T, 0.8 if found else 0.05

    figures = scored(Follower(answer), steps)['withdrawals']
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_a_pose_of_a_hidden_object_is_counted(picture):
    """The follower goes on although nothing is to be seen."""
    steps = [step(picture, i, (0.0, 1.0 if i < 3 else 0.05)) for i in range(6)]
    assert scored(Follower(), steps)['poses_of_hidden'] == 3


def test_detections_in_every_image_leave_nothing_to_follow():
    """The message says what is possible."""
    with pytest.raises(SpecError, match='give --every 2 or more, got 1'):
        SequenceScores(Follower(), BoxSpec(), 1)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a rendered sequence of six images."""
    root = tmp_path_factory.mktemp('sequences')
    synth_folder.write_dataset(root, images=6, objects=2, rate_hz=HZ)
    (root / 'model').mkdir()
    (root / 'model' / 'model.json').write_text('{}')
    return root


def evaluate(root: Path, monkeypatch, follower: Follower, *extra: str):
    """Run the real command with a follower in place of a trained model."""
    follower.frames = list(BopDataset(root, 'made', empty=True).frames)
    monkeypatch.setattr(evaluate_sequence, 'load_estimator', lambda args: follower)
    file = root / 'out.json'
    file.unlink(missing_ok=True)
    code = mrcnet.main(['evaluate', 'sequence', '--bop-dir', str(root), '--dataset', 'made',
                        '--model', str(root / 'model'), '--json', str(file), *extra])
    return code, json.loads(file.read_text()) if file.exists() else {}


def follower_of(root: Path, follow_at=None) -> Follower:
    items = load_bop_objects(root / 'made' / 'models', synth_folder.MESHES).values()
    return Follower(follow_at, {item.label: item for item in items})


def test_the_command_measures_a_rendered_sequence(root, monkeypatch, capsys):
    """The moving camera and the times of the dataset reach the tracker; table and file agree."""
    code, figures = evaluate(root, monkeypatch, follower_of(root), '--every', '3')
    assert code == 0 and figures['complete'] and figures['images'] == 4
    assert figures['followed_by'] == 'stage 2'
    assert figures['rows'][FOLLOWED]['covered'] == 1.0 and figures['compared'] > 0
    assert figures['rows'][FOLLOWED]['position_percent_p90'] == pytest.approx(0.0, abs=1e-6)
    assert figures['command'].startswith('mrcnet evaluate sequence')
    assert figures['boxes'] == {'kind': 'visib', 'jitter': 0.0, 'seed': 0}
    printed = capsys.readouterr().out
    assert FOLLOWED in printed and PER_IMAGE in printed and 'lost: none' in printed
    assert 'vanished: no followed object' in printed


def test_images_without_anything_visible_are_steps_too(root, tmp_path, monkeypatch):
    """A pose of what they do not show counts, and time does not jump."""
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    info = next(tmp_path.glob('made/test/*/scene_gt_info.json'))
    values = json.loads(info.read_text())
    for entry in (e for key in list(values)[2:] for e in values[key]):
        entry.update(visib_fract=0.0, bbox_visib=[-1] * 4)
    info.write_text(json.dumps(values))
    (tmp_path / 'made' / 'test_targets_bop19.json').unlink()
    code, figures = evaluate(tmp_path, monkeypatch, follower_of(tmp_path), '--every', '3')
    assert code == 0 and figures['images'] == 4 and figures['poses_of_hidden'] == 3 * 2


def test_after_an_error_the_figures_of_the_images_done_are_kept(root, monkeypatch, capsys):
    """The file says that it is not complete."""
    follower = follower_of(root)
    follower.fails_at = BopDataset(root, 'made').frames[4].image_id
    code, figures = evaluate(root, monkeypatch, follower)
    assert code == 2 and 'image went bad' in capsys.readouterr().err
    assert figures['complete'] is False and figures['images'] == 3


def test_images_that_are_no_sequence_are_refused(root):
    """Missing or falling times and changed lists of instances are told with file and image."""
    frames = BopDataset(root, 'made').frames
    found = steps_in_time(frames)
    assert [s.time_s for s in found] == pytest.approx([f.image_id / HZ for f in frames])
    assert not np.allclose(found[0].T_fixed_camera, found[-1].T_fixed_camera)
    with pytest.raises(DatasetError, match='not after'):
        steps_in_time(frames[::-1])
    fewer = dataclasses.replace(frames[1], ground_truth=frames[1].ground_truth[:1])
    with pytest.raises(DatasetError, match='same instances in the same order'):
        steps_in_time([frames[0], fewer])


@pytest.mark.parametrize(('change', 'told'), [
    (lambda c: c.update(timestamp=1000 * c['timestamp']), 'timestamps are in seconds'),
    (lambda c: c.update(cam_R_w2c=[-k for k in c['cam_R_w2c']]), 'cam_R_w2c is no rotation'),
    (lambda c: c.update(cam_R_w2c=[2 * k for k in c['cam_R_w2c']]), 'cam_R_w2c is no rotation')])
def test_milliseconds_and_mirrors_are_refused(root, tmp_path, change, told):
    """Nothing could be followed, or the camera would move as it never did."""
    shutil.copytree(root / 'made', tmp_path / 'made')
    path = next(tmp_path.glob('made/test/*/scene_camera.json'))
    cameras = json.loads(path.read_text())
    for camera in cameras.values():
        change(camera)
    path.write_text(json.dumps(cameras))
    with pytest.raises(DatasetError, match=told):
        steps_in_time(BopDataset(tmp_path, 'made').frames)


def test_a_dataset_without_times_is_refused_with_advice(root, tmp_path):
    """Views of a scene that are no steps in time name the way to make some."""
    shutil.copytree(root / 'made', tmp_path / 'made')
    path = next(tmp_path.glob('made/test/*/scene_camera.json'))
    cameras = json.loads(path.read_text())
    for camera in cameras.values():
        del camera['timestamp']
    path.write_text(json.dumps(cameras))
    with pytest.raises(DatasetError, match=r'no timestamp; .*mrcnet synth --sequence'):
        steps_in_time(BopDataset(tmp_path, 'made').frames)
