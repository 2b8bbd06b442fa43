"""The node as its users meet it: its own process, real DDS."""

import dataclasses
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_support import (
    LARGE_CAMERA,
    STAND_IN,
    Client,
    NodeProcess,
    double_node,
    frame,
    node_fixture,
    own_domain,
    ready_node,
    values,
)
from stand_in_node import SURE

from mrcnet_ros.ros.params import NodeParameters

node = node_fixture(0)


@pytest.fixture(scope='module')
def connected(node):
    client = Client(node.domain)
    client.connect()
    yield client
    client.close()


@pytest.fixture
def talk(connected):
    connected.forget()
    return connected


def test_a_good_frame_is_answered_on_every_topic(talk):
    """Stamp and frame are the image's; the pose is the same in all messages."""
    answer = talk.answer(frame(1, ('duck', 31.5, 23.5, 30.0)))
    assert talk.spin(lambda: talk.poses and talk.transforms)
    detection, pose, transform = answer.detections[0], talk.poses[0], talk.transforms[0]
    assert answer.header.frame_id == pose.header.frame_id == 'camera_optical'
    assert pose.header.stamp == transform.header.stamp == answer.header.stamp
    assert (transform.header.frame_id, transform.child_frame_id) == ('camera_optical', 'duck')
    hypothesis = detection.results[0]
    assert (hypothesis.hypothesis.class_id, hypothesis.hypothesis.score) == ('duck', 0.75)
    assert hypothesis.pose.pose == pose.pose
    assert (pose.pose.position.x, pose.pose.position.z) == pytest.approx((0.0, 2.0))
    assert transform.transform.translation.z == pytest.approx(2.0)
    assert pose.pose.orientation.w == 1.0
    assert hypothesis.pose.covariance[0] == -1.0


def test_the_bounding_box_is_the_mesh_at_its_pose(talk):
    """Its centre need not be the origin of the object."""
    box = talk.answer(frame(2, ('duck',))).detections[0].bbox
    assert (box.size.x, box.size.y, box.size.z) == pytest.approx((0.03, 0.06, 0.09))
    assert box.center.position.x == pytest.approx(0.005)


def test_over_dds_a_covariance_arrives_where_there_is_one(talk):
    """Row by row; where there is none, or none that is finite, its first element is -1."""
    ducks = [('duck', x, 23.5, 30.0, 0.9, name)
             for x, name in ((10.0, 'sure'), (30.0, 'unsure'), (50.0, ''))]
    answer = talk.answer(frame(3, *ducks))
    sure, *others = (d.results[0].pose.covariance for d in answer.detections)
    assert np.array_equal(np.reshape(sure, (6, 6)), SURE)
    for covariance in others:
        assert list(covariance) == [-1.0, *[0.0] * 35]


def test_two_of_a_kind_get_two_frames(talk):
    """The second instance is <label>_2, and ids of the detector are kept."""
    answer = talk.answer(frame(10, ('duck', 10.0), ('duck', 50.0, 23.5, 30.0, 0.9, 'seven')))
    assert talk.spin(lambda: len(talk.transforms) == 2)
    assert [t.child_frame_id for t in talk.transforms] == ['duck', 'duck_2']
    assert [d.id for d in answer.detections] == ['duck', 'seven']


def test_a_frame_without_detections_is_answered_with_none(talk):
    """A listener can tell that nothing was there from no answer."""
    assert talk.answer(frame(11)).detections == []


BAD_FRAMES = {
    'bad_image': frame(0, ('duck',), encoding='yuv422'),
    'bad_camera_info': frame(0, ('duck',), focal=0.0),
    'failed': frame(0, ('duck', 31.5, 23.5, 30.0, 0.9, 'boom')),
}


@pytest.mark.parametrize('reason', BAD_FRAMES)
def test_a_bad_frame_is_dropped_with_its_reason_and_the_next_is_answered(talk, node, reason):
    """One message never ends the node."""
    second = 20 + 2 * list(BAD_FRAMES).index(reason)
    bad = BAD_FRAMES[reason]
    for message in bad:
        message.header.stamp.sec = second
    talk.send(*bad)
    node.wait_for_log(f'dropped ({reason})')
    assert len(talk.answer(frame(second + 1, ('duck',))).detections) == 1
    assert not [a for a in talk.answers if a.header.stamp.sec == second]


