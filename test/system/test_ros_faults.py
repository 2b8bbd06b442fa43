"""Faults from outside: after each the node lives and answers the next good frame."""

import argparse
import itertools
import math
import re
import threading
import time
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from lifecycle_msgs.msg import Transition
from rclpy.serialization import serialize_message
from ros_client import Client, node_fixture, values
from ros_frames import frame
from ros_process import STAND_IN, WAIT_S, environment, own_domain
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from stand_in_node import DIAMETERS_M, BoxEstimator
from vision_msgs.msg import Detection2DArray

from mrcnet_ros.cli.fuzz import fuzz
from mrcnet_ros.errors import MrcnetError
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frames import Frame, FrameError
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.testbench.fuzz_messages import Fuzzer, good_frame
from mrcnet_ros.testbench.fuzzing import FuzzRun
from mrcnet_ros.testbench.input_messages import OPTICAL_FRAME
from mrcnet_ros.testbench.peer import PeerError
from mrcnet_ros.testbench.processes import process_usage

DOUBLE = [STAND_IN, '--ros-args']


def _drawn(fuzzer):
    """Return what is sent, but for the padding inside damaged messages, which is arbitrary."""
    return [(topic, len(m) if isinstance(m, bytes) else repr(m))
            for stamp in range(100) for topic, m in fuzzer.messages(stamp)]


def test_the_same_seed_sends_the_same_messages():
    """So that a finding can be repeated; another seed sends others."""
    first = _drawn(Fuzzer(3, ['duck']))
    assert first == _drawn(Fuzzer(3, ['duck']))
    assert first != _drawn(Fuzzer(4, ['duck']))
    assert {topic for topic, _ in first} == {'image', 'camera_info', 'detections'}


def _fuzz(tmp_path, monkeypatch, domain, command, messages):
    for name, value in environment(domain).items():
        monkeypatch.setenv(name, value)
    args = argparse.Namespace(messages=messages, seed=1, timeout=WAIT_S,
                              log=tmp_path / 'node.log')
    return fuzz(args, command, ['duck', 'brick'])


def test_the_node_outlives_absurd_messages(tmp_path, monkeypatch, capsys):
    """Good frames between them are answered, and drops are counted by reason."""
    assert _fuzz(tmp_path, monkeypatch, own_domain(61), DOUBLE, 2000) == 0
    told = capsys.readouterr().out
    assert '2000 messages sent' in told
    counts = dict(pair.split() for pair in
                  told.split('dropped: ')[1].splitlines()[0].split(', '))
    for reason in ('bad_image', 'bad_camera_info', 'unknown_label', 'non_finite', 'no_label'):
        assert int(counts[reason]) > 0
    assert int(counts['failed']) == 0


def test_a_node_that_ends_is_a_finding(tmp_path, monkeypatch):
    """With the end of its output."""
    program = tmp_path / 'brittle.py'
    program.write_text('print("I give up")')
    with pytest.raises(MrcnetError, match='I give up'):
        _fuzz(tmp_path, monkeypatch, own_domain(62), [str(program)], 100)


def test_a_node_that_cannot_load_its_model_is_a_finding(tmp_path, monkeypatch):
    """With what it says of it, at once."""
    command = [*DOUBLE, '-p', 'model:=bad']
    with pytest.raises(PeerError, match=r'could not be configured: .*it is damaged'):
        _fuzz(tmp_path, monkeypatch, own_domain(65), command, 100)


def test_numbers_that_are_not_finite_are_a_finding(monkeypatch):
    """Wherever they are published."""
    for name, value in environment(own_domain(63)).items():
        monkeypatch.setenv(name, value)
    with FuzzRun(['duck'], lambda: None) as run:
        run._check_numbers([0.0, 1.0])
        assert not run._findings.failures
        run._check_numbers([0.0, math.nan])
        assert 'nan' in run._findings.failures[0]


@pytest.mark.parametrize('compressed', [False, True])
def test_what_is_said_of_bad_messages_has_numbers_and_not_their_types(compressed):
    """np.float64(550.0) is 550.0 to whoever reads it in a log."""
    fuzzer, said, counters = Fuzzer(5, ['duck'], compressed=compressed), [], DropCounters(Mock())
    handler = FrameHandler(BoxEstimator(), dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))), counters,
                           compressed=compressed)
    kinds = {'image': CompressedImage if compressed else Image, 'camera_info': CameraInfo,
             'detections': Detection2DArray}
    for number in range(600):
        messages = good_frame(number, 'duck', compressed=compressed)
        messages |= {topic: m for topic, m in fuzzer.messages(number)
                     if isinstance(m, kinds[topic])}
        try:
            handler.answer(Frame(*messages.values()), NodeParameters())
        except FrameError as error:
            said.append(str(error))
        said += counters.reasons().values()
    assert len(set(said)) > 50
    assert not [text for text in said if re.search(r'\bnp\.|float\d|array\(', text)]


