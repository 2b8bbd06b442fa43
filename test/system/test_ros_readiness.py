"""Node and peers know that they have found one another, in both directions."""

import time
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from builtin_interfaces.msg import Time
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_client import Client, node_fixture, values
from ros_frames import frame
from ros_process import WAIT_S, environment, own_domain
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection3DArray

from mrcnet_ros.ros.connections import connected_names, publishers_text, subscribers_text
from mrcnet_ros.ros.diagnostics import Status, diagnostic_array
from mrcnet_ros.ros.messages import header_at
from mrcnet_ros.ros.statuses import idle_status, model_status
from mrcnet_ros.testbench.peer import Peer
from mrcnet_ros.testbench.readiness import PeerError, Readiness
from mrcnet_ros.testbench.replay import Replayer

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def end(name, kind='sensor_msgs/msg/Image', qos=RELIABLE):
    """Return what the graph says of one end of a topic."""
    return SimpleNamespace(node_name=name, node_namespace='/', topic_type=kind, qos_profile=qos)


def publisher(count):
    """Return a publisher that has found so many subscriptions."""
    return SimpleNamespace(msg_type=Image, qos_profile=BEST_EFFORT,
                           get_subscription_count=lambda: count)


SUBSCRIPTION = SimpleNamespace(message_type=Image, qos=RELIABLE)


def test_an_end_counts_once_the_middleware_has_connected_it():
    """The graph alone may be ahead; who cannot be connected is not waited for."""
    ends = [end('b'), end('a'), end('c', 'sensor_msgs/msg/CompressedImage'),
            end('d', qos=BEST_EFFORT)]
    early, late = (publishers_text(SUBSCRIPTION, ends, count) for count in (1, 2))
    assert not connected_names(early) and 'a' in early
    assert connected_names(late) == {'/a': 1, '/b': 1}
    assert not connected_names(publishers_text(SUBSCRIPTION, [], 0))
    readers = [end('a', qos=BEST_EFFORT), end('b', qos=RELIABLE)]  # b wants more than is offered
    assert not connected_names(subscribers_text(publisher(0), readers))
    assert connected_names(subscribers_text(publisher(1), readers)) == {'/a': 1}
    twice = [end('a', qos=BEST_EFFORT)] * 2
    assert connected_names(subscribers_text(publisher(2), twice)) == {'/a': 2}


class Graph:
    """A node of rclpy as far as readiness needs one; all its ends have found another."""

    def create_publisher(self, kind, topic, qos):
        return SimpleNamespace(topic_name=f'/{topic}', get_subscription_count=lambda: 1)

    def get_fully_qualified_name(self):
        return '/me'


def told(readiness, publishers, node='pose_node', state='active'):
    """Take in what a node tells of the publishers of image; return what is missing then."""
    values = {'image topic': '/image', 'image publishers': publishers}
    status = Status('inputs', (), '', values) if state == 'active' else idle_status(
        'inputs', state)
    readiness.see(diagnostic_array(Time(), node, '', [status]))
    return readiness.missing()


def test_only_the_last_words_of_the_right_node_count():
    """Not those of another node, nor those from before it was stopped."""
    readiness = Readiness(Graph(), 'pose_node')
    readiness.publisher(Image, 'image', RELIABLE)
    assert told(readiness, '/me', node='left/pose_node')
    assert told(readiness, 'nobody')
    assert told(readiness, '/me, /other') == []
    assert told(readiness, '/me', state='inactive')


def test_each_end_has_to_be_found():
    """One that was connected before does not stand for a new one on the same topic."""
    readiness = Readiness(Graph(), 'pose_node')
    for _ in range(2):
        readiness.publisher(Image, 'image', RELIABLE)
    assert 'has not found /image of /me' in told(readiness, '/me')[0]
    assert told(readiness, '/me, /me') == []


@pytest.mark.parametrize(('state', 'words'), [
    ('unconfigured', 'could not be configured: it is damaged'), ('finalized', 'was shut down')])
