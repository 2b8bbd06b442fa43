"""Following in the node: images without detections, late detections, what is published."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

import dataclasses

from rclpy.qos import QoSProfile
from ros_client import node_fixture, values
from ros_frames import framed, moment
from stand_in_node import DIAMETERS_M, SURE, BoxEstimator

from mrcnet_ros.errors import SpecError
from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.estimator_loading import check_can_follow
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frame_queue import FrameQueue
from mrcnet_ros.ros.frames import FrameError
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.statuses import Account, pose_status
from mrcnet_ros.ros.timings import Timings
from mrcnet_ros.ros.tracks import InstanceNumbers
from mrcnet_ros.ros.worker import FrameServices, Worker

TRACK = NodeParameters(track=True)
NEVER = (0, 0)


@pytest.fixture
def handler():
    """Return a handler that follows what it is told to, and its counters."""
    counters, estimator = DropCounters(lambda *_: None), BoxEstimator()
    made = FrameHandler(estimator, dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))), counters,
                        compressed=False)
    return SimpleNamespace(made=made, answer=made.answer_if_wanted, drop_counters=counters,
                           estimator=estimator)


def test_an_instance_is_published_in_every_image_until_it_is_lost(handler):
    """It keeps its name and the detector's id, and the loss is told."""
    assert handler.answer(framed(0), TRACK, NEVER) is None
    first = handler.answer(framed(1, ('duck', 20, 20, 20, 0.9, '17')), TRACK, NEVER)
    assert first.scene.names == ['duck'] and first.detected == 1
    for step in (2, 3, 4):
        answer = handler.answer(framed(step), TRACK, NEVER)
        (found,) = answer.detections.detections
        assert answer.scene.names == ['duck'] and found.id == '17' and answer.detected == 0
        assert answer.header.stamp.nanosec == 50_000_000 * step
        assert [t.child_frame_id for t in answer.transforms] == ['duck']
    soon = dataclasses.replace(TRACK, track_lost_s=0.12)
    for step in (5, 6, 7):
        answer = handler.answer(framed(step, white=True), soon, NEVER)
        assert answer.detections.detections == [] and answer.transforms == []
    assert handler.answer(framed(8), soon, NEVER) is None
    counts = handler.drop_counters.counts()
    assert (counts['followed'], counts['lost'], counts['lost score']) == (3, 1, 1)
    status = pose_status(Account(1.0, {}, counts, {}, {}, following=0), TRACK, None)
    assert status.values['lost score'] == '1' and status.values['poses followed'] == '3'


def test_instances_that_are_not_detected_are_followed_beside_those_that_are(handler):
    """A frame with detections has the poses of both, the detected ones first."""
    handler.answer(framed(1, ('duck', 20), ('can', 40)), TRACK, NEVER)
    answer = handler.answer(framed(2, ('can', 40)), TRACK, NEVER)
    assert answer.scene.names == ['can', 'duck'] and answer.detected == 1
    assert len(answer.poses) == len(answer.detections.detections) == 2


def answer_poorly(handler):
    """Let all answers to detections have a low score from now on."""
    estimate = handler.estimator.estimate
    handler.estimator.estimate = lambda *args, **known: dataclasses.replace(
        found := estimate(*args, **known),
        poses=[dataclasses.replace(p, score=0.1) for p in found.poses])


def test_a_poor_answer_to_a_detection_makes_no_second_instance(handler):
    """The followed pose of the same object is published alone, under its name."""
    handler.answer(framed(1, ('can', 40)), TRACK, NEVER)
    answer_poorly(handler)
    answer = handler.answer(framed(2, ('can', 40)), TRACK, NEVER)
    assert answer.scene.names == ['can'] and answer.detected == 0
    lost = handler.answer(framed(3, ('can', 40), white=True), TRACK, NEVER)
    assert lost.scene.names == ['can'] and lost.detected == 1


@pytest.mark.parametrize('late', [False, True])
def test_an_object_that_is_there_once_is_published_once(handler, late):
    """Also where it was detected elsewhere, in this image or in an earlier one."""
    single = dataclasses.replace(TRACK, max_instances=1)
    handler.answer(framed(1, ('can', 40), ('duck', 10)), single, NEVER)
    moved = framed(5, ('can', 10))
    for step in range(2, 12):
        last = framed(step - 1).moment
        if step == 8 and late:
            handler.answer(moved, single, last)  # corrects what is followed, and is not published
        answer = handler.answer(moved if step == 5 and not late else framed(step), single, last)
        assert sorted(answer.scene.names) == ['can', 'duck']
        place = answer.poses[answer.scene.names.index('can')].pose.position
        assert (place.x < 0.0) == (step >= (8 if late else 5))
    assert handler.drop_counters.counts()['lost contested'] == 1