node = node_fixture(60)


def test_text_that_is_not_utf8_does_not_end_the_node(client):
    """A C++ driver can send any bytes as a frame_id."""
    for message in good_frame(10**9, 'duck').values():
        data = serialize_message(message).replace(OPTICAL_FRAME.encode(), b'\xff\xfe' * 10)
        assert b'\xff\xfe' in data
        topic = next(t for t, p in client.publishers.items() if isinstance(message, p.msg_type))
        client.publishers[topic].publish(data)
    client.spin(lambda: False, 0.3)
    assert client.answer(frame(2, ('duck',))) is not None


def test_truncated_messages_do_not_end_the_node(client):
    """However short they are."""
    for message in frame(1, ('duck',)):
        data = serialize_message(message)
        topic = next(t for t, p in client.publishers.items() if isinstance(message, p.msg_type))
        for length in (4, 5, 12, 20, len(data) // 2, len(data) - 1):
            client.publishers[topic].publish(data[:length])
    client.spin(lambda: False, 0.3)
    assert client.answer(frame(3, ('duck',))) is not None


def test_a_bag_that_starts_again_is_answered_again(client):
    """Also when messages without partners from its end are still waiting."""
    for second in range(1000, 1030):  # more of each than the queue holds
        client.send(frame(second, ('duck',))[second % 2])
    client.spin(lambda: False, 0.3)
    for second in (5, 7):
        client.send(*frame(second, ('duck',)))
        client.spin(lambda: False, 0.1)
    assert client.answer(frame(9, ('duck',))) is not None


def test_stray_stamps_do_not_make_the_node_deaf(client):
    """Neither from the far future nor from the past, on any input."""
    for number, second in enumerate((2**31 - 1, 0, 2**31 - 2, -5, 2**31 - 3, -2**31)):
        for message in frame(second, ('duck',)):
            client.send(message)
        client.spin(lambda: False, 0.1)
        client.send(*frame(20 + 2 * number, ('duck',)))
        client.spin(lambda: False, 0.1)
        assert client.answer(frame(21 + 2 * number, ('duck',))) is not None


def test_a_burst_is_survived_and_accounted_for(client, tmp_path):
    """200 Hz while the estimator is busy: the last is answered, the rest are counted."""
    client.spin(lambda: 'poses' in client.status)
    busy = lambda: int(values(client.status['poses'])['dropped busy'].split(' ')[0])  # noqa: E731
    before, gate = busy(), tmp_path / 'gate'
    client.send(*frame(60, ('duck', 31.5, 23.5, 30.0, 0.9, f'hold:{gate}')))
    assert client.spin(gate.exists)
    # most may be lost on the way to a node that is not quick enough: inputs are best effort
    for second in range(60, 64):
        for number in range(1, 200):
            messages = frame(second, ('duck',))
            for message in messages:
                message.header.stamp.nanosec = number * 5_000_000
            client.send(*messages)
            time.sleep(0.005)
        if client.spin(lambda: busy() > before + 10, 5.0):
            break
    assert busy() > before + 10
    gate.unlink()
    client.answer(frame(64, ('duck',)))


def test_the_node_may_be_stopped_and_started_under_traffic(client, node):
    """Nothing is left behind but the frames that were waiting; no thread, no handle."""
    before, running = process_usage(node.process.pid), True

    def traffic():
        for number in itertools.count():
            if not running:
                break
            messages = frame(65, ('duck',))
            for message in messages:
                message.header.stamp.nanosec = number * 10**4  # less than a second in the end
            client.send(*messages)
            time.sleep(0.005)

    thread = threading.Thread(target=traffic)
    thread.start()
    for number in range(20):
        assert client.transition(Transition.TRANSITION_DEACTIVATE)
        if number % 5 == 0:
            assert client.transition(Transition.TRANSITION_CLEANUP)
            assert client.transition(Transition.TRANSITION_CONFIGURE)
        assert not client.transition(Transition.TRANSITION_CONFIGURE), 'it is configured'
        assert client.transition(Transition.TRANSITION_ACTIVATE)
    running = False
    thread.join()
    client.connect()
    assert client.answer(frame(66, ('duck',))) is not None

    def left_behind():
        after = process_usage(node.process.pid)
        return after.threads > before.threads + 1 or after.handles > before.handles + 2

    assert client.spin(lambda: not left_behind()), (before, process_usage(node.process.pid))
    client.status.clear()
    assert values(client.diagnosis('poses', 'poses'))['dropped failed'] == '0'


def test_publishers_and_subscribers_may_come_and_go(node):
    """Each newcomer is answered."""
    for second in (70, 71, 72):
        client = Client(node.domain)
        client.connect()
        assert client.answer(frame(second, ('duck',))) is not None
        client.close()
