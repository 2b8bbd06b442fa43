"""Which messages make a frame, and which frames are answered."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_client import ready_node
from ros_frames import frame


def test_images_without_partners_are_counted():
    """As unpaired, when newer ones take their places."""
    with ready_node(1, 'queue:=2') as (process, client):
        for second in range(4):
            client.send(frame(second)[0])
            if second % 2:  # the middleware keeps two
                client.wait_for_inputs(second + 1, 'image')
        assert client.answer(frame(9, ('duck',))) is not None
    assert 'unpaired 3' in process.log()


def _burst(number, gate, *parameters, taken):
    """Send six frames, the first of which takes until ``taken`` of them are with the node."""
    with ready_node(number, *parameters) as (process, client):
        client.send(*frame(0, ('duck', 31.5, 23.5, 30.0, 0.9, f'hold:{gate}')))
        assert client.spin(gate.exists)
        for second in range(1, 6):
            client.send(*frame(second, ('duck',)))
        client.wait_for_inputs(taken, 'image', 'camera_info', 'detections')
        gate.unlink()
        assert client.spin(lambda: client.answers and client.answers[-1].header.stamp.sec == 5)
        stamps = [a.header.stamp.sec for a in client.answers]
    return stamps, process.log()


def test_the_latest_frame_wins(tmp_path):
    """Frames that come while one is worked on are replaced, and counted as busy."""
    stamps, log = _burst(2, tmp_path / 'gate', taken=6)
    assert stamps == [0, 5]
    assert 'busy 4' in log


def test_lossless_answers_every_frame_in_order(tmp_path):
    """However slow the estimator is; the middleware keeps what finds no room in the queue."""
    stamps, log = _burst(3, tmp_path / 'gate', 'policy:=lossless', 'input_reliability:=reliable',
                         'queue:=2', taken=3)
    assert stamps == list(range(6))
    assert 'dropped: none' in log


def test_no_input_is_starved_while_frames_wait(tmp_path):
    """Depth is taken with its image, also when that image leaves no room for another one."""
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    gate = tmp_path / 'gate'
    with ready_node(5, 'policy:=lossless', 'input_reliability:=reliable', 'queue:=2',
                    'depth:=auto') as (_, client):
        publisher = client.readiness.publisher(
            Image, 'depth', QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE))
        client.connect()
        for second in range(6):
            depth = Image(width=64, height=48, step=128, encoding='16UC1')
            depth.data = np.full(64 * 48, 4000, np.uint16).tobytes()
            hold = ('duck', 31.5, 23.5, 30.0, 0.9, '' if second else f'hold:{gate}')
            image, info, boxes = frame(second, hold)
            depth.header = image.header
            publisher.publish(depth)
            client.send(image, info, boxes)
            assert second or client.spin(gate.exists)
        client.wait_for_inputs(3, 'image', 'camera_info', 'detections', 'depth')
        gate.unlink()
        assert client.spin(lambda: len(client.answers) == 6)
        z = [a.detections[0].results[0].pose.pose.position.z for a in client.answers]
    assert z == pytest.approx([4.0] * 6)


def test_stamps_may_differ_by_the_slop():
    """With sync_slop_s the nearest messages belong together; the answer has the image's stamp."""
    with ready_node(4, 'sync_slop_s:=0.02') as (_, client):
        messages = frame(5, ('duck',))
        messages[2].header.stamp.nanosec = 10_000_000
        answered = client.answer(messages)
    assert len(answered.detections) == 1
