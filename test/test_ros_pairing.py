"""Pairing of inputs, without a network."""

from unittest.mock import Mock

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from rclpy.qos import QoSProfile
from rclpy.time import Time
from ros_support import frame

from mrcnet_ros.ros import pairing
from mrcnet_ros.ros.params import NodeParameters


class UnforgivingFilter(pairing.message_filters.SimpleFilter):
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
    monkeypatch.setattr(pairing.message_filters, 'SimpleFilter', UnforgivingFilter)
    monkeypatch.setattr(UnforgivingFilter, 'locked', False)
    frames, drop = [], Mock()
    inputs = pairing.PairedInputs(
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
