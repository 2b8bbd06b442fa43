"""Parameters and services as the tools of ROS use them: dumps, misspelt names, absurd requests."""

import array
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import (
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.parameter import (
    Parameter,
    parameter_dict_from_yaml_file,
    parameter_value_to_python,
)
from ros_client import Client, node_fixture, values
from ros_frames import frame
from ros_process import WAIT_S, double_node, environment, own_domain

from mrcnet_ros.errors import SpecError
from mrcnet_ros.ros import estimator_loading
from mrcnet_ros.ros.parameter_changes import changed_parameters
from mrcnet_ros.ros.parameter_node import ParameterNode
from mrcnet_ros.ros.parameter_values import for_ros
from mrcnet_ros.ros.params import NodeParameters

node = node_fixture(110, 'use_sim_time:=false')


def _dump(client):
    """Return all parameters of the node as messages, as ``ros2 param dump`` reads them."""
    names = client.call(ListParameters, 'list_parameters',
                        ListParameters.Request()).result.names
    told = client.call(GetParameters, 'get_parameters', GetParameters.Request(names=names)).values
    return [ParameterMessage(name=n, value=v) for n, v in zip(names, told, strict=True)]


def test_over_dds_a_node_takes_its_own_dump(client):
    """Each parameter may be set to the value it has, one by one or at once."""
    dump = _dump(client)
    assert {p.name for p in dump} >= {'model', 'autostart', 'queue', 'use_sim_time'}
    results = client.call(SetParameters, 'set_parameters',
                          SetParameters.Request(parameters=dump)).results
    refused = {p.name: r.reason for p, r in zip(dump, results, strict=True) if not r.successful}
    assert refused == {}
    result = client.call(SetParametersAtomically, 'set_parameters_atomically',
                         SetParametersAtomically.Request(parameters=dump)).result
    assert result.successful, result.reason


def test_over_dds_a_node_takes_its_own_dump_as_the_tool_reads_it(client, tmp_path):
    """It reads text without its quotes: off as false, and 1e-05 as text."""
    assert client.set_parameter('confirm_spread_m', 1e-5).successful
    told = {p.name: parameter_value_to_python(p.value) for p in _dump(client)}
    file = tmp_path / 'dump.yaml'
    file.write_text(yaml.safe_dump({'/pose_node': {'ros__parameters': {
        name: value.tolist() if isinstance(value, array.array) else value
        for name, value in told.items()}}}))
    loaded = [*parameter_dict_from_yaml_file(str(file), target_nodes=['/pose_node']).values()]
    assert {p.name: p.value.type for p in loaded}['depth'] == ParameterType.PARAMETER_BOOL
    results = client.call(SetParameters, 'set_parameters',
                          SetParameters.Request(parameters=loaded)).results
    refused = {p.name: r.reason for p, r in zip(loaded, results, strict=True) if not r.successful}
    assert refused == {}
    assert {p.name: parameter_value_to_python(p.value) for p in _dump(client)} == told


@pytest.mark.parametrize(('before', 'after'), [
    ({}, {'detections_fit': 'letterbox', 'detections_size': [640, 640]}),
    ({'detections_fit': 'letterbox', 'detections_size': [640, 640]},
     {'detections_fit': 'stretch', 'detections_size': []}),
    ({}, {'error_age_s': 0.3, 'warn_age_s': 0.2}),
    ({'error_age_s': 0.3, 'warn_age_s': 0.2}, {'error_age_s': 2.0, 'warn_age_s': 0.5})])
def test_a_file_is_taken_whole_although_its_parameters_are_set_one_by_one(
        monkeypatch, before, after):
    """``ros2 param load`` sets them in the order of their names."""
    for name, value in environment(own_domain(112)).items():
        monkeypatch.setenv(name, value)
    rclpy.init()
    node = ParameterNode('loads')
    try:
        node.take_changes(
            lambda changes: changed_parameters(node.parameters, changes, configured=True))
        for given in (before, after):
            for name in sorted(given):
                result = node.set_parameters_atomically([Parameter(name, value=given[name])])
                assert result.successful, result.reason
        assert {name: for_ros(getattr(node.parameters, name)) for name in after} == after
        assert node.parameters.doubts() == []
    finally:
        node.destroy_node()
        rclpy.shutdown()


def test_over_dds_another_value_is_refused_as_before(client):
    """That the present value is taken does not open what is read at configuration."""
    assert client.set_parameter('queue', 10).successful
    refused = client.set_parameter('queue', 11)
    assert not refused.successful and 'run the transition cleanup first' in refused.reason
    refused = client.set_parameter('queue', 10.0)
    assert not refused.successful, 'another type is another value'


def test_over_dds_a_request_that_makes_a_handler_fail_is_answered(client):
    """With a refusal; it is no damaged frame."""
    absurd = ParameterMessage(name='queue', value=ParameterValue(type=77))
    for kind, name in ((SetParameters, 'set_parameters'),
                       (SetParametersAtomically, 'set_parameters_atomically')):
        response = client.call(kind, name, kind.Request(parameters=[absurd]))
        result = response.results[0] if kind is SetParameters else response.result
        assert not result.successful and '77' in result.reason
    for number in (Transition.TRANSITION_CONFIGURE, 200):
        assert not client.call(ChangeState, 'change_state', ChangeState.Request(
            transition=Transition(id=number))).success
    assert client.call(GetState, 'get_state', GetState.Request()).current_state.label == 'active'
    assert client.answer(frame(1, ('duck',))) is not None
    told = values(client.diagnosis('poses', 'poses'))
    assert told['dropped bad_message'] == '0'


def test_names_that_are_not_declared_are_told():
    """With the name that was probably meant; a file for several nodes is no error."""
    with double_node(own_domain(111), 'sync_slop:=0.1', 'arm_speed:=3', 'queue:=5',
                     'use_simtime:=true') as process:
        process.wait_for_log('ready')
        assert process.stop() == 0
        told = [line for line in process.lines if 'not declared' in line]
    assert len(told) == 3
    assert 'did you mean use_sim_time?' in told[2]
    assert 'sync_slop was given' in told[1] and 'did you mean sync_slop_s?' in told[1]
    assert 'arm_speed' in told[0] and 'no such parameter' in told[0]


def test_the_home_directory_may_be_written_as_a_tilde(monkeypatch, tmp_path):
    """In model, meshes and store: no shell expands what stands in a parameter file."""
    monkeypatch.setenv('HOME', str(tmp_path))
    loaded = {}

    def load(model, meshes, **options):
        loaded.update(options, model=model, meshes=meshes)
        return SimpleNamespace()

    monkeypatch.setattr('mrcnet_ros.presets.loading.load_any_estimator', load)
    estimator_loading.load_estimator(
        NodeParameters(model='~/model', meshes='~/meshes', store='~/store'))
    assert [loaded[name] for name in ('model', 'meshes', 'store_root')] == [
        tmp_path / name for name in ('model', 'meshes', 'store')]


def test_a_home_directory_that_is_not_there_is_told():
    """With the name of the parameter."""
    with pytest.raises(SpecError, match=r'parameter meshes.*no such home directory'):
        estimator_loading.load_estimator(NodeParameters(model='m', meshes='~nobody_by_name/x'))


def test_over_dds_every_status_comes_in_every_state():
    """An aggregator takes one that is missing for an error."""
    with double_node(own_domain(112), 'autostart:=false') as process:
        client = Client(process.domain)
        steps = [(None, 'unconfigured', 'none'),
                 (Transition.TRANSITION_CONFIGURE, 'inactive', 'boxes'),
                 (Transition.TRANSITION_ACTIVATE, 'active', 'boxes'),
                 (Transition.TRANSITION_DEACTIVATE, 'inactive', 'boxes'),
                 (Transition.TRANSITION_CLEANUP, 'unconfigured', 'none'),
                 (Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, 'finalized', 'none')]
        for transition, state, hardware in steps:
            assert transition is None or client.transition(transition)
            client.diagnosis('model', state)
            client.status.clear()
            reports = client.reports
            assert client.spin(lambda least=reports + 1: client.reports >= least)
            assert set(client.status) == {'model', 'inputs', 'poses', 'depth',
                                          'support_plane'}, state
            assert {s.hardware_id for s in client.status.values()} == {hardware}
            if state != 'active':
                assert state in client.status['inputs'].message
                assert client.status['inputs'].level == b'\x00'
            assert values(client.status['poses'])['frames'] == '0'
        client.close()
        assert process.stop() == 0


def _run(*words):
    """Run the node's program to its end."""
    return subprocess.run(
        [sys.executable, '-m', 'mrcnet_ros.ros.pose_node', *words], timeout=WAIT_S,
        capture_output=True, text=True, env=environment(own_domain(113)))


def test_the_program_helps():
    """With an example, every parameter and what it means, then it ends."""
    done = _run('--help')
    assert done.returncode == 0
    assert '--ros-args -p NAME:=VALUE' in done.stdout
    for name, parameter in NodeParameters.__dataclass_fields__.items():
        assert f'  {name}' in done.stdout
        assert parameter.metadata['description'].split()[0] in done.stdout


@pytest.mark.parametrize('words', [
    ['model:=DIR'], ['--model', 'DIR'], ['DIR'], ['-p', 'model:=DIR', '--ros-args']])
def test_words_that_would_count_for_nothing_are_refused(words):
    """With how parameters are given."""
    done = _run(*words)
    assert done.returncode == 2
    assert words[0] in done.stderr and '--ros-args -p NAME:=VALUE' in done.stderr


def test_simulated_time_that_is_no_boolean_is_refused():
    """In one line that names the parameter; yes is a boolean to ROS's parser."""
    done = _run('--ros-args', '-p', 'use_sim_time:=maybe')
    assert done.returncode == 2
    assert "'use_sim_time' to 'maybe'" in done.stderr and 'Traceback' not in done.stderr


def test_over_dds_yes_is_true():
    """As in YAML; the node waits for /clock then."""
    with double_node(own_domain(114), 'use_sim_time:=yes') as process:
        client = Client(process.domain)
        client.diagnosis('inputs', 'no /clock has come')
        client.close()
        assert process.stop() == 0
