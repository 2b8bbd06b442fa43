"""Ends and faults of the process: what is told apart, and what is told at all."""

import threading
import time
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

import rclpy
from lifecycle_msgs.srv import GetState
from rcl_interfaces.msg import SetParametersResult
from rclpy.action import ActionClient, ActionServer
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_client import ready_node
from ros_frames import frame
from ros_process import WAIT_S, environment, own_domain
from stand_in_node import DIAMETERS_M, BoxEstimator
from std_msgs.msg import Header
from tf2_msgs.action import LookupTransform

from mrcnet_ros.ros import node_process, pose_node
from mrcnet_ros.ros.confirm_action import ConfirmAction, _Request
from mrcnet_ros.ros.confirmation import Confirmation
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frame_queue import FrameQueue
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.pose_node import PATIENCE_S, PoseNode
from mrcnet_ros.ros.worker import Worker


@pytest.fixture
def ros(monkeypatch):
    """Start ROS in this process, with a context of its own."""
    for name, value in environment(own_domain(70)).items():
        monkeypatch.setenv(name, value)
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def node(ros):
    """Return a node that is spun with nothing but counters."""
    node = rclpy.create_node('ends')
    node.drop_counters, node.confirm_action = DropCounters(Mock()), Mock(owes=False)
    yield node
    node.destroy_node()


def spun(node, done):
    """Spin a node until something is done, and return whether it is."""
    stop = threading.Event()
    thread = threading.Thread(target=node_process.spin, args=(
        node, stop, node.drop_counters, node.confirm_action))
    thread.start()
    soon(done)
    stop.set()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    return bool(done())


def soon(done):
    """Wait until something is done, and return whether it is."""
    end = time.monotonic() + WAIT_S
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(done())


def test_a_context_that_others_shut_down_ends_the_loop(node):
    """It would go round for ever, counting errors."""
    thread = threading.Thread(target=node_process.spin, args=(
        node, threading.Event(), node.drop_counters, node.confirm_action))
    thread.start()
    rclpy.shutdown()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert node.drop_counters.counts() == {}


def test_a_fault_of_ours_is_no_bad_message(node, monkeypatch):
    """It is counted as what it is each time, and its traceback is told once."""
    def fault():
        raise ValueError('a slip of ours')

    log = Mock()
    monkeypatch.setattr(node, 'get_logger', lambda: log)
    node.create_timer(0.01, fault)
    assert spun(node, lambda: node.drop_counters.counts().get('faults', 0) >= 3)
    assert set(node.drop_counters.counts()) == {'faults'}
    text, = (call.args[0] for call in log.error.call_args_list)
    assert 'a slip of ours' in text and 'in fault' in text


@pytest.mark.parametrize('gated', [True, False])
def test_a_message_that_cannot_be_taken_is_a_bad_one(node, monkeypatch, gated):
    """It is counted as such; neither its topic nor what shares its group is deaf afterwards."""
    from mrcnet_ros.ros.gate import Gate

    got = []
    subscription = node.create_subscription(
        Header, 'topic', got.append, 10, callback_group=Gate(lambda: True) if gated else None)
    publisher = node.create_publisher(Header, 'topic', 10)
    node.create_timer(0.05, lambda: publisher.publish(Header()))
    subscription.msg_type = object  # as if it could not be read
    assert spun(node, lambda: node.drop_counters.counts().get('bad_message'))
    assert set(node.drop_counters.counts()) == {'bad_message'}
    subscription.msg_type = Header
    assert spun(node, lambda: got)


