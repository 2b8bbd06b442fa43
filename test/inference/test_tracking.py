"""Tracking: instances between detections, in a world that is known to the digit."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from tracked_world import CAMERA, HZ, IMAGE, LIMITS, SURE, World, at, begun, cans, moving

from mrcnet_ros.geometry.se3 import (
    displaced,
    exp_so3,
    make_transform,
    moved_covariance,
    rotation_angle,
)
from mrcnet_ros.inference.followed import TrackLimits, View
from mrcnet_ros.inference.motion import Motion
from mrcnet_ros.inference.poses import FrameResult, PoseEstimate
from mrcnet_ros.inference.scoring import Evidence
from mrcnet_ros.inference.tracking import Tracker
from mrcnet_ros.inference.uncertainty import PoseSpread


def test_an_instance_is_followed_through_images_without_detections():
    """One detection is enough for seconds; each image has one pose, of the same instance."""
    world = World(('can', moving))
    tracker = Tracker(world)
    (number,), _ = tracker.observe(world.view(0), world.estimates(ids=['7']), LIMITS)
    for step in range(1, 61):
        found = tracker.follow(world.view(step), LIMITS)
        assert found.tracks == [number] and found.lost == []
        np.testing.assert_allclose(found.poses[0].T_camera_object, moving(step / HZ), atol=1e-9)
        assert found.poses[0].detection_id == '7'


def test_the_next_pose_is_expected_where_steady_motion_leads():
    """After a second the start is within a millimetre of a thing on a conveyor."""
    world = World(('can', moving))
    tracker = begun(world, steps=30)
    starts = []
    world.follow = lambda image, camera, known, *_: (
        starts.append(known[0].T_camera_object), FrameResult([], []))[1]
    tracker.follow(world.view(31), LIMITS)
    truth = moving(31 / HZ)
    assert np.linalg.norm(starts[0][:3, 3] - truth[:3, 3]) < 1e-3
    assert rotation_angle(starts[0][:3, :3].T @ truth[:3, :3]) < np.radians(1.0)


def test_the_motion_of_the_camera_is_taken_off():
    """A thing that rests is found through a sudden turn of the camera only where that is known."""
    def camera(time_s):
        return make_transform(exp_so3([0.0, 0.1 * (time_s > 0.5), 0.0]), np.zeros(3))

    for known_camera in (True, False):
        world = World(('can', lambda t: at(0.0)), camera=camera)
        tracker = Tracker(world)
        tracker.observe(world.view(0), world.estimates(), LIMITS)
        found = [tracker.follow(world.view(step, known_camera=known_camera), LIMITS).tracks
                 for step in range(1, 30)]
        assert all(found[:14]) and all(map(bool, found[15:])) == known_camera


@pytest.mark.parametrize('rate_hz', [30.0, 5.0])
def test_a_lost_object_is_withdrawn_in_time(rate_hz):
    """No pose in any image after it vanished, and within 0.2 s or one image it is told once."""
    world = World(('can', lambda t: at(0.0) if t < 1.0 else None))
    tracker = begun(world)
    lost_s = []
    for step in np.arange(1, 60) * HZ / rate_hz:
        found = tracker.follow(world.view(step), LIMITS)
        assert bool(found.tracks) == (world.time_s < 1.0)
        lost_s += [world.time_s] * len(found.lost)
        assert {lost.reason for lost in found.lost} <= {'score'}
        if world.time_s > 3.0:
            break
    assert len(lost_s) == 1 and lost_s[0] - 1.0 < 0.2 + 1e-6 and len(tracker) == 0


def test_a_short_occlusion_does_not_lose_an_instance():
    """Hidden for a tenth of a second it has no pose, then it is the same instance again."""
    world = World(('can', lambda t: moving(t) if not 0.5 < t < 0.6 else None))
    tracker = begun(world, steps=15)
    found = [tracker.follow(world.view(step), LIMITS) for step in range(16, 25)]
    assert not found[0].tracks and found[-1].tracks == [1]
    assert not any(f.lost for f in found)


def test_a_detection_of_an_earlier_image_is_caught_up_with():
    """What a slow detector found is looked for in the images since, then in the newest one."""
    world = World(('can', moving))
    tracker = Tracker(world)
    for step in (3, 6, 9):
        assert not tracker.behind(world.view(step).time_s)
    tracker.observe(world.view(0), world.estimates(0.0), LIMITS)
    for step in range(1, 10):
        assert tracker.behind(step / HZ)
        found = tracker.follow(world.view(step), LIMITS)
    np.testing.assert_allclose(found.poses[0].T_camera_object, moving(9 / HZ), atol=1e-9)


def test_a_late_detection_of_a_followed_instance_changes_no_number():
    """It is recognised where the instance was then, however far it has gone since."""
    world = World(('can', moving))
    tracker = begun(world, steps=30)
    numbers, _ = tracker.observe(View(IMAGE, CAMERA, 10 / HZ), world.estimates(10 / HZ), LIMITS)
    assert numbers == [1] and len(tracker) == 1
    assert tracker.follow(world.view(31), LIMITS).tracks == [1]


class Lazy(World):
    """A world whose following mends nothing: the answer is where it starts."""

    def follow(self, image, camera, starts, depth_m=None, support_plane=None):
        return FrameResult([PoseEstimate(
            s.label, 1, s.T_camera_object, 0.8, i, s.detection_id, np.zeros(4), covariance=SURE)
            for i, s in enumerate(starts)], [])


@pytest.mark.parametrize('late', [-1, 0, 3])
def test_detections_correct_what_is_followed_however_late_they_are(late):
    """An instance that is a little off comes to where it is detected, image by image.

    The detections are of the next image, of the one that was followed last, or of an earlier one.
    """
    world = Lazy(('can', lambda _: at(0.0)))
    tracker = Tracker(world)
    off = dataclasses.replace(world.estimates(0.0)[0], score=0.5,
                              T_camera_object=at(0.015, turn=np.radians(20)))
    tracker.observe(world.view(0), [off], LIMITS)
    for step in range(1, 30):
        tracker.follow(world.view(step), LIMITS)
        if step > 10:
            assert tracker.observe(world.view(step - late), world.estimates(), LIMITS) == ([1], [])
    (pose,) = tracker.follow(world.view(31), LIMITS).poses
    assert np.linalg.norm(pose.T_camera_object[:3, 3] - at(0.0)[:3, 3]) < 0.001
    assert rotation_angle(pose.T_camera_object[:3, :3]) < np.radians(1.0)


def noisy(pose, rng):
    """Return an answer that is a little off: 1.5 mm and one degree."""
    return dataclasses.replace(pose, T_camera_object=displaced(
        pose.T_camera_object, rng.normal(0.0, [0.0015] * 3 + [0.02] * 3)))


class Noisy(World):
    """A world whose answers are a little off."""

    def __init__(self, *ways):
        """Begin with the same errors each time."""
        super().__init__(*ways)
        self.rng = np.random.default_rng(0)

    def follow(self, *args, **known):
        return FrameResult([noisy(p, self.rng) for p in super().follow(*args, **known).poses], [])


def test_late_detections_of_images_that_were_left_out_do_not_shake_what_is_followed():
    """A busy node follows every other image, and a detector of all of them is three behind."""
    world, errors_m, lost = Noisy(('can', lambda _: at(0.0))), [], []
    chance, tracker = np.random.default_rng(9), begun(world)
    for step in range(1, 300):
        if chance.random() < 0.5:
            lost += tracker.follow(world.view(step), LIMITS).lost
            start = world.starts[0].T_camera_object
            errors_m.append(np.linalg.norm(start[:3, 3] - at(0.0)[:3, 3]))
        if step > 3:
            seen = [noisy(pose, world.rng) for pose in world.estimates()]
            tracker.observe(world.view(step - 3), seen, LIMITS)
    assert not lost and np.quantile(errors_m, 0.95) < 0.025


def test_what_no_detector_sees_is_given_up():
    """A few frames of detections without it end an instance, however well it scores."""
    world = World(('can', lambda t: at(0.0)))
    tracker = begun(world)
    lost = []
    for step in range(1, 6):
        lost += tracker.observe(world.view(step), [], LIMITS)[1]
        tracker.follow(world.view(step), LIMITS)
        assert len(lost) == (step >= LIMITS.unseen)
    assert lost[0].reason == 'unseen' and len(tracker) == 0
    tracker = begun(world)
    for step in range(1, 20):
        assert not tracker.observe(world.view(step), [], TrackLimits(unseen=0))[1]


def test_the_only_instance_that_may_be_followed_is_the_one_detected_last():
    """An object that is there once was moved, and there is room for no other one."""
    world, limits = World(('can', lambda t: at(0.0))), TrackLimits(most=1, instances=1)
    tracker = Tracker(world)
    tracker.observe(world.view(0), cans((0.0, 0.8)), limits)
    (new,), lost = tracker.observe(world.view(1), cans((0.4, 0.8)), limits)
    assert list(tracker) == [new] and [loss.reason for loss in lost] == ['contested']
    assert tracker.observe(world.view(2), cans((-0.4, 0.8)), TrackLimits(most=1)) == ([None], [])
    assert list(tracker) == [new], 'any number of cans, so that it is another one'


def test_a_limit_that_is_lowered_holds_in_the_next_image():
    """Those that were detected last stay, and of these the best."""
    world = World(('can', lambda t: at(0.0)))
    tracker = Tracker(world)
    tracker.observe(world.view(0), cans((0.0, 0.9)), LIMITS)
    (good, best), _ = tracker.observe(world.view(1), cans((0.4, 0.7), (0.6, 0.8)), LIMITS)
    for step, most, kept in ((2, 2, [best, good]), (3, 1, [best])):
        lost = tracker.follow(world.view(step), TrackLimits(
            most=most, lost_s=9.0, min_presence=0.9)).lost
        assert [loss.reason for loss in lost] == ['contested'] and list(tracker) == kept


def test_a_poor_answer_to_a_detection_is_not_followed():
    """Nor does it count as a sighting of an instance."""
    world = World(('can', lambda t: at(0.0)))
    tracker = Tracker(world)
    assert tracker.observe(world.view(0), world.estimates(score=0.1), LIMITS)[0] == [None]
    assert len(tracker) == 0


def test_a_poor_answer_has_the_number_of_the_instance_in_its_box_and_changes_nothing():
    """A second poor box at the same place is not of that instance, nor is one elsewhere."""
    world = World(('can', lambda t: at(0.0)), ('box', lambda t: at(0.05)))
    tracker = begun(world, steps=3)
    before = {n: t.motion for n, t in tracker._tracks.items()}
    good, poor = world.estimates()[1], dataclasses.replace(
        world.estimates(score=0.1)[0], T_camera_object=at(0.02, z=1.5))
    around = np.array([10.0, 6.0, 25.0, 20.0])
    beside = np.array([25.0, 6.0, 31.0, 20.0])
    numbers, _ = tracker.observe(world.view(4), [
        dataclasses.replace(poor, box_xyxy=box) for box in (beside, around, around)] + [
        dataclasses.replace(poor, label='box', box_xyxy=around), good], LIMITS)
    assert numbers == [None, 1, None, None, 2]
    assert tracker._tracks[1].motion is before[1] and tracker._tracks[1].unseen == 1


def test_a_poor_answer_to_what_is_given_up_has_no_number():
    """The box still covers its place, but nothing is followed there any more."""
    world = World(('can', lambda t: at(0.0)))
    tracker = begun(world, steps=3)
    poor = dataclasses.replace(world.estimates(score=0.1)[0],
                               box_xyxy=np.array([10.0, 6.0, 25.0, 20.0]))
    for step in range(4, 30):
        (number,), lost = tracker.observe(world.view(step), [poor], LIMITS)
        assert number == (None if lost else 1)
        if lost:
            break
        tracker.follow(world.view(step), LIMITS)
    assert [loss.track for loss in lost] == [1] and len(tracker) == 0


def test_where_the_origin_of_a_mesh_is_does_not_matter():
    """Covariances are of the origin; a far one is far less sure, and the object is no less."""
    tracks = []
    for middle in (np.zeros(3), np.array([0.4, 0.0, 0.3])):
        world = World(('can', moving))
        world.objects = {'can': dataclasses.replace(world.objects['can'], middle_m=middle)}
        tracker = Tracker(world)
        for step in range(5):
            poses = []
            for pose in world.estimates(step / HZ):
                T = world.objects['can'].from_centred(pose.T_camera_object)
                shift_m = T[:3, 3] - pose.T_camera_object[:3, 3]
                poses.append(dataclasses.replace(
                    pose, T_camera_object=T,
                    covariance=moved_covariance(pose.covariance, shift_m)))
            tracker.observe(world.view(step), poses, LIMITS)
        tracks.append(next(iter(tracker._tracks.values())).motion)
    near, far = tracks
    np.testing.assert_allclose(far.T_fixed_object, near.T_fixed_object, atol=1e-9)
    np.testing.assert_allclose(far.position.P, near.position.P, atol=1e-12)


@pytest.mark.parametrize('score, turn_deg, counts', [
    (0.26, 0.0, True), (0.22, 0.0, False), (0.6, 3.0, True), (0.6, 15.0, False)])
@pytest.mark.parametrize('detected', [0.8, 0.3])
def test_an_answer_that_is_poor_or_turned_for_its_score_does_not_count(
        score, turn_deg, counts, detected):
    """Where an object is gone, the pose is turned anew in each image; it is lost within 0.2 s.

    Answers of 0.8 came before, whatever the detection had.
    """
    world = World(('can', lambda t: at(0.0)))
    tracker = begun(world, steps=3, score=detected)
    answer, turns = world.follow, itertools.cycle((turn_deg, -turn_deg))

    def poorer(*args):
        turn = make_transform(exp_so3([0.0, np.radians(next(turns)), 0.0]), np.zeros(3))
        result = answer(*args)
        return dataclasses.replace(result, poses=[
            dataclasses.replace(pose, score=score, T_camera_object=pose.T_camera_object @ turn)
            for pose in result.poses])

    world.follow = poorer
    found = [tracker.follow(world.view(step), LIMITS) for step in range(4, 10)]
    assert all(bool(f.tracks) == counts for f in found)
    assert [lost.reason for f in found for lost in f.lost] == ([] if counts else ['score'])


def test_a_better_answer_elsewhere_moves_an_instance_and_a_worse_one_does_not():
    """Where detection and expectation differ the score decides."""
    for score, x in ((0.9, 0.05), (0.5, 0.0)):
        world = World(('can', lambda t: at(0.0)))
        tracker = begun(world, steps=3)
        other = [dataclasses.replace(e, T_camera_object=at(0.05), score=score)
                 for e in world.estimates()]
        numbers, _ = tracker.observe(world.view(4), other, LIMITS)
        assert numbers == [1]
        history = next(iter(tracker._tracks.values())).motion
        assert history.T_fixed_object[0, 3] == pytest.approx(x, abs=5e-3)


class Far(World):
    """A world whose poses have low scores because everything is far away."""

    def estimates(self, *args, **options):
        return [dataclasses.replace(e, score=0.05, usual_score=e.score)
                for e in super().estimates(*args, **options)]

    def follow(self, image, camera, starts, depth_m=None, support_plane=None):
        result = super().follow(image, camera, starts, depth_m, support_plane)
        return dataclasses.replace(result, poses=[
            dataclasses.replace(p, score=0.1 * p.score, usual_score=p.score)
            for p in result.poses])


def test_a_far_object_is_followed_although_its_place_is_uncertain():
    """Whether it is there counts; a limit of the score itself is kept to all the same."""
    world = Far(('can', lambda t: at(0.0) if t < 1.0 else None))
    tracker = begun(world)
    for step in range(1, 40):
        found = tracker.follow(world.view(step), LIMITS)
        assert bool(found.tracks) == (world.time_s < 1.0)
    assert len(tracker) == 0
    strict = dataclasses.replace(LIMITS, min_score=0.3)
    assert Tracker(world).observe(world.view(0), world.estimates(0.0), strict)[0] == [None]


def test_a_doubtful_detection_stays_doubtful_while_it_is_followed():
    """A start hands on what a detection has left open, until the next one says it anew."""
    world = World(('can', lambda t: at(0.0)))
    tracker = Tracker(world)
    for step, share in ((0, 0.4), (3, 0.7)):
        left_open = PoseSpread(np.eye(3), share * np.eye(2), share, share * np.eye(3), 0.5)
        doubtful = [dataclasses.replace(e, evidence=Evidence(0.5, share=share), spread=left_open)
                    for e in world.estimates()]
        tracker.observe(world.view(step), doubtful, LIMITS)
        tracker.follow(world.view(step + 1), LIMITS)
        assert [(start.share, start.spread) for start in world.starts] == [(share, left_open)]


def test_a_steady_motion_is_learned_from_noisy_poses():
    """The filter's speed is right, and it expects the next pose better than the last one does."""
    rng = np.random.default_rng(1)
    C = np.diag([1e-6] * 2 + [25e-6] + [1e-4] * 3)
    motion, errors = None, []
    for step in range(90):
        T = moving(step / HZ)
        noise = rng.multivariate_normal(np.zeros(6), C)
        seen = make_transform(exp_so3(noise[3:]) @ T[:3, :3], T[:3, 3] + noise[:3])
        if motion is None:
            motion = Motion.begin(0.0, seen, C)
            continue
        expected = motion.ahead(step / HZ)
        if step > 30:
            errors.append([np.linalg.norm(expected.T_fixed_object[:3, 3] - T[:3, 3]),
                           np.linalg.norm(motion.T_fixed_object[:3, 3] - T[:3, 3])])
        motion = expected.corrected(seen, C)
    assert motion.position.speed == pytest.approx([0.5, 0.0, 0.0], abs=0.08)
    expected_m, last_m = np.median(errors, axis=0)
    assert expected_m < 0.5 * last_m
