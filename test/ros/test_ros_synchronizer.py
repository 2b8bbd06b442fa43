"""Pairing of inputs, without a network."""

from collections import Counter
from unittest.mock import Mock

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from rclpy.qos import QoSProfile
from rclpy.time import Time
from ros_frames import frame, moment

from mrcnet_ros.ros import synchronizer
from mrcnet_ros.ros.input_watch import InputWatch
from mrcnet_ros.ros.params import NodeParameters


class UnforgivingFilter(synchronizer.message_filters.SimpleFilter):
    """Like the synchronizers of a ROS installation, useless after a stamp that is no time."""

    locked = False

    def signalMessage(self, *messages):
        """Keep the lock when a stamp cannot be converted."""
        assert not UnforgivingFilter.locked, 'this would wait for ever'
        UnforgivingFilter.locked = True
        Time.from_msg(messages[0].header.stamp)
        UnforgivingFilter.locked = False
        super().signalMessage(*messages)


@pytest.mark.parametrize('name', ['image', 'camera_info', 'detections'])
@pytest.mark.parametrize(('sec', 'nanosec'), [(-1, 0), (-2**31, 5), (7, 10**9), (7, 2**32 - 1)])
def test_a_stamp_that_is_no_time_reaches_no_filter(monkeypatch, name, sec, nanosec):
    """It is dropped and told, and the next frame is paired."""
    monkeypatch.setattr(synchronizer.message_filters, 'SimpleFilter', UnforgivingFilter)
    monkeypatch.setattr(UnforgivingFilter, 'locked', False)
    frames, drop = [], Mock()
    inputs = synchronizer.InputSynchronizer(
        Mock(), NodeParameters(), QoSProfile(depth=5), frames.append, drop, Mock())
    names = ('image', 'camera_info', 'detections')
    bad = frame(sec)[names.index(name)]
    bad.header.stamp.nanosec = nanosec
    inputs._received(bad, name)
    reason, text = drop.call_args.args
    assert reason == 'bad_message'
    assert name in text and str(sec) in text and str(nanosec) in text
    for topic, message in zip(names, frame(9), strict=True):
        inputs._received(message, topic)
    assert [f.image.header.stamp.sec for f in frames] == [9]


def paired_inputs(queue=10):
    """Return inputs that no topic feeds, the frames they complete, and what they drop."""
    frames, drop = [], Mock()
    return synchronizer.InputSynchronizer(Mock(), NodeParameters(queue=queue), QoSProfile(depth=5),
                                frames.append, drop, Mock()), frames, drop


@pytest.mark.parametrize(('track', 'late', 'depths'), [
    (True, 12, 1), (True, 29, 1), (False, 8, 1), (False, 8, 3)])
def test_depth_is_kept_as_long_as_its_image_waits_for_detections(track, late, depths):
    """Also of a depth camera that is three times as fast as the colour camera."""
    frames = []
    inputs = synchronizer.InputSynchronizer(
        Mock(), NodeParameters(track=track, depth='auto'), QoSProfile(depth=5), frames.append,
        Mock(), Mock())
    for second in range(1, 60):
        for part in range(depths):
            depth = frame(second)[0]
            depth.header.stamp.nanosec = part * 10**8
            inputs._received(depth, 'depth')
        for message, name in zip(frame(second)[:2], ('image', 'camera_info'), strict=True):
            inputs._received(message, name)
        if second > late:
            inputs._received(frame(second - late)[2], 'detections')
    detected = [f for f in frames if f.has_detections]
    assert len(detected) == 59 - late
    assert all(f.depth() and f.depth().header.stamp == f.image.header.stamp for f in detected)


def test_an_image_that_replaces_another_is_counted():
    """Of two with one stamp the first will not be answered."""
    inputs, frames, drop = paired_inputs()
    image, info, detections = frame(5)
    for message, name in ((image, 'image'), (frame(5)[0], 'image'), (info, 'camera_info'),
                          (detections, 'detections')):
        inputs._received(message, name)
    assert len(frames) == 1
    assert [call.args[0] for call in drop.call_args_list] == ['unpaired']


