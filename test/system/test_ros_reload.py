"""~/set_model: another model while the node runs, all or nothing."""

import itertools
import signal
import threading
import time

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

import rclpy
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from ros_client import Client, node_fixture, values
from ros_frames import frame
from ros_process import WAIT_S, double_node, environment, own_domain
from stand_in_node import BoxEstimator

from mrcnet_ros.ros.frame_queue import FrameQueue
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.node_process import start
from mrcnet_ros.ros.parameter_changes import reloaded_parameters
from mrcnet_ros.ros.pose_node import PoseNode

node = node_fixture(70, 'policy:=lossless', 'input_reliability:=reliable')
SECONDS = itertools.count(1)  # time never goes back


@pytest.fixture
def client(node):
    """Connect to the node, and give it its first model back afterwards."""
    client = Client(node.domain)
    client.connect()
    yield client
    assert client.set_model(model='boxes').successful
    client.close()


def _depth(answer):
    return answer.detections[0].results[0].pose.pose.position.z


def test_no_frame_is_lost_while_models_are_swapped(client, tmp_path):
    """Each is answered once, in order, by the old model and from some frame on by the new one.

    Frames are waiting when the models change places: the estimator needs 0.3 s for a can.
    """
    gate = tmp_path / 'gate'
    future, number = client.set_model_async(model=f'far:{gate}'), 3
    assert client.spin(gate.exists)
    start = next(SECONDS)
    for second in range(number):  # loading does not hold them up
        client.answer(frame(start + second, ('can',)))
    told = lambda: values(client.status['model']).get('loading')  # noqa: E731
    assert client.spin(lambda: told() == 'drawing the far ducks'), '/diagnostics is silent'
    gate.unlink()
    while not future.done():
        client.send(*frame(start + number, ('can',)))
        number += 1
        client.spin(lambda count=number: len(client.answers) > count - 4)
    assert future.result().result.successful
    client.send(*frame(start + number, ('can',)))
    assert client.spin(lambda: len(client.answers) == number + 1)
    assert [a.header.stamp.sec - start for a in client.answers] == list(range(number + 1))
    for _ in range(number):
        next(SECONDS)
    depths = [round(_depth(a), 6) for a in client.answers]
    assert (depths[0], depths[-1]) == (4.0, 8.0)
    assert depths == sorted(depths) and set(depths) == {4.0, 8.0}
    client.status.clear()
    assert values(client.diagnosis('model', 'active with far'))['model'] == 'far'
    names = client.call(GetParameters, 'get_parameters', GetParameters.Request(names=['model']))
    assert names.values[0].string_value == f'far:{gate}'


@pytest.mark.parametrize(('name', 'value', 'words'), [
    ('model', 'bad', ['bad', 'it is damaged']),
    ('policy', 'latest', ['policy', 'does not belong to the model', 'meshes']),
    ('model', 3, ['model', '3', 'str']),
    ('cache_mb', -3, ['cache_mb', '-3', '65536']),
])
def test_what_cannot_be_used_is_refused_and_nothing_changes(client, name, value, words):
    """The reason comes as the answer; frames go on being answered by the old model."""
    result = client.set_model(**{name: value})
    assert not result.successful
    assert all(word in result.reason for word in words), result.reason
    assert _depth(client.answer(frame(next(SECONDS), ('duck',)))) == pytest.approx(2.0)


