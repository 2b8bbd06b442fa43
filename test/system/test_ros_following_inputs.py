"""Which images become frames under track, and what becomes of their detections."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

import dataclasses

from rclpy.qos import QoSProfile
from ros_frames import frame, framed, moment

from mrcnet_ros.ros import synchronizer
from mrcnet_ros.ros.frame_queue import FrameQueue
from mrcnet_ros.ros.frames import FrameError
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.worker import check_order

TRACK = NodeParameters(track=True)
NAMES = ('image', 'camera_info', 'detections')


def paired(parameters):
    """Return inputs that no topic feeds, the frames they complete, and what they drop."""
    frames, drop = [], Mock()
    return synchronizer.InputSynchronizer(
        Mock(), parameters, QoSProfile(depth=5), frames.append, drop, Mock()), frames, drop


def steps(frames):
    """Return the step of each frame, and whether it has detections."""
    stamps = [f.image.header.stamp for f in frames]
    return [(20 * (stamp.sec - 7) + stamp.nanosec // 50_000_000, f.has_detections)
            for stamp, f in zip(stamps, frames, strict=True)]


def feed(inputs, messages, *names):
    """Hand messages to inputs, in the order of the names."""
    for name in names:
        inputs._received(messages[NAMES.index(name)], name)


def test_images_are_frames_at_once_and_once_more_when_detections_come():
    """Under track an image waits for nothing; its detections may come much later."""
    inputs, frames, drop = paired(TRACK)
    everything = [moment(step, ('duck',)) for step in range(12)]
    for messages in everything:
        feed(inputs, messages, 'image', 'camera_info')
    feed(inputs, everything[2], 'detections')
    assert steps(frames) == [*[(step, False) for step in range(12)], (2, True)]
    drop.assert_not_called()


@pytest.mark.parametrize('order', [NAMES, NAMES[::-1], ('camera_info', 'detections', 'image')])
def test_an_image_is_no_second_frame_when_its_detections_are_there_already(order):
    """In whatever order they come, with all of them there it is one frame at most without."""
    inputs, frames, _ = paired(TRACK)
    feed(inputs, moment(1, ('duck',)), *order)
    assert steps(frames) == ([(1, False), (1, True)] if order == NAMES else [(1, True)])


def test_without_track_images_wait_for_detections():
    """Nothing changes where nobody asked for it."""
    inputs, frames, drop = paired(NodeParameters())
    for step in range(12):
        feed(inputs, moment(step), 'image', 'camera_info')
    assert frames == [] and drop.call_count == 2
    assert drop.call_args.args[0] == 'unpaired'


def test_detections_of_no_image_are_told():
    """A detector whose stamps are not those of the images is found out."""
    inputs, frames, drop = paired(TRACK)
    for step in range(20):
        feed(inputs, frame(100 + step), 'detections')
        feed(inputs, moment(step), 'image', 'camera_info')
    assert len(frames) == 20
    drop.assert_not_called()
    for step in range(20, 40):
        feed(inputs, frame(100 + step), 'detections')
    assert drop.call_count == 10 and 'detections' in drop.call_args.args[1]


def test_newer_images_do_not_push_out_detections():
    """Of each kind the newest frame waits; that with detections is answered in its turn."""
    queue = FrameQueue(1, replace=True, order=lambda f: f.turn, kind=lambda f: f.has_detections)
    dropped = [queue.put(framed(step)) for step in (1, 2, 3)]
    dropped.append(queue.put(framed(2, ('duck',))))
    dropped.append(queue.put(framed(4)))
    assert dropped == [0, 1, 1, 0, 1]
    assert steps([queue.get(), queue.get()]) == [(2, True), (4, False)]
    queue.put(framed(5))
    queue.put(framed(5, ('duck',)))
    assert steps([queue.get(), queue.get()]) == [(5, True), (5, False)]


def test_detections_of_earlier_images_are_not_late_under_track():
    """They correct what is followed, but for those from before time began anew."""
    late, last = framed(2, ('duck',)), framed(9).moment
    check_order(late, last, corrects=True)
    for wrong, corrects in ((late, False), (framed(2), True),
                            (dataclasses.replace(late, era=-1), True)):
        with pytest.raises(FrameError) as error:
            check_order(wrong, last, corrects=corrects)
        assert error.value.reason == 'late'