@pytest.mark.parametrize('kind', ['service', 'action'])
def test_a_request_that_cannot_be_taken_leaves_the_service_open(node, monkeypatch, kind):
    """It is told, is neither a frame nor a fault, and the next request is answered."""
    if kind == 'service':
        server = node.create_service(GetState, 'ask', lambda request, response: response)
        client, name = node.create_client(GetState, 'ask'), 'srv_type'
        ready, ask = client.service_is_ready, lambda: client.call_async(GetState.Request())
    else:
        server = ActionServer(node, LookupTransform, 'ask', lambda goal: LookupTransform.Result())
        client, name = ActionClient(node, LookupTransform, 'ask'), '_action_type'
        ready, ask = client.server_is_ready, lambda: client.send_goal_async(LookupTransform.Goal())
    log = Mock()
    monkeypatch.setattr(node, 'get_logger', lambda: log)
    assert spun(node, ready)
    readable = getattr(server, name)
    setattr(server, name, object)  # as if it could not be read
    answer = ask()
    assert spun(node, lambda: log.warning.called)
    setattr(server, name, readable)
    assert spun(node, answer.done)
    assert node.drop_counters.counts() == {}
    if kind == 'action':
        client.destroy()
        server.destroy()


def test_parameters_that_another_refuses_do_not_take_effect(ros):
    """Whichever callback is asked first."""
    node = PoseNode(Mock())
    try:
        refuse = Mock(return_value=SetParametersResult(successful=False, reason='no'))
        node.remove_on_set_parameters_callback(node._on_parameters)
        node.add_on_set_parameters_callback(refuse)
        node.add_on_set_parameters_callback(node._on_parameters)
        change = [Parameter('max_detections', value=7)]
        assert not node.set_parameters(change)[0].successful
        assert refuse.called and node.parameters.max_detections == 100
        node.remove_on_set_parameters_callback(refuse)
        assert node.set_parameters(change)[0].successful
        assert node.parameters.max_detections == 7
    finally:
        node.close()
        node.destroy_node()


class Hanging:
    """An active node whose estimator hangs in a frame or when it is closed, until released."""

    def __init__(self, gate, where):
        self.stop, self._go_on, self._gate = threading.Event(), threading.Event(), gate
        estimator = BoxEstimator()
        if where == 'close':
            estimator.close = self._go_on.wait
        self.node = PoseNode(lambda _: estimator, self.stop)
        assert node_process.start(self.node)
        if where == 'frame':
            self.node._listening._on_frame(Frame(
                *frame(1, ('duck', 31.5, 23.5, 30.0, 0.9, f'hold:{gate}'))))
            assert soon(gate.exists)

    def release(self):
        self._gate.unlink(missing_ok=True)
        self._go_on.set()


@pytest.mark.parametrize('where', ['frame', 'close'])
def test_an_estimator_that_hangs_does_not_hold_up_the_end(ros, tmp_path, where):
    """The node has given up after a few seconds, and tells that a thread is still at work."""
    hanging = Hanging(tmp_path / 'gate', where)
    try:
        hanging.stop.set()
        start = time.monotonic()
        hanging.node.close()
        assert PATIENCE_S <= time.monotonic() - start < PATIENCE_S + WAIT_S
        assert hanging.node.is_at_work
        hanging.release()
        assert soon(lambda: not hanging.node.is_at_work)
    finally:
        hanging.release()
        hanging.node.destroy_node()


def test_a_node_that_waits_for_its_last_frame_says_so(ros, tmp_path, monkeypatch):
    """Nobody would learn otherwise why it is not deactivated; its inputs are not blamed."""
    monkeypatch.setattr(pose_node, 'WAIT_S', 0.01)
    monkeypatch.setattr(pose_node, 'DIAGNOSTICS_PERIOD_S', 0.05)
    hanging, told = Hanging(tmp_path / 'gate', 'frame'), []
    node = hanging.node
    try:
        assert node.set_parameters_atomically([
            Parameter('warn_age_s', value=0.1), Parameter('error_age_s', value=0.1)]).successful

        def publish(message):
            told.append({s.name.removeprefix('pose_node: '): s for s in message.status})
            if 'one frame has taken' in told[-1]['poses'].message:
                hanging.release()

        monkeypatch.setattr(node._reporter, '_publisher', Mock(publish=publish))
        assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        # the thread may be reported once more when it has answered and not yet ended
        *_, meanwhile = (t for t in told if 'one frame has taken' in t['poses'].message)
        last = told[-1]
        assert 'the node is stopping' in meanwhile['model'].message
        assert meanwhile['inputs'].level == b'\x00' < meanwhile['poses'].level
        assert 'inactive' in last['model'].message and last['poses'].level == b'\x00'
    finally:
        hanging.release()
        node.close()
        node.destroy_node()