def test_images_without_stamps_are_not_answered_with_boxes_of_one_another():
    """Boxes of any image would fit any other; a simulation may begin at 0 s all the same."""
    inputs, frames, drop = paired_inputs()
    for second in (0, 0, 0, 1):
        for message, name in zip(frame(second), ('image', 'camera_info', 'detections'),
                                 strict=True):
            inputs._received(message, name)
    assert [f.image.header.stamp.sec for f in frames] == [0, 1]
    told = [call.args for call in drop.call_args_list if call.args[0] == 'bad_message']
    assert len(told) == 2 and 'images have no stamp' in told[0][1]


def test_detections_without_a_stamp_are_told_as_that():
    """They are no second message of one moment; other inputs go on."""
    inputs, frames, drop = paired_inputs()
    for second in (5, 6):
        image, info, _ = frame(second)
        for message, name in ((image, 'image'), (info, 'camera_info'),
                              (frame(0)[2], 'detections')):
            inputs._received(message, name)
    assert not frames
    assert [call.args[0] for call in drop.call_args_list] == ['bad_message'] * 2
    assert 'detections has no stamp' in drop.call_args.args[1]


def test_of_images_out_of_order_the_oldest_is_given_up():
    """What is counted as unpaired is not answered as well."""
    inputs, frames, drop = paired_inputs(queue=2)
    for second in (7, 6, 8):
        inputs._received(frame(second)[0], 'image')
    assert drop.call_count == 1
    for second in (6, 7, 8):
        for message, name in zip(frame(second)[1:], ('camera_info', 'detections'), strict=True):
            inputs._received(message, name)
    assert [f.image.header.stamp.sec for f in frames] == [7, 8]


def given_up(parameters, names):
    """Return why images were given up, and how many, of which some inputs came for all."""
    drops = Counter()
    inputs = synchronizer.InputSynchronizer(
        Mock(), parameters, QoSProfile(depth=5), Mock(),
        lambda reason, text, count=1: drops.update({(reason, text): count}), InputWatch(lambda: 0))
    for step in range(300):
        image, info, boxes = moment(step)
        messages = {'camera_info': info, 'image': image, 'detections': boxes, 'depth': image}
        for name in [name for name in messages if name in names]:
            inputs._received(messages[name], name)
    return drops


@pytest.mark.parametrize('queue', [10, 200])
@pytest.mark.parametrize(('track', 'depth', 'names', 'reason', 'told'), [
    (False, 'off', ('camera_info',), 'unpaired', 'no detections with its stamp'),
    (False, 'off', ('detections',), 'unpaired', 'no camera_info with its stamp'),
    (False, 'required', ('camera_info',), 'unpaired', 'no detections or depth with its stamp'),
    (False, 'required', ('camera_info', 'detections'), 'no_depth',
     'no depth with the stamp of image, camera_info and detections; set sync_slop_s, or depth to '
     'auto'),
    (True, 'off', (), 'unpaired', 'no camera_info with its stamp'),
    (True, 'required', ('camera_info',), 'no_depth',
     'no depth with the stamp of image and camera_info; set sync_slop_s, or depth to auto')])
def test_an_image_that_is_given_up_names_what_has_not_come(
        queue, track, depth, names, reason, told):
    """And no input that has; with track an image waits for no detections."""
    drops = given_up(NodeParameters(track=track, depth=depth, queue=queue), ('image', *names))
    waiting = max(queue, synchronizer.TRACK_QUEUE) if track else queue
    assert drops == {(reason, told): 300 - waiting}


def test_an_image_whose_partners_came_at_another_time_says_so():
    """They have its stamp, so nobody has to mend that."""
    drops, watch = [], InputWatch(lambda: 0)
    inputs = synchronizer.InputSynchronizer(
        Mock(), NodeParameters(queue=2), QoSProfile(depth=5), Mock(),
        lambda reason, text, count=1: drops.append(text), watch)
    for names in (('camera_info', 'detections'), ('image',)):
        for step in range(6):
            for name, message in zip(('image', 'camera_info', 'detections'), moment(step),
                                     strict=True):
                if name in names:
                    inputs._received(message, name)
    assert drops and all('camera_info and detections came too long before' in t for t in drops)