@pytest.mark.parametrize(('reason', 'bad'), [
    ('unknown_label', ('teapot',)),
    ('box_outside', ('duck', 500.0)),
    ('non_finite', ('duck', 31.5, 23.5, 30.0, 0.9, 'nan')),
    ('non_finite', ('duck', float('nan'))),
    ('non_finite', ('duck', 31.5, 23.5, 30.0, float('nan'))),
])
def test_a_bad_detection_is_left_out_and_counted(talk, node, reason, bad):
    """The other objects of the frame are answered."""
    answer = talk.answer(frame(30, bad, ('duck', 20.0, 23.5, 30.0, 0.9, 'good')))
    assert [d.id for d in answer.detections] == ['good']
    node.wait_for_log(reason)


def test_a_low_score_is_ignored_once_that_is_asked_for(talk):
    """min_detection_score may change while the node runs; policy may not."""
    low = frame(40, ('duck', 20.0, 23.5, 30.0, 0.2))
    assert len(talk.answer(low).detections) == 1
    assert talk.set_parameter('min_detection_score', 0.5).successful
    low[0].header.stamp.sec = low[1].header.stamp.sec = low[2].header.stamp.sec = 41
    assert talk.answer(low).detections == []
    assert talk.set_parameter('min_detection_score', 0.0).successful
    refused = talk.set_parameter('policy', 'lossless')
    assert not refused.successful
    assert 'policy' in refused.reason


def test_of_too_many_detections_the_best_are_answered(talk):
    """A detector gone wild costs neither minutes nor all memory, and /diagnostics tells of it."""
    objects = [('duck', 20.0 + i / 50, 23.5, 30.0, (i * 7 % 1000) / 1000, str(i))
               for i in range(1000)]
    answer = talk.answer(frame(42, *objects, ('teapot',)))
    best = sorted(objects, key=lambda o: -o[4])[:100]
    assert {d.id for d in answer.detections} == {o[5] for o in best}
    assert [int(d.id) for d in answer.detections] == sorted(int(d.id) for d in answer.detections)
    told = talk.diagnosis('poses', '900 detections too_many')
    assert '1000 known objects' in told.message and 'max_detections' in told.message
    assert talk.set_parameter('max_detections', 1).successful
    assert len(talk.answer(frame(43, *objects[:3])).detections) == 1
    assert talk.set_parameter('max_detections', 100).successful