@pytest.mark.parametrize('at_work', [False, True])
def test_the_process_does_not_wait_for_a_thread_that_is_at_work(monkeypatch, at_work):
    """Python would, for ever."""
    left, node = Mock(), Mock(is_at_work=at_work, parameters=NodeParameters())
    node.get_fully_qualified_name.return_value = '/pose_node'
    for name in ('start_ros', 'start', 'spin', 'check_command_line'):
        monkeypatch.setattr(node_process, name, Mock())
    monkeypatch.setattr(node_process.signal, 'signal', Mock())
    monkeypatch.setattr(node_process, 'leave_now', left)
    assert node_process.run_node([], lambda stop: node) == 0
    assert left.called is at_work


@pytest.mark.parametrize(('number', 'parameters'), [
    (71, ()), (72, ('policy:=lossless', 'input_reliability:=reliable', 'queue:=1'))])
def test_over_dds_a_worker_that_hangs_is_told(tmp_path, number, parameters):
    """While it hangs, and the frames that wait behind it are answered afterwards."""
    with ready_node(number, 'warn_age_s:=0.5', 'error_age_s:=0.5', *parameters) as (_, client):
        gate = tmp_path / 'gate'
        client.send(*frame(1, ('duck', 31.5, 23.5, 30.0, 0.9, f'hold:{gate}')))
        assert client.spin(gate.exists)
        told = client.diagnosis('poses', 'one frame has taken')
        assert told.level == b'\x02'
        assert not client.answers
        for second in range(2, 8):
            client.send(*frame(second, ('duck',)))
        gate.unlink()
        assert client.spin(lambda: client.answers and client.answers[-1].header.stamp.sec == 7)


def test_markers_that_cannot_be_taken_back_do_not_spoil_the_end():
    """The context may be gone already; the exit code is about more than markers."""
    worker = Worker(Mock(), Mock(), Mock(return_value=Mock(objects={})))
    worker.loaded.result()
    worker._pictures.close()
    worker._pictures = Mock(take_back=Mock(side_effect=RuntimeError('the context is invalid')))
    queue = FrameQueue(1, replace=True)
    worker.start(queue)
    queue.close()
    worker.answering.result(WAIT_S)
    worker._pictures.take_back.assert_called_once_with()
    worker.close()


def test_a_confirmed_pose_is_published_before_it_is_answered(ros, monkeypatch):
    """Who has the answer can rely on the covariance being on its way."""
    node, handler = rclpy.create_node('confirms'), FrameHandler(
        BoxEstimator(), dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))), Mock(), compressed=False)
    parameters = NodeParameters(confirm_frames=2)
    action = ConfirmAction(node, lambda: parameters)
    action.start(handler)
    goal = Mock(request=LookupTransform.Goal(source_frame='duck'), is_cancel_requested=False)
    request = _Request(goal, handler, Confirmation('duck', 0, handler.objects), float('inf'))
    action._waiting.append(request)
    answered = []
    monkeypatch.setattr(
        action, 'publisher', Mock(publish=lambda _: answered.append(request.outcome)))
    for second in (1, 2):
        action.see(handler.answer(Frame(*frame(second, ('duck',))), parameters), parameters)
    assert answered == [None] and request.outcome.child_frame_id == 'duck'
    node.destroy_node()


def test_a_node_that_is_cleaned_up_listens_to_nothing(ros):
    """Neither to its inputs nor to /tf, however often it was started and with what."""
    node = PoseNode(lambda _: BoxEstimator())
    try:
        before = len(list(node.subscriptions))
        for changes in ({'track': True, 'track_frame': 'map', 'support_plane': 'table'},
                        {'track': False}):
            assert node.set_parameters_atomically(
                [Parameter(name, value=value) for name, value in changes.items()]).successful
            for step in ('configure', 'activate', 'deactivate', 'activate', 'deactivate',
                         'cleanup'):
                getattr(node, f'trigger_{step}')()
            assert len(list(node.subscriptions)) == before
    finally:
        node.close()
        node.destroy_node()