def test_a_poor_answer_to_a_detection_elsewhere_is_no_second_instance(handler):
    """Where an object is there once, the followed pose counts; else both are published."""
    handler.answer(framed(1, ('can', 40)), TRACK, NEVER)
    answer_poorly(handler)
    for most, names in ((1, ['can']), (2, ['can_2', 'can'])):
        answer = handler.answer(framed(1 + most, ('can', 10)), dataclasses.replace(
            TRACK, max_instances=most), NEVER)
        assert answer.scene.names == names and answer.detected == most - 1


def test_detections_that_come_after_the_answer_to_their_image_take_no_pose_away(handler):
    """The image is answered once more, with what is followed in it and what was detected."""
    handler.answer(framed(1, ('brick', 40)), TRACK, NEVER)
    first = handler.answer(framed(2), TRACK, framed(1).moment)
    again = handler.answer(framed(2, ('duck', 20)), TRACK, framed(2).moment)
    assert again.scene.names == ['duck', 'brick'] and again.detected == 1
    assert [[t.child_frame_id for t in a.transforms] for a in (first, again)] == [
        ['brick'], ['duck']]  # /tf takes no second transform of a frame and stamp
    np.testing.assert_array_equal(again.measured[1].T_camera_object,
                                  first.measured[0].T_camera_object)
    both = handler.answer(framed(2, ('duck', 20), ('brick', 40)), TRACK, framed(2).moment)
    assert both.scene.names == ['duck', 'brick'] and both.detected == 2
    assert handler.answer(framed(3), TRACK, framed(2).moment).scene.names == ['brick', 'duck']


def test_detections_of_an_earlier_image_begin_an_instance_that_is_then_followed(handler):
    """A slow detector's object is published with the next image."""
    handler.answer(framed(1, ('can', 40)), TRACK, NEVER)
    for step in range(2, 8):
        assert handler.answer(framed(step), TRACK, NEVER).scene.names == ['can']
    late = handler.answer(framed(3, ('duck', 20), ('can', 40)), TRACK, framed(7).moment)
    assert late.scene.names == ['duck', 'can'] and late.detected == 2
    answer = handler.answer(framed(8), TRACK, framed(7).moment)
    assert sorted(answer.scene.names) == ['can', 'duck']


def test_detections_of_an_earlier_image_that_lack_an_instance_do_not_take_its_name(handler):
    """What the late answer is called is what the next image calls it."""
    handler.answer(framed(1, ('can', 10)), TRACK, NEVER)
    for step in range(2, 8):
        handler.answer(framed(step), TRACK, NEVER)
    late = handler.answer(framed(3, ('can', 50)), TRACK, framed(7).moment)
    assert late.scene.names == ['can_2']
    both = handler.answer(framed(8), TRACK, framed(7).moment)
    assert dict(zip(both.scene.names, (p.pose.position.x > 0 for p in both.poses),
                    strict=True)) == {'can': False, 'can_2': True}


def test_detections_that_come_later_than_the_gap_of_tracks_exchange_no_names(handler):
    """Instances that are not followed keep theirs, and the late frame is named as they are."""
    answer_poorly(handler)
    left, right = ('can', 10), ('can', 50)
    assert handler.answer(framed(40, left, right), TRACK, NEVER).scene.names == ['can', 'can_2']
    late = handler.answer(framed(12, right), TRACK, framed(40).moment)
    assert late.scene.names == ['can_2'] and late.transforms == []
    newest = handler.answer(framed(41, right, left), TRACK, framed(40).moment)
    assert newest.scene.names == ['can_2', 'can']


def test_late_detections_between_two_answers_of_an_image_send_no_transform_twice(handler):
    """What /tf has of an image is known as long as it may be answered again."""
    handler.answer(framed(1, ('brick', 40)), TRACK, NEVER)
    for step in range(2, 6):
        first = handler.answer(framed(step), TRACK, framed(step - 1).moment)
    handler.answer(framed(3, ('brick', 40)), TRACK, framed(5).moment)
    again = handler.answer(framed(5, ('duck', 20)), TRACK, framed(5).moment)
    assert [[t.child_frame_id for t in a.transforms] for a in (first, again)] == [
        ['brick'], ['duck']]


def test_time_that_begins_anew_ends_what_was_followed(handler):
    """A bag that starts again is another world."""
    handler.answer(framed(5, ('duck', 20)), TRACK, NEVER)
    assert handler.answer(framed(6), TRACK, NEVER) is not None
    again = [dataclasses.replace(framed(step), era=1) for step in (1, 2)]
    empty = handler.answer(again[0], TRACK, framed(6).moment)
    assert empty.detections.detections == [] and empty.header == again[0].image.header
    assert handler.drop_counters.followed_now == 0
    assert handler.answer(again[1], TRACK, again[0].moment) is None