def test_a_rectified_image_is_read_as_one_once_that_is_said(talk):
    """With the focal length of P instead of K; image_rectified may change at run time."""
    for rectified, depth_m in ((True, 1.0), (False, 2.0)):
        assert talk.set_parameter('image_rectified', rectified).successful
        image, info, boxes = frame(47 - rectified, ('duck',))
        info.p = [300.0, 0.0, 31.5, 0.0, 0.0, 300.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
        answer = talk.answer((image, info, boxes))
        assert answer.detections[0].results[0].pose.pose.position.z == pytest.approx(depth_m)


def test_without_a_frame_nothing_is_sent_to_tf_and_that_is_told(talk, node):
    """The poses come all the same, for those who know the camera."""
    messages = frame(48, ('duck',))
    for message in messages:
        message.header.frame_id = ''
    assert len(talk.answer(messages).detections) == 1
    assert '/tf' in node.wait_for_log('dropped (no_frame_id)')
    talk.diagnosis('poses', '1 detections no_frame_id')
    assert talk.transforms == []


def test_a_frame_is_named_as_tf2_looks_it_up(talk):
    """Without the slash that drivers from ROS 1 put in front."""
    messages = frame(49, ('duck',))
    for message in messages:
        message.header.frame_id = '/camera_optical'
    assert talk.answer(messages).header.frame_id == 'camera_optical'
    assert talk.spin(lambda: talk.transforms and talk.poses)
    assert talk.transforms[0].header.frame_id == 'camera_optical'
    assert talk.poses[0].header.frame_id == 'camera_optical'


def test_a_poor_pose_is_withheld_once_that_is_asked_for(talk, node):
    """From all topics, and counted; min_pose_score may change while the node runs."""
    duck = ('duck', 20.0)
    assert talk.set_parameter('min_pose_score', 0.76).successful
    assert talk.answer(frame(52, duck)).detections == []
    assert "'duck' has score 0.75" in node.wait_for_log('dropped (low_pose_score)')
    assert talk.set_parameter('min_pose_score', 0.74).successful
    assert len(talk.answer(frame(53, duck)).detections) == 1
    assert talk.set_parameter('min_pose_score', 0.0).successful
    assert talk.spin(lambda: talk.poses and talk.transforms)
    assert {p.header.stamp.sec for p in talk.poses} == {53}
    assert {t.header.stamp.sec for t in talk.transforms} == {53}


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


def test_stamps_may_differ_by_the_slop():
    """With sync_slop_s the nearest messages belong together; the answer has the image's stamp."""
    with ready_node(4, 'sync_slop_s:=0.02') as (_, client):
        messages = frame(5, ('duck',))
        messages[2].header.stamp.nanosec = 10_000_000
        answered = client.answer(messages)
    assert len(answered.detections) == 1


def test_compressed_images_are_answered_when_asked_for():
    """A PNG or JPEG arrives under the same topic name with another type; rubbish is counted."""
    import cv2
    import numpy as np
    from sensor_msgs.msg import CompressedImage

    _, info, boxes = frame(5, ('duck',))
    png = cv2.imencode('.png', np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    good = CompressedImage(header=info.header, format='png', data=png)
    _, bad_info, bad_boxes = frame(4, ('duck',))
    bad = CompressedImage(header=bad_info.header, format='png', data=png[:40])
    with double_node(own_domain(5), 'image_transport:=compressed') as process:
        process.wait_for_log('ready')
        client = Client(own_domain(5), compressed=True)
        client.connect()
        client.send(bad, bad_info, bad_boxes)
        process.wait_for_log('dropped (bad_image)')
        answered = client.answer((good, info, boxes))
        client.close()
        assert process.stop() == 0
    assert len(answered.detections) == 1


def test_the_lifecycle_can_be_driven_from_outside():
    """Nothing is answered while inactive, but the model is kept; cleanup frees it."""
    from lifecycle_msgs.msg import Transition

    with double_node(own_domain(6), 'autostart:=false') as process:
        client = Client(own_domain(6))
        assert client.transition(Transition.TRANSITION_CONFIGURE)
        for second in (1, 2):
            assert client.transition(Transition.TRANSITION_ACTIVATE)
            client.connect()
            assert client.answer(frame(second, ('duck',))) is not None
            assert client.transition(Transition.TRANSITION_DEACTIVATE)
            assert not client.is_answered(frame(second + 10, ('duck',)), 0.5)
        assert 'freed' not in process.log()
        assert client.transition(Transition.TRANSITION_CLEANUP)
        process.wait_for_log('the estimator was freed')
        assert client.transition(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
        assert values(client.diagnosis('model', 'finalized'))['state'] == 'finalized'
        client.close()
        assert process.stop() == 0
        assert 'Traceback' not in process.log()


def test_a_node_recovers_from_a_transition_that_failed_half_way(tmp_path):
    """It is unconfigured then, says why, and can be started again."""
    from lifecycle_msgs.msg import Transition

    program = tmp_path / 'fails_once.py'
    program.write_text(f'''
import runpy, sys
from mrcnet_ros.ros import listening

original = listening.InputSynchronizer

def fail_once(*args):
    listening.InputSynchronizer = original
    raise RuntimeError('the middleware had a bad day')

listening.InputSynchronizer = fail_once
runpy.run_path({STAND_IN!r}, run_name='__main__')
''')
    domain = own_domain(7)
    with NodeProcess([str(program), '--ros-args', '-p', 'autostart:=false'], domain) as process:
        client = Client(domain)
        assert client.transition(Transition.TRANSITION_CONFIGURE)
        assert not client.transition(Transition.TRANSITION_ACTIVATE)
        process.wait_for_log('the middleware had a bad day')
        process.wait_for_log('the estimator was freed')
        told = client.diagnosis('model', 'the middleware had a bad day')
        assert (told.level, values(told)['state']) == (b'\x02', 'unconfigured')
        assert 'objects' not in values(told), 'nothing is loaded any more'
        assert client.transition(Transition.TRANSITION_CONFIGURE)
        assert client.transition(Transition.TRANSITION_ACTIVATE)
        client.connect()
        assert client.answer(frame(1, ('duck',))) is not None
        client.close()
        assert process.stop() == 0


def test_intrinsics_may_change_from_frame_to_frame(talk):
    """A zoom lens, or another resolution; each image is seen with its own camera_info."""
    depths = [talk.answer(frame(60 + i, ('duck',), focal=focal, size=size)).detections[0]
              .results[0].pose.pose.position.z
              for i, (focal, size) in enumerate([(600.0, (64, 48)), (300.0, (64, 48)),
                                                 (300.0, (32, 24)), (600.0, (64, 48))])]
    assert depths == pytest.approx([2.0, 1.0, 1.0, 2.0])


def test_large_best_effort_images_arrive_with_the_profile_for_fast_dds():
    """A camera and the node in processes of their own, each with config/fastdds.xml."""
    root = Path(__file__).parents[2]
    profile = {'FASTDDS_DEFAULT_PROFILES_FILE': str(root / 'config/fastdds.xml')}
    domain = own_domain(8)
    with NodeProcess([STAND_IN, '--ros-args'], domain, profile) as process:
        process.wait_for_log('ready')
        client = Client(domain)
        with NodeProcess([LARGE_CAMERA, '1280', '720'], domain, profile):
            assert client.spin(lambda: len(client.answers) >= 5)
        client.close()
        assert process.stop() == 0


@pytest.mark.parametrize(('parameters', 'words'), [
    (['sync_slop_s:=-1.0'], ['sync_slop_s']),
    (['threads:=many'], ['threads']),
    (['policy:=fastest'], ['policy', 'latest, lossless']),
    (['policy:=lossless'], ['input_reliability', 'reliable']),
])
def test_parameters_that_cannot_be_used_end_the_start_with_their_name(parameters, words):
    """Exit code 2, no traceback."""
    with double_node(own_domain(4), *parameters) as process:
        assert process.wait() == 2
        log = process.log()
    assert all(word in log for word in words)
    assert 'Traceback' not in log


@pytest.mark.parametrize(('number', 'times'), [(signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_a_signal_ends_the_node_cleanly(number, times):
    """Also when it arrives twice."""
    with double_node(own_domain(4)) as process:
        process.wait_for_log('ready')
        assert process.stop(number, times) == 0
        assert 'Traceback' not in process.log()
        assert 'answered 0 frames' in process.log()


def test_a_signal_ends_a_node_that_is_still_loading():
    """Rendering templates for the first time may take minutes."""
    with double_node(own_domain(4), slow=True) as process:
        process.wait_for_log('loading')
        assert process.stop() == 0


def test_a_signal_ends_a_node_that_was_told_to_load():
    """Also when a lifecycle manager asked for it."""
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    with double_node(own_domain(4), 'autostart:=false', slow=True) as process:
        client = Client(process.domain)
        client.call_async(ChangeState, 'change_state', ChangeState.Request(
            transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
        client.spin(lambda: any('loading' in line for line in process.lines))
        assert process.stop() == 0
        client.close()


def test_the_shipped_parameter_file_states_the_defaults():
    """All but model and meshes, which only the user knows."""
    path = Path(__file__).parents[2] / 'config/pose_node.yaml'
    stated = yaml.safe_load(path.read_text())['/**']['ros__parameters']
    defaults = dataclasses.asdict(NodeParameters())
    del defaults['model'], defaults['meshes']
    assert stated == {name: list(value) if isinstance(value, tuple) else value
                      for name, value in defaults.items()}


def test_a_model_that_is_not_there_is_told_with_its_name(tmp_path):
    """By the real loader, in the log and on /diagnostics; the node waits for another."""
    command = ['-m', 'mrcnet_ros.cli.main', 'node', '--ros-args', '-p', f'model:={tmp_path}/gone']
    with NodeProcess(command, own_domain(4)) as process:
        assert 'configure and activate' in process.wait_for_log('has not started')
        client = Client(process.domain)
        told = client.diagnosis('model', f'{tmp_path}/gone')
        assert (told.level, values(told)['state']) == (b'\x02', 'unconfigured')
        client.close()
        assert process.stop() == 0
    assert f'{tmp_path}/gone' in process.log()
    assert 'Traceback' not in process.log()