def test_a_node_that_will_not_answer_is_not_waited_for(monkeypatch, state, words):
    """The reason is told; what other nodes tell of themselves is nobody's business."""
    for name, value in environment(own_domain(67)).items():
        monkeypatch.setenv(name, value)
    with Peer('robot', lambda: None) as peer:
        for node, said in (('left/pose_node', 'active'), ('pose_node', state)):
            peer._on_diagnostics(diagnostic_array(Time(), node, '', [
                model_status(said, 'it is damaged', '', {}, {}),
                Status('poses', (), '', {'dropped late': 'a dozen'} if said == 'active' else {})]))
            assert peer.dropped() == {}
        with pytest.raises(PeerError, match=words):
            peer.wait_for_node(WAIT_S)


def test_without_a_node_the_error_names_topics_and_node(monkeypatch):
    """After a bounded time."""
    for name, value in environment(own_domain(67)).items():
        monkeypatch.setenv(name, value)
    with Peer('robot', lambda: None) as peer, pytest.raises(PeerError) as raised:
        peer.wait_for_node(0.3)
    for topic in ('/image', '/camera_info', '/detections', '/object_detections'):
        assert f'{topic} has no' in str(raised.value)
    assert 'pose_node is expected' in str(raised.value)


node = node_fixture(68)


def test_the_first_frame_of_every_newcomer_is_answered_on_every_topic(node):
    """Best-effort inputs and outputs alike lose nothing once both sides are connected."""
    for second in range(1, 9):
        client = Client(node.domain)
        client.connect()
        client.send(*frame(second, ('duck',)))
        assert client.spin(lambda c=client: c.answers and c.poses and c.transforms)
        assert client.answers[0].header.stamp.sec == second
        client.close()


def test_the_node_tells_by_name_who_is_connected(node):
    """Those who publish its inputs, and those who receive what it publishes."""
    client = Client(node.domain)
    client.connect()
    name = client.node.get_fully_qualified_name()
    # clients of the tests before may still be on their way out
    assert client.spin(lambda: values(client.status['inputs'])['image publishers'] == name)
    assert name in values(client.status['poses'])['/object_detections subscribers']
    assert values(client.status['poses'])['/overlay subscribers'] == 'nobody'
    client.close()


@pytest.mark.parametrize('wrong', ['input', 'output'])
def test_a_topic_without_another_end_is_named(node, wrong):
    """Be it remapped or of another type."""
    client = Client(node.domain)
    if wrong == 'input':
        client.readiness.publisher(CompressedImage, 'picture', RELIABLE)
    else:
        client.readiness.subscription(Detection3DArray, 'picture', print, RELIABLE)
    with pytest.raises(PeerError, match=r'after 1 s: .*/picture has no \w+, pose_node is'):
        client.readiness.wait(client.spin, 1)
    client.close()


@pytest.fixture
def replayer(monkeypatch):
    """Return a replayer in a domain of its own."""
    for name, value in environment(own_domain(69)).items():
        monkeypatch.setenv(name, value)
    with Replayer(lambda: None) as made:
        yield made


FRAMES = [SimpleNamespace(stamp_ns=stamp) for stamp in (1, 2, 3)]


def test_a_dropped_frame_is_not_waited_for(replayer, monkeypatch):
    """The node tells of it; the next one is sent."""
    def send(frame, stamp):
        if stamp == 2:
            replayer.on_detections(Detection3DArray(header=header_at(stamp, '')))
        else:
            dropped = replayer.dropped_frames() + 1
            replayer.pose_status['dropped late'] = f'{dropped} (its stamp is before ...)'

    monkeypatch.setattr(replayer, 'send', send)
    start = time.monotonic()
    answers = replayer.lossless(FRAMES, WAIT_S)
    assert [answer is None for answer in answers] == [True, False, True]
    assert time.monotonic() - start < WAIT_S


def test_a_node_that_answers_no_more_is_waited_for_once(replayer, monkeypatch):
    """Not for each frame that is left of a bag."""
    sent = []
    monkeypatch.setattr(replayer, 'send', lambda frame, stamp: sent.append(stamp))
    assert replayer.lossless(FRAMES, 0.2) == [None] * 3
    assert sent == [1]