def test_an_instance_that_is_given_up_between_two_images_is_taken_back(handler):
    """By late detections that lack it: the next image is answered with nothing."""
    handler.answer(framed(1, ('duck', 20)), TRACK, NEVER)
    for step in range(2, 7):
        assert handler.answer(framed(step), TRACK, NEVER).scene.names == ['duck']
    once = dataclasses.replace(TRACK, track_unseen=1)
    handler.answer(dataclasses.replace(framed(3), detections=moment(3)[2]), once,
                   framed(6).moment)
    assert handler.drop_counters.counts()['lost unseen'] == 1
    answers = [handler.answer(framed(step), TRACK, framed(step - 1).moment) for step in (7, 8)]
    assert answers[0].detections.detections == [] and answers[1] is None


@pytest.mark.parametrize('bad', [False, True])
def test_after_a_gap_nothing_is_followed(handler, bad):
    """Whether no images came or none could be read: what was followed may be anywhere."""
    handler.answer(framed(1, ('duck', 20)), TRACK, NEVER)
    assert handler.answer(framed(21), TRACK, NEVER).scene.names == ['duck']
    for step in range(22, 41) if bad else ():
        frame = framed(step)
        frame.image.encoding = 'none'
        with pytest.raises(FrameError):
            handler.answer(frame, TRACK, NEVER)
    empty = handler.answer(framed(42), TRACK, NEVER)
    assert empty.detections.detections == [] and handler.drop_counters.followed_now == 0
    assert handler.drop_counters.counts()['lost gap'] == 1
    assert handler.answer(framed(43), TRACK, NEVER) is None


def test_what_is_not_lost_yet_is_followed_however_short_the_gap(handler):
    """Names may be asked to start anew with each image; what is followed stays followed."""
    no_gap = dataclasses.replace(TRACK, track_gap_s=0.0)
    handler.answer(framed(1, ('duck', 20)), no_gap, NEVER)
    assert handler.answer(framed(2), no_gap, NEVER).scene.names == ['duck']


def test_a_slow_detector_may_be_slower_than_the_gap(handler):
    """Images came meanwhile, and showed nothing that was known."""
    for step in range(1, 31):
        assert handler.answer(framed(step), TRACK, NEVER) is None
    handler.answer(framed(1, ('duck', 20)), TRACK, NEVER)
    assert handler.answer(framed(31), TRACK, framed(1).moment).scene.names == ['duck']


def test_what_is_caught_up_with_is_found_in_the_newest_image(handler):
    """Also when an image before it was itself looked at after it."""
    handler.answer(framed(1, ('can', 40)), TRACK, NEVER)
    for step in range(2, 18, 2):
        handler.answer(framed(step), TRACK, framed(step - 1).moment)
    looked, follow = [], handler.estimator.follow
    handler.answer(framed(3, ('can', 40)), TRACK, framed(16).moment)
    handler.estimator.follow = lambda *args: (looked.append(len(args[2])), follow(*args))[1]
    handler.answer(framed(2, ('duck', 20)), TRACK, framed(16).moment)
    assert looked == [1, 1, 1, 1]
    handler.answer(framed(16, ('brick', 30)), TRACK, framed(16).moment)
    assert len(looked) == 4  # the duck was found in that image already


def test_what_is_not_finite_is_followed_and_published_no_more_than_detected(handler):
    """Neither a covariance nor a pose ends the answers to all images."""
    handler.answer(framed(1, ('duck', 20, 20, 20, 0.9, 'unsure'), ('can', 40)), TRACK, NEVER)
    for step in (2, 3, 4):
        answer = handler.answer(framed(step), TRACK, NEVER)
        assert answer.scene.names == ['duck', 'can']
        assert np.isfinite([p.T_camera_object for p in answer.scene.estimates]).all()
    follow = handler.estimator.follow

    def lost_depth(*args):
        found = follow(*args)
        found.poses[0].T_camera_object[2, 3] = np.nan
        return found

    handler.estimator.follow = lost_depth
    assert handler.answer(framed(5), TRACK, NEVER).scene.names == ['can']


@pytest.mark.parametrize('own', [False, True])
def test_images_are_kept_for_late_detections_only(handler, own):
    """A second of them; the node's own detector is never late."""
    from weakref import WeakSet

    detector = Mock(labels=['duck'], path='', detect=lambda *_: []) if own else None
    made, images = FrameHandler(
        handler.estimator, dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))), handler.drop_counters,
        compressed=False, detector=detector), WeakSet()
    for step in range(1, 60):
        frame = framed(step)
        images.add(frame)
        made.answer_if_wanted(frame, TRACK, NEVER)
    del frame
    gc.collect()
    assert len(images) == (0 if own else 21)


