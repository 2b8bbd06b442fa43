"""How the node starts and ends: parameters, transitions, signals."""

import dataclasses
import signal
from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_client import Client, values
from ros_frames import frame
from ros_process import STAND_IN, NodeProcess, double_node, own_domain

from mrcnet_ros.ros.params import NodeParameters


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