def test_the_old_model_never_meets_the_new_label_map(monkeypatch):
    """Not even in the moment when the parameters have changed and the workers have not."""
    for name, text in environment(own_domain(73)).items():
        monkeypatch.setenv(name, text)
    rclpy.init()
    node = PoseNode(lambda parameters: BoxEstimator())
    node.set_parameters([Parameter('label_map', value=['thing=duck'])])
    answers, seconds = [], itertools.count(1)
    monkeypatch.setattr(
        node._frame_publishers, 'publish', lambda answer, **_: answers.append(answer))

    def answer(_=None):
        count = len(answers)
        node._listening.queue.put(Frame(*frame(next(seconds), ('thing',))))
        end = time.monotonic() + WAIT_S
        while len(answers) == count and time.monotonic() < end:
            time.sleep(0.01)

    try:
        assert start(node)
        node.add_post_set_parameters_callback(answer)
        changes = [Parameter('label_map', value=['thing=can'])]
        worker = node._load_beside(reloaded_parameters(node.parameters, changes))
        worker.loaded.result()
        node._swap(worker, changes)
        answer()
        labels = [[e.label for e in a.scene.estimates] for a in answers]
        assert labels == [['duck'], ['can']]
        assert answers[0].handler is not answers[1].handler
    finally:
        node.close()
        node.destroy_node()
        rclpy.shutdown()


def test_two_requests_at_once_do_not_meet(client, tmp_path):
    """The second waits for the first; its failure does not undo it."""
    gate = tmp_path / 'gate'
    first = client.set_model_async(model=f'far:{gate}')
    assert client.spin(gate.exists)
    second = client.set_model_async(model='bad')
    assert not client.spin(second.done, 0.3)
    gate.unlink()
    assert 'damaged' in client.result(second).result.reason
    assert client.result(first).result.successful
    assert _depth(client.answer(frame(next(SECONDS), ('duck',)))) == pytest.approx(4.0)


def test_the_parameter_itself_is_refused_with_the_way_to_go(client):
    """Because a model cannot be loaded in the time a parameter may take."""
    assert '~/set_model' in client.set_parameter('model', 'far').reason


def test_a_node_that_is_not_configured_has_no_model_to_replace():
    """Parameters can be set directly then."""
    domain = own_domain(71)
    with double_node(domain, 'autostart:=false') as process:
        client = Client(domain)
        assert 'not configured' in client.set_model(model='far').reason
        client.close()
        assert process.stop() == 0


def test_a_request_that_cannot_be_read_is_answered(client):
    """With the reason; a client would wait for ever, and so would those after it."""
    request = SetParametersAtomically.Request(parameters=[ParameterMessage(name='model')])
    request.parameters[0].value.type = 99
    result = client.call(SetParametersAtomically, 'set_model', request).result
    assert not result.successful
    assert '99' in result.reason


def test_a_node_that_was_configured_anew_meanwhile_keeps_its_model(tmp_path):
    """What was loaded is for the parameters that it had before."""
    domain = own_domain(72)
    with double_node(domain) as process:
        process.wait_for_log('ready')
        client = Client(domain)
        gate = tmp_path / 'gate'
        future = client.set_model_async(model=f'far:{gate}')
        assert client.spin(gate.exists)
        for number in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP,
                       Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            assert client.transition(number)
        gate.unlink()
        assert 'cleaned up' in client.result(future).result.reason
        client.connect()
        assert _depth(client.answer(frame(1, ('duck',)))) == pytest.approx(2.0)
        client.close()
        assert process.stop() == 0


def test_a_signal_ends_a_node_that_is_loading_another_model():
    """Without waiting for it."""
    domain = own_domain(72)
    with double_node(domain) as process:
        process.wait_for_log('ready')
        client = Client(domain)
        client.set_model_async(model='endless')
        process.wait_for_log('loading the ducks')
        assert process.stop(signal.SIGTERM) == 0
        client.close()


def test_a_queue_that_is_handed_on_loses_nothing():
    """The old reader is sent away, the new one gets what waits."""
    queue, got = FrameQueue(3, replace=False), []
    queue.hand_to('old')
    reader = threading.Thread(target=lambda: got.append(queue.get('old')))
    reader.start()
    queue.hand_to('new')
    reader.join(WAIT_S)
    assert got == [None]
    queue.put(1)
    assert queue.get('old') is None
    assert queue.get('new') == 1