def test_the_own_detector_looks_at_its_rate_while_something_is_followed():
    """And at every image while nothing is."""
    from mrcnet_ros.ros.following import Following

    following = Following(BoxEstimator())
    assert all(following.detector_is_due(step * 50_000_000, 2.0) for step in range(3))
    following.tracker = [1]  # one instance
    due = [step for step in range(3, 33) if following.detector_is_due(step * 50_000_000, 2.0)]
    assert due == [12, 22, 32]


def test_names_follow_instances_and_not_places():
    """Two that change places keep their names while they are followed."""
    def pose(x):
        T = np.eye(4)
        T[:3, 3] = x, 0, 1
        return PoseEstimate('can', 1, T, 0.9, 0, '', np.zeros(4))

    numbers = InstanceNumbers({'can'})
    assert numbers.assign([pose(0.0), pose(0.1)], {}, {'can': 1.0}, ['a', 'b']) == [1, 2]
    places = {('can', 1): np.array([0.0, 0, 1]), ('can', 2): np.array([0.1, 0, 1])}
    assert numbers.assign([pose(0.1), pose(0.0)], places, {'can': 1.0}, ['a', 'b']) == [1, 2]
    assert numbers.assign([pose(0.1), pose(0.0)], places, {'can': 1.0}) == [2, 1]


def test_a_model_that_cannot_follow_is_refused_when_the_node_is_configured():
    """The error names the parameter."""
    check_can_follow(BoxEstimator(), TRACK)
    check_can_follow(SimpleNamespace(), NodeParameters())
    with pytest.raises(SpecError, match='parameter track'):
        check_can_follow(SimpleNamespace(), TRACK)


node = node_fixture(7, 'track:=true', 'publish_pose_with_covariance:=true',
                    'input_reliability:=reliable')


def test_a_node_publishes_poses_of_images_without_detections(client):
    """Real messages: one detection, then images alone; symmetries also for who comes later."""
    from geometry_msgs.msg import PoseWithCovarianceStamped
    from rclpy.qos import DurabilityPolicy
    from std_msgs.msg import String

    told = []
    client.node.create_subscription(
        String, 'pose_node/object_symmetries', told.append,
        QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    client.answer(moment(1, ('duck', 20, 20, 20, 0.9, 'sure')))
    poses = []
    client.node.create_subscription(PoseWithCovarianceStamped, 'pose_node/pose/duck',
                                    poses.append, 10)
    assert client.spin(lambda: client.node.count_publishers('pose_node/pose/duck') > 0)
    step = 2
    while not poses and step < 2000:  # until the new topic is connected
        image, info, _ = moment(step)
        assert [d.id for d in client.answer((image, info)).detections] == ['sure']
        step += 1
    assert poses and np.reshape(poses[0].pose.covariance, (6, 6)) == pytest.approx(SURE)
    assert client.spin(lambda: told) and 'brick' in told[0].data
    assert client.spin(lambda: int(values(client.status['poses'])['poses followed']) >= step - 2)


def _worker(handler, parameters):
    """Return a worker that publishes nothing and draws nothing."""
    services = FrameServices(
        parameters=lambda: parameters, drop_counters=handler.drop_counters, timings=Timings(),
        see=lambda *_: None, now_ns=lambda: 0, logger=Mock())
    worker = Worker(services, Mock(), lambda: handler.made)
    worker.loaded.result()
    worker._pictures.close()
    worker._pictures = Mock()
    return worker


def test_nothing_is_followed_after_the_last_frame_of_a_model(handler):
    """The node is deactivated or has another model, and /diagnostics says so."""
    handler.answer(framed(1, ('duck', 20)), TRACK, NEVER)
    assert handler.drop_counters.followed_now == 1
    worker, queue = _worker(handler, TRACK), FrameQueue(1, replace=True)
    worker.start(queue)
    queue.close()
    worker.answering.result()
    assert handler.drop_counters.followed_now == 0
    worker.close()


def test_late_detections_are_counted_and_no_frame_twice(handler):
    """A slow detector that finds the object has found something, says /diagnostics."""
    parameters = dataclasses.replace(TRACK, track_unseen=0)
    worker = _worker(handler, parameters)
    duck = ('duck', 31.5, 23.5, 30.0, 0.9, 'sure')
    worker._answer_frame(handler.made, framed(0, duck))
    for step in range(1, 21):
        worker._answer_frame(handler.made, framed(step))
        if step % 10 == 5:  # 150 ms late
            worker._answer_frame(handler.made, framed(step - 3, duck))
    worker._answer_frame(handler.made, framed(20, duck))  # just after its image was answered
    worker.close()
    counts = handler.drop_counters.counts()
    assert (counts['frames'], counts['detections']) == (21, 4)
    recent = {'frames': 20, 'poses': 20}
    status = pose_status(Account(1.0, recent, counts, {}, {}), parameters, None)
    assert 'found nothing' not in status.message and '20 poses' in status.message
