"""Frames out of order: late ones are dropped, and only the camera says that time begins anew."""

from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from rclpy.qos import QoSProfile
from ros_client import node_fixture, ready_node, values
from ros_frames import frame
from stand_in_node import BoxEstimator

from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.ros.frames import Frame, FrameError
from mrcnet_ros.ros.listening import Listening
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.synchronizer import InputSynchronizer
from mrcnet_ros.ros.tracks import Tracks
from mrcnet_ros.ros.worker import FrameServices, check_order

NAMES = ('image', 'camera_info', 'detections')


@pytest.fixture
def inputs():
    """Return inputs that no topic feeds; ``frames`` are those they complete."""
    frames, node = [], Mock()
    made = InputSynchronizer(
        node, NodeParameters(), QoSProfile(depth=5), frames.append, Mock(), Mock())
    made.frames, made.node = frames, node
    return made


def at(seconds, *objects):
    """Return the messages of a moment [s]."""
    messages = frame(int(seconds), *objects)
    for message in messages:
        message.header.stamp.nanosec = round((seconds - int(seconds)) * 1e9)
    return messages


def come(inputs, *seconds, names=NAMES):
    """Let messages of moments come, and return the moments of the frames completed since."""
    inputs.frames.clear()
    for second in seconds:
        for name, message in zip(NAMES, at(second), strict=True):
            if name in names:
                inputs._received(message, name)
    return [(f.era, f.moment[1] * 1e-9) for f in inputs.frames]


@pytest.mark.parametrize('late', [9.9, 9.0, 3.0])
def test_one_late_image_begins_no_era(inputs, late):
    """However late it is; what follows is of the old era."""
    assert [era for era, _ in come(inputs, 10.0, 10.1, late, 10.2, late + 0.01, 10.3)] == [0] * 6


def test_a_bag_that_starts_again_begins_an_era(inputs):
    """From its second image on."""
    assert come(inputs, 10.0, 11.0, 12.0) == [(0, 10.0), (0, 11.0), (0, 12.0)]
    assert come(inputs, 1.0, 2.0, 3.0) == [(0, 1.0), (1, 2.0), (1, 3.0)]


def test_a_bag_of_less_than_a_second_that_starts_again_begins_an_era(inputs):
    """Its stamps came before, which those of late frames did not."""
    bag = (10.0, 10.1, 10.2)
    come(inputs, *bag)
    assert [era for era, _ in come(inputs, *bag)] == [0, 1, 1]
    assert [era for era, _ in come(inputs, *bag)] == [1, 2, 2]


def test_a_pair_of_frames_that_comes_again_and_again_is_answered(inputs):
    """The shortest bag with a motion."""
    assert come(inputs, *[1.0, 1.1] * 5)[-1][0] > 1


def test_a_clock_that_is_set_back_a_little_begins_no_era(inputs):
    """Its frames are late until it has caught up, and then they are not."""
    assert {era for era, _ in come(inputs, 10.0, 10.4, 10.15, 10.25, 10.35, 10.45)} == {0}


def test_detections_out_of_order_begin_no_era(inputs):
    """Neither a burst of old ones nor ones that come seconds after their images."""
    come(inputs, *range(1, 9), names=('image', 'camera_info'))
    done = [moment for second in (1, 7, 2, 3, 4, 5, 6, 8)
            for moment in come(inputs, second, names=('detections',))]
    assert [era for era, _ in done] == [0] * 8
    assert [second for _, second in done] == [1, 7, 2, 3, 4, 5, 6, 8]


def test_the_clock_of_a_simulation_begins_an_era_at_once(inputs):
    """When it jumps back; the node need not guess then."""
    call = inputs.node.get_clock().create_jump_callback.call_args
    assert call.args[0].min_backward.nanoseconds < 0 and call.args[0].min_forward is None
    come(inputs, 10.0)
    call.kwargs['post_callback'](None)
    assert come(inputs, 1.0) == [(1, 1.0)]


def test_each_activation_begins_an_era():
    """Time may have gone back while the node was inactive, and handlers outlive that."""
    services = FrameServices(parameters=NodeParameters, drop_counters=Mock(), timings=Mock(),
                             see=Mock(), now_ns=Mock(return_value=0), logger=Mock())
    eras = []
    for seconds in (10.0, 5.0):
        listening = Listening(NodeParameters(), services, Mock())
        listening.subscribe(Mock(), Mock())
        for name, message in zip(NAMES, at(seconds), strict=True):
            listening._inputs._received(message, name)
        found = listening.queue.get(None)
        check_order(found, services.last_answered)
        services.last_answered = found.moment
        eras.append(found.era)
    assert eras == [0, 1]