def test_inputs_that_cannot_all_be_subscribed_leave_none(monkeypatch):
    """A failed activation can be repeated for weeks."""
    made = []

    def subscriber(node, kind, topic, **options):
        if len(made) == 2:
            raise RuntimeError('no more')
        made.append(Mock())
        return made[-1]

    monkeypatch.setattr(synchronizer.message_filters, 'Subscriber', subscriber)
    node = Mock()
    with pytest.raises(RuntimeError, match='no more'):
        synchronizer.InputSynchronizer(
            node, NodeParameters(), QoSProfile(depth=5), Mock(), Mock(), Mock())
    assert [call.args[0] for call in node.destroy_subscription.call_args_list] == [
        m.sub for m in made]


def came(inputs, drop, *seconds, label='duck', names=('image', 'camera_info', 'detections')):
    """Let messages come, and return how many detections were counted as repeated since."""
    drop.reset_mock()
    for second in seconds:
        for message, name in zip(frame(second, (label,), (label,)),
                                 ('image', 'camera_info', 'detections'), strict=True):
            if name in names:
                inputs._received(message, name)
    return sum(call.args[2] for call in drop.call_args_list if call.args[0] == 'repeated')


def test_detections_that_come_twice_for_a_moment_are_counted():
    """As of two detectors on one topic: a frame takes one message, be it paired already or not."""
    inputs, frames, drop = paired_inputs()
    assert came(inputs, drop, 1, 2) == 0
    assert came(inputs, drop, 2, names=('detections',)) == 2
    assert came(inputs, drop, 3, 3, names=('detections',)) == 2
    assert 'two detectors' in drop.call_args.args[1]
    assert came(inputs, drop, 4) == 0 and len(frames) == 3


def test_detections_of_a_bag_that_starts_again_are_no_repetition():
    """Their images have come again as well."""
    inputs, _, drop = paired_inputs()
    assert came(inputs, drop, 1, 2, 3, 1, 2, 3, 1, 2, 3) == 0


def test_detections_with_stamps_of_their_own_are_no_repetition_when_a_bag_starts_again():
    """As with sync_slop_s; a second detector is counted all the same."""
    drop = Mock()
    inputs = synchronizer.InputSynchronizer(
        Mock(), NodeParameters(sync_slop_s=0.02), QoSProfile(depth=5), Mock(), drop, Mock())
    counts = []
    for doubled in (False, False, False, True):
        drop.reset_mock()
        for second in range(1, 6):
            image, info, boxes = frame(second, ('duck',))
            boxes.header.stamp.nanosec += 7_000_000
            inputs._received(image, 'image')
            inputs._received(info, 'camera_info')
            for _ in range(1 + doubled):
                inputs._received(boxes, 'detections')
        counts.append(sum(c.args[2] for c in drop.call_args_list if c.args[0] == 'repeated'))
    assert counts[:3] == [0, 0, 0] and counts[3] > 0


@pytest.mark.parametrize(('images', 'every', 'late'), [(1800, 15, 0), (935, 15, 8), (498, 1, 8)])
def test_a_long_bag_that_starts_again_has_no_repetition(images, every, late):
    """Whatever is forgotten of the first pass, of a detector that is slower and of one as fast."""
    inputs, frames, drop = paired_inputs()
    for number in [*range(images), *range(images)]:
        image, info, _ = frame(1 + number)
        inputs._received(image, 'image')
        inputs._received(info, 'camera_info')
        if number >= late and (number - late) % every == 0:
            inputs._received(frame(1 + number - late, ('duck',))[2], 'detections')
    assert len(frames) > images // every
    assert 'repeated' not in {call.args[0] for call in drop.call_args_list}


def test_a_second_detector_within_the_slop_is_counted():
    """Its boxes have a stamp of their own, and a frame takes those of the first."""
    frames, drop = [], Mock()
    inputs = synchronizer.InputSynchronizer(
        Mock(), NodeParameters(sync_slop_s=0.01, queue=2), QoSProfile(depth=5), frames.append,
        drop, Mock())
    for second in range(1, 8):
        image, info, boxes = frame(second, ('duck',), ('can',))
        other = frame(second, ('brick',))[2]
        other.header.stamp.nanosec = 2_000_000
        for message, name in ((image, 'image'), (info, 'camera_info'), (boxes, 'detections'),
                              (other, 'detections')):
            inputs._received(message, name)
    told = [call.args for call in drop.call_args_list]
    assert len(frames) == 7 and [reason for reason, _, _ in told] == ['repeated'] * 5
    assert all('two detectors' in text and count == 1 for _, text, count in told)
