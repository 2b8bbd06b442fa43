"""~/confirm_pose over DDS: one pose on which several frames agree, or why there is none."""

import itertools
import signal

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from lifecycle_msgs.msg import Transition
from ros_client import Client, node_fixture
from ros_frames import frame
from ros_process import WAIT_S, double_node, own_domain
from stand_in_node import SURE
from tf2_msgs.action import LookupTransform
from tf2_msgs.msg import TF2Error
from vision_msgs.msg import Detection3DArray

MS = 10**6
# lossless: poses alternate from frame to frame, and none may be left out
node = node_fixture(80, 'policy:=lossless', 'input_reliability:=reliable')


def _ask(client, source_frame='duck', timeout_s=WAIT_S, **fields):
    """Send a goal and return its handle."""
    timeout = Duration(sec=int(timeout_s), nanosec=round(timeout_s % 1 * 1e9))
    goal = LookupTransform.Goal(source_frame=source_frame, timeout=timeout, **fields)
    action = client.action(LookupTransform, 'confirm_pose')
    handle = client.result(action.send_goal_async(goal))
    assert handle.accepted
    return handle


def _answer(client, handle, frames=lambda number: None):
    """Send frames until a goal is finished and return its status and result."""
    future = handle.get_result_async()
    for number in range(1, 200):
        if not (messages := frames(number)):
            break
        client.answer(messages)
        if client.spin(future.done, 0.1):
            break
    answer = client.result(future)
    return answer.status, answer.result


STARTS = itertools.count(100, 20)  # time never goes back


def _ducks(*offsets_px, name=''):
    """Return a function that makes frames, with a duck that moves by the offsets in turn."""
    start = next(STARTS)

    def make(number):
        x = 31.5 + offsets_px[number % len(offsets_px)]
        messages = frame(1, ('teapot',), ('duck', x, 23.5, 30.0, 0.9, name))
        for message in messages:
            message.header.stamp.sec = start + number // 10
            message.header.stamp.nanosec = number % 10 * 10**8
        return messages
    return make


def test_over_dds_a_confirmed_pose_is_answered_with_its_spread(client):
    """As a transform of the newest frame, and as a detection with the covariance of both."""
    seen = []
    client.subscribe(Detection3DArray, 'confirmed_detections', seen.append)
    status, result = _answer(client, _ask(client), _ducks(-0.9, 0.9, name='sure'))
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert result.error.error == TF2Error.NO_ERROR
    assert (result.transform.header.frame_id, result.transform.child_frame_id) == (
        'camera_optical', 'duck')
    assert client.spin(lambda: seen)
    assert seen[-1].header == result.transform.header
    last = next(i for i, a in enumerate(client.answers) if a.header == seen[-1].header)
    positions = [a.detections[0].results[0].pose.pose.position
                 for a in client.answers[:last + 1]][-5:]
    x = np.array([p.x for p in positions])
    # 0.9 px at 2 m and 600 px of focal length are 3 mm
    assert len(x) == 5 and np.abs(x) == pytest.approx(0.003)
    hypothesis = seen[-1].detections[0].results[0]
    position, translation = hypothesis.pose.pose.position, result.transform.transform.translation
    assert (position.x, position.z) == (translation.x, translation.z)
    assert translation.z == pytest.approx(2.0)
    assert translation.x == pytest.approx(x.mean())
    covariance = np.array(hypothesis.pose.covariance).reshape(6, 6)
    assert covariance[0, 0] == pytest.approx(x.var(ddof=1) + SURE[0, 0])
    np.testing.assert_allclose(covariance[3:, 3:], SURE[3:, 3:], atol=1e-12)
    assert np.linalg.eigvalsh(covariance).min() > 0


@pytest.mark.parametrize(('smoothing_s', 'words'), [
    (0.0, ['not confirmed', '0.02', 'm']), (60.0, ['not confirmed'])])
def test_over_dds_poses_that_jump_are_not_confirmed(client, smoothing_s, words):
    """In the time given; smoothing does not hide how far they lie apart."""
    assert client.set_parameter('smoothing_s', smoothing_s).successful
    for timeout_s in (2.0, 8.0, 32.0):  # in which enough frames come, on most machines
        status, result = _answer(client, _ask(client, timeout_s=timeout_s), _ducks(-6.0, 6.0))
        if 'in a row' not in result.error.error_string:
            break
    assert client.set_parameter('smoothing_s', 0.0).successful
    assert status == GoalStatus.STATUS_ABORTED
    assert result.error.error == TF2Error.TIMEOUT_ERROR
    assert all(word in result.error.error_string for word in words), result.error.error_string


def test_over_dds_time_runs_out_when_nothing_is_seen(client):
    """The reason tells how many frames came."""
    status, result = _answer(client, _ask(client, timeout_s=0.5))
    assert status == GoalStatus.STATUS_ABORTED
    assert result.error.error == TF2Error.TIMEOUT_ERROR
    assert '0 frames came' in result.error.error_string