def test_what_is_older_than_the_last_answered_frame_is_late():
    """Unless it is of a newer era; the same stamp once more is not."""
    image = at(5.0)[0]
    check_order(Frame(image, None, None, 0), (0, 5 * 10**9))
    check_order(Frame(image, None, None, 1), (0, 9 * 10**9))
    with pytest.raises(FrameError, match=r'0\.5 s before') as late:
        check_order(Frame(image, None, None, 0), (0, 5_500_000_000))
    assert late.value.reason == 'late'
    with pytest.raises(FrameError, match='jumped back'):
        check_order(Frame(image, None, None, 0), (1, 10**9))


def test_a_late_frame_changes_no_track():
    """Instances keep their names, and poses go on from the newest."""
    tracks = Tracks(BoxEstimator().objects)

    def update(ms, *places_m):
        estimates = []
        for index, x in enumerate(places_m):
            T = np.eye(4)
            T[:3, 3] = x, 0.0, 1.0
            estimates.append(PoseEstimate('duck', 9, T, 0.9, index, '', np.zeros(4)))
        names, poses = tracks.update(ms * 10**6, estimates, NodeParameters(smoothing_s=1.0))
        return names, [p.T_camera_object[0, 3] for p in poses]

    assert update(1000, -0.2, 0.2)[0] == ['duck', 'duck_2']
    assert update(1100, 0.2, -0.2)[0] == ['duck_2', 'duck']
    names, places = update(1050, 0.21, -0.21)
    assert names == ['duck_2', 'duck'] and places == [0.21, -0.21]
    names, places = update(1200, 0.2, -0.2)
    assert names == ['duck_2', 'duck'] and places == pytest.approx([0.2, -0.2])


node = node_fixture(69)


def dropped(client, reason):
    """Return how many frames the node has dropped, as it last told."""
    return int(values(client.status['poses'])[f'dropped {reason}'].split(' ')[0])


def test_over_dds_a_late_frame_is_dropped_and_counted(client):
    """Names and /tf go on as if it had not come."""
    left, right = ('duck', 10.0), ('duck', 50.0)
    assert client.answer(at(10.0, left, right)) is not None
    assert client.answer(at(10.1, right, left)) is not None
    client.send(*at(9.0, right, left))
    assert client.diagnosis('poses', '') and client.spin(lambda: dropped(client, 'late') == 1)
    client.send(*at(10.05, left, right))
    newest = client.answer(at(10.2, right, left))
    assert [d.id for d in newest.detections] == ['duck_2', 'duck']
    assert [a.header.stamp.nanosec for a in client.answers] == [0, 10**8, 2 * 10**8]
    assert client.spin(lambda: len(client.transforms) == 6)
    stamps = [(t.header.stamp.sec, t.header.stamp.nanosec) for t in client.transforms]
    assert stamps == sorted(stamps)
    assert client.spin(lambda: dropped(client, 'late') == 2)
    assert 'before that of the last' in values(client.status['poses'])['dropped late']


def test_over_dds_a_bag_in_a_loop_is_answered(client):
    """But for the first frame of each turn."""
    for turn in range(3):
        for second in (21, 22, 23):
            late = turn and second == 21
            before = len(client.answers)
            client.send(*at(second, ('duck',)))
            client.spin(lambda n=before: len(client.answers) > n, *([0.3] if late else []))
        stamps = [a.header.stamp.sec for a in client.answers]
        assert stamps == [21, 22, 23] + [22, 23] * turn


@pytest.mark.parametrize(('number', 'parameters', 'expected'), [
    (100, (), [1, 7]),
    (104, ('policy:=lossless', 'input_reliability:=reliable'), [1, 5, 6, 7])])
def test_over_dds_of_waiting_frames_stamps_decide(tmp_path, number, parameters, expected):
    """The newest one wins under latest; under lossless the older is answered first."""
    with ready_node(number, *parameters) as (_, client):
        gate = tmp_path / 'gate'
        client.send(*at(1, ('duck', 31.5, 23.5, 30.0, 0.9, f'hold:{gate}')))
        assert client.spin(gate.exists)
        for second in (5, 7, 6):
            client.send(*at(second, ('duck',)))
        client.wait_for_inputs(4, 'image', 'camera_info', 'detections')
        gate.unlink()
        assert client.spin(lambda: client.answers and client.answers[-1].header.stamp.sec == 7)
        client.spin(lambda: False, 0.5)
        assert [a.header.stamp.sec for a in client.answers] == expected
