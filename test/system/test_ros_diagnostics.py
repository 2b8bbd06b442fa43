"""/diagnostics: what it says of a healthy node, and why no pose arrives."""

import itertools
import math
import time

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from lifecycle_msgs.msg import Transition
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_client import Client, node_fixture, values
from ros_frames import frame
from ros_process import double_node, own_domain
from sensor_msgs.msg import Image

node = node_fixture(20, 'stale_stamp_s:=1000000000.0', 'warn_age_s:=3600.0',
                    'error_age_s:=3600.0')


def _nanoseconds(time):
    return time.sec * 10**9 + time.nanosec


def _now_frame(*objects):
    messages = frame(0, *objects)
    now = time.time_ns()
    for message in messages:
        message.header.stamp.sec, message.header.stamp.nanosec = now // 10**9, now % 10**9
    return messages


def test_over_dds_the_state_of_the_node_arrives_each_second(node):
    """First what is missing, then rates, ages, stages, cache, model; then unknown labels."""
    client = Client(node.domain)
    lost = client.diagnosis('inputs', 'camera_info never came')
    assert lost.level == b'\x02'
    client.connect()
    assert client.answer(_now_frame(('duck',))) is not None
    told = client.diagnosis('poses', 'frames/s with 1 poses')
    assert told.level == b'\x00'
    # a frame is counted before its times are noted, and a report may come between
    assert client.spin(lambda: 'publishing p50 [ms]' in values(client.status['poses']))
    numbers = values(client.status['poses'])
    assert numbers['frames'] == numbers['poses'] == '1'
    for name in ('age', 'waiting', 'answering', 'crop', 'stage1', 'publishing'):
        assert float(numbers[f'{name} p50 [ms]']) >= 0.0
    assert float(numbers['stage1 p99 [ms]']) == pytest.approx(2.0)
    model = values(client.status['model'])
    assert (model['model'], model['backend'], model['device']) == ('boxes', 'none', 'cpu')
    assert model['template cache hits'] == '1'
    assert model['views'] == 'from all sides'
    assert client.answer(_now_frame(('teapot',))) is not None
    warned = client.diagnosis('poses', 'unknown_label')
    assert warned.level == b'\x01'
    assert "'teapot'" in warned.message and 'duck' in warned.message
    reports, start = client.reports, client.clock
    assert client.spin(lambda: client.reports >= reports + 3)
    assert _nanoseconds(client.clock) - _nanoseconds(start) > 1.5e9
    client.close()


def test_over_dds_stamps_that_never_fit_are_told(node):
    """With the difference, so that the user can set sync_slop_s."""
    client = Client(node.domain)
    client.connect()
    seconds = itertools.count(100)

    def said():
        image, info, boxes = frame(next(seconds), ('duck',))
        boxes.header.stamp.nanosec = 5_000_000
        client.send(image, info, boxes)
        return 'detections 0.005 s away' in client.status['poses'].message

    assert client.spin(said), client.status['poses'].message
    assert 'frames unpaired' in client.status['poses'].message
    client.close()


def test_over_dds_a_qos_that_does_not_fit_is_told():
    """A best-effort camera and a node that asks for reliability: named with the policy."""
    domain = own_domain(21)
    with double_node(domain, 'input_reliability:=reliable') as process:
        process.wait_for_log('ready')
        client = Client(domain)
        publisher = client.node.create_publisher(
            Image, 'image', QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
        client.node.destroy_publisher(client.publishers.pop('image'))
        process.wait_for_log('RELIABILITY')
        publisher.publish(frame(1)[0])
        # the graph may know the publisher before its name
        told = client.diagnosis('inputs', f'{client.node.get_name()}, offers another QoS')
        assert 'RELIABILITY' in told.message
        assert told.level == b'\x02'
        client.close()
        assert process.stop() == 0


def test_over_dds_an_image_of_another_type_is_told():
    """Compressed where raw was expected."""
    domain = own_domain(22)
    with double_node(domain) as process:
        process.wait_for_log('ready')
        client = Client(domain, compressed=True)
        told = client.diagnosis('inputs', 'image_transport')
        assert 'expected sensor_msgs/msg/Image' in told.message
        client.close()
        assert process.stop() == 0


def test_over_dds_a_model_that_cannot_be_loaded_is_told_until_another_is():
    """The node stays unconfigured, and starts once its parameter is right."""
    domain = own_domain(23)
    with double_node(domain, 'autostart:=false', 'model:=bad') as process:
        client = Client(domain)
        assert not client.transition(Transition.TRANSITION_CONFIGURE)
        told = client.diagnosis('model', 'it is damaged')
        assert told.level == b'\x02'
        assert values(told)['state'] == 'unconfigured'
        assert client.set_parameter('model', 'boxes').successful
        assert client.transition(Transition.TRANSITION_CONFIGURE)
        assert client.diagnosis('model', 'the node is inactive').level == b'\x01'
        assert client.transition(Transition.TRANSITION_ACTIVATE)
        assert client.diagnosis('model', 'active with boxes').level == b'\x00'
        client.close()
        assert process.stop() == 0


def test_over_dds_a_node_that_is_loading_says_what_it_does():
    """Rendering templates for the first time may take minutes, in which nobody answers."""
    with double_node(own_domain(25), 'model:=endless') as process:
        client = Client(process.domain)
        told = client.diagnosis('model', 'loading the ducks one by one')
        assert told.level == b'\x01'
        assert values(told)['state'] == 'configuring'
        reports = client.reports
        assert client.spin(lambda: client.reports >= reports + 2), 'it went silent'
        client.close()
        assert process.stop() == 0


@pytest.mark.parametrize(('name', 'value', 'words'), [
    ('warn_age_s', -1.0, ['warn_age_s']),
    ('warn_age_s', math.nan, ['warn_age_s', 'nan']),
    ('warn_age_s', None, ['undeclared']),
])
def test_over_dds_a_threshold_that_makes_no_sense_is_refused(client, name, value, words):
    """With the reason; and a parameter is never deleted."""
    result = client.set_parameter(name, value)
    assert not result.successful
    assert all(word in result.reason for word in words), result.reason


def test_over_dds_rectified_images_of_a_second_camera_are_told(node):
    """And their poses are in the frame of the camera itself, from its own optical centre."""
    client = Client(node.domain)
    client.connect()
    image, info, boxes = _now_frame(('duck',))
    info.p = [300.0, 0.0, 31.5, -60.0, 0.0, 300.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert client.set_parameter('image_rectified', True).successful
    # what is remarked is not told beside a silent input, which comes first otherwise
    assert client.set_parameter('input_timeout_s', 3600.0).successful
    position = client.answer((image, info, boxes)).detections[0].results[0].pose.pose.position
    assert (position.x, position.y, position.z) == pytest.approx((0.0, 0.0, 1.0))
    assert '(0.2, 0) m from the first one' in client.diagnosis(
        'inputs', 'second camera').message
    assert client.set_parameter('image_rectified', False).successful
    assert client.set_parameter('input_timeout_s', 2.0).successful
    client.close()