@pytest.mark.parametrize(('fields', 'code', 'words'), [
    ({'source_frame': 'teapot'}, TF2Error.LOOKUP_ERROR, ['teapot', 'brick, can, duck']),
    ({'timeout_s': 0.0}, TF2Error.INVALID_ARGUMENT_ERROR, ['timeout', '0 s']),
    ({'advanced': True}, TF2Error.INVALID_ARGUMENT_ERROR, ['fixed_frame', 'advanced']),
])
def test_over_dds_what_cannot_be_answered_is_refused_at_once(client, fields, code, words):
    """With the code of tf2's exceptions and the reason."""
    status, result = _answer(client, _ask(client, **fields))
    assert (status, result.error.error) == (GoalStatus.STATUS_ABORTED, code)
    assert all(word in result.error.error_string for word in words), result.error.error_string


def test_over_dds_another_target_frame_is_refused(client):
    """The node knows no transforms but its own."""
    _, result = _answer(client, _ask(client, target_frame='map'), _ducks(0.0))
    assert result.error.error == TF2Error.CONNECTIVITY_ERROR
    assert "'map'" in result.error.error_string and 'camera_optical' in result.error.error_string


def test_over_dds_another_target_frame_is_refused_without_a_wait(client):
    """By the first frame that comes, and at once where frames have been answered before."""
    waiting = _ask(client, target_frame='map', timeout_s=600.0)
    assert client.answer(_ducks(0.0)(1)) is not None
    for handle in (waiting, _ask(client, target_frame='map', timeout_s=600.0)):
        status, result = _answer(client, handle)
        assert status == GoalStatus.STATUS_ABORTED
        assert result.error.error == TF2Error.CONNECTIVITY_ERROR
        assert 'camera_optical' in result.error.error_string
    assert _answer(client, _ask(client, target_frame='camera_optical'), _ducks(0.0))[0] == (
        GoalStatus.STATUS_SUCCEEDED)


def test_over_dds_the_answer_says_where_its_covariance_is(client):
    """The action's type has no room for it: topic and stamp tell."""
    seen = []
    client.subscribe(Detection3DArray, 'confirmed_detections', seen.append)
    _, result = _answer(client, _ask(client), _ducks(0.0))
    assert '/confirmed_detections' in result.error.error_string
    assert client.spin(lambda: [m for m in seen if m.header == result.transform.header])


def test_over_dds_the_id_of_a_detection_asks_for_its_instance(client):
    """An object's id in object_detections, its frame in /tf and the answer belong together."""
    start = next(STARTS)

    def ducks(number):
        two = [('duck', 10.0, 23.5, 30.0, 0.9, '5'), ('duck', 50.0, 23.5, 30.0, 0.9, '777')]
        messages = frame(1, *(reversed(two) if number else two))  # of equal ones the first counts
        for message in messages:
            message.header.stamp.sec = start + number // 10
            message.header.stamp.nanosec = number % 10 * 10**8
        return messages

    def named(answer):
        """Return the frame in /tf that has the place of each id."""
        stamp = answer.header.stamp
        assert client.spin(lambda: [t for t in client.transforms if t.header.stamp == stamp][1:])
        frames = [t for t in client.transforms if t.header.stamp == stamp]
        return {d.id: t.child_frame_id for d, t in zip(answer.detections, frames, strict=True)}

    answer = client.answer(ducks(0))
    assert named(answer) == {'5': 'duck', '777': 'duck_2'}
    seen, numbers = [], itertools.count(1)
    client.subscribe(Detection3DArray, 'confirmed_detections', seen.append)
    for wanted, name, identity in (('777', 'duck_2', '777'), ('duck_2', 'duck_2', '777'),
                                   ('5', 'duck', '5'), ('duck', 'duck_2', '777')):
        handle = _ask(client, wanted)
        _, result = _answer(client, handle, lambda _: ducks(next(numbers)))
        assert result.transform.child_frame_id == name, result.error.error_string
        assert client.spin(lambda: seen)
        assert seen.pop().detections[0].id == identity
        assert (result.transform.transform.translation.x > 0.0) == (identity == '777')
    assert '778' in _answer(client, _ask(client, '778'))[1].error.error_string


def test_over_dds_an_id_that_two_objects_have_is_refused(client):
    """It would be a guess which of them is meant."""
    assert client.answer(frame(next(STARTS), ('duck', 10.0, 23.5, 30.0, 0.9, '9'),
                               ('brick', 50.0, 23.5, 30.0, 0.9, '9'))) is not None
    _, result = _answer(client, _ask(client, '9'))
    assert result.error.error == TF2Error.LOOKUP_ERROR
    assert "several objects of one image have the id '9'" in result.error.error_string


def test_over_dds_an_id_that_is_the_name_of_another_object_is_refused(client):
    """A detector that numbers its objects otherwise than /tf; the label means any of them."""
    assert client.answer(frame(next(STARTS), ('duck', 10.0, 23.5, 30.0, 0.9, 'duck_2'),
                               ('duck', 50.0, 23.5, 30.0, 0.9, 'duck_1'))) is not None
    _, result = _answer(client, _ask(client, 'duck_2'))
    assert result.error.error == TF2Error.LOOKUP_ERROR
    assert "may mean 'duck' or 'duck_2'" in result.error.error_string
    assert _answer(client, _ask(client), _ducks(0.0))[0] == GoalStatus.STATUS_SUCCEEDED


@pytest.mark.parametrize('wanted', ['duck', 'duduck', '/duduck'])
def test_over_dds_a_label_may_begin_with_the_prefix_of_frames(client, wanted):
    """What is asked for may have the prefix, and need not."""
    assert client.set_parameter('frame_prefix', 'du').successful
    try:
        _, result = _answer(client, _ask(client, wanted), _ducks(0.0))
        assert result.transform.child_frame_id == 'duduck', result.error.error_string
    finally:
        assert client.set_parameter('frame_prefix', '').successful


def test_over_dds_a_request_can_be_cancelled_and_another_goes_on(client):
    """Two clients do not disturb each other."""
    one, other = _ask(client, timeout_s=600.0), _ask(client, timeout_s=600.0)
    result = one.get_result_async()
    assert len(client.result(one.cancel_goal_async()).goals_canceling) == 1
    cancelled = client.result(result)
    assert cancelled.status == GoalStatus.STATUS_CANCELED
    assert cancelled.result.error.error != TF2Error.NO_ERROR
    assert _answer(client, other, _ducks(0.0))[0] == GoalStatus.STATUS_SUCCEEDED


def test_over_dds_a_request_does_not_mix_two_models(client):
    """It is refused when another model takes over, and the next one is for that."""
    waiting = _ask(client, timeout_s=600.0)
    client.send(*_ducks(0.0)(1))
    for model, depth_m in (('far', 4.0), ('boxes', 2.0)):
        assert client.set_model(model=model).successful
        status, result = _answer(client, waiting)
        assert status == GoalStatus.STATUS_ABORTED
        assert 'another model' in result.error.error_string
        status, result = _answer(client, _ask(client), _ducks(0.0))
        assert status == GoalStatus.STATUS_SUCCEEDED
        assert result.transform.transform.translation.z == pytest.approx(depth_m)
        waiting = _ask(client, timeout_s=600.0)
    client.result(waiting.cancel_goal_async())


def test_over_dds_a_node_that_is_not_active_says_so():
    """Also to those who wait when it is deactivated."""
    with double_node(own_domain(81), 'autostart:=false') as process:
        client = Client(process.domain)
        for number in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE,
                       Transition.TRANSITION_DEACTIVATE):
            if number == Transition.TRANSITION_DEACTIVATE:
                waiting = _ask(client, timeout_s=600.0)
            else:
                waiting = _ask(client)
                assert 'not active' in _answer(client, waiting)[1].error.error_string
            assert client.transition(number)
        status, result = _answer(client, waiting)
        assert (status, result.error.error) == (
            GoalStatus.STATUS_ABORTED, TF2Error.TRANSFORM_ERROR)
        assert 'not active' in result.error.error_string
        client.close()
        assert process.stop() == 0
        assert 'Traceback' not in process.log()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_over_dds_a_signal_does_not_wait_for_requests(number):
    """The node ends though somebody waits for frames, and tells them before it does."""
    with double_node(own_domain(82)) as process:
        process.wait_for_log('ready')
        client = Client(process.domain)
        client.connect()
        goals = [_ask(client, timeout_s=600.0) for _ in range(2)]
        futures = [goal.get_result_async() for goal in goals]
        # the requests for results were sent before this one, which is answered
        assert client.set_parameter('warn_age_s', 0.4).successful
        process.process.send_signal(number)
        for future in futures:
            answer = client.result(future)
            assert answer.status == GoalStatus.STATUS_ABORTED
            assert 'not active' in answer.result.error.error_string
        assert process.stop() == 0
        assert 'Traceback' not in process.log()
        client.close()


def test_over_dds_tf2_has_a_client_for_this(client):
    """Where tf2_ros is installed, its BufferClient asks, and raises what is answered."""
    tf2_ros = pytest.importorskip('tf2_ros')
    if not hasattr(tf2_ros, 'BufferClient'):
        pytest.skip('needs a ROS installation: the stand-in for tf2_ros has no BufferClient')
    import threading

    import rclpy.time
    from rclpy.duration import Duration as RclpyDuration

    asker = Client(client.node.context.get_domain_id())
    buffer = tf2_ros.BufferClient(asker.node, '/pose_node/confirm_pose')
    assert asker.spin(buffer.action_client.server_is_ready)
    asker.known()
    threading.Thread(target=asker.executor.spin, daemon=True).start()
    with pytest.raises(tf2_ros.LookupException, match='teapot'):
        buffer.lookup_transform('', 'teapot', rclpy.time.Time(), RclpyDuration(seconds=5))
    asker.close()
