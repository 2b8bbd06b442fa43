"""The tables of docs/ros_api.md say what the node has."""

import ast
import re
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_client import Client
from ros_process import double_node, own_domain

from mrcnet_ros.ros.messages import RGB_SOURCES
from mrcnet_ros.ros.parameter_help import parameter_table
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.statuses import Account, depth_status, pose_status, support_status

TESTS = Path(__file__).parents[1]
API = (TESTS.parent / 'docs' / 'ros_api.md').read_text(encoding='utf-8')
PROMISES = (TESTS / 'README.md').read_text(encoding='utf-8').partition('# What the node')[2]


def test_the_table_of_parameters_is_the_declaration():
    """Paste what parameter_table() returns when this fails."""
    assert parameter_table() in API


def test_every_encoding_of_images_is_on_the_page():
    """Who has another one finds there what to do."""
    assert [name for name in RGB_SOURCES if f'`{name}`' not in API] == []


def test_the_statuses_have_the_values_that_the_page_names():
    """A monitor reads them by these keys."""
    account = Account(1.0, {}, {}, {}, {'age': (0.0, 0.0, 0.0)})
    statuses = [pose_status(account, NodeParameters(), None), depth_status(account, 'auto', None),
                support_status(account, 'table', finds=True)]
    table = API[API.index('| status |'):]
    for status in statuses:
        row = re.findall(rf'^\| `{status.name}`.*\| (.+) \|$', table, re.MULTILINE)[0]
        keys = [key.replace('REASON', '') for key in re.findall('`([^`]+)`', row)]
        assert len(keys) > 1
        assert [k for k in keys if not any(name.startswith(k) for name in status.values)] == []


def _table():
    """Return message type and direction of each topic of the page."""
    rows = re.findall(r'^\| (in|out) \| `([^`]+)` \| (\w+)/(\w+)', API, re.MULTILINE)
    return {(direction, topic): f'{package}/msg/{name}'
            for direction, topic, package, name in rows}


def test_the_table_of_topics_is_what_the_node_has():
    """Every input and output with its type, and none that is not in the table."""
    usual = {'/rosout', '/parameter_events', '/pose_node/transition_event',
             '/pose_node/confirm_pose/_action/feedback', '/pose_node/confirm_pose/_action/status'}
    expected = {(direction, '/' + topic.lstrip('/').replace('~', 'pose_node')): kind
                for (direction, topic), kind in _table().items()}
    domain = own_domain(40)
    with double_node(domain, 'depth:=auto') as process:
        process.wait_for_log('ready')
        client = Client(domain)
        client.connect()
        # names of nodes come after the topics, in a message of their own
        assert client.spin(lambda: 'pose_node' in client.node.get_node_names())
        named = {'in': client.node.get_subscriber_names_and_types_by_node,
                 'out': client.node.get_publisher_names_and_types_by_node}

        def found():
            return {(direction, topic): types[0] for direction, ask in named.items()
                    for topic, types in ask('pose_node', '/') if topic not in usual}

        # the ends of the node are found one after the other
        client.spin(lambda: found() == expected)
        assert found() == expected
        client.close()
        assert process.stop() == 0


def _tests(module):
    (path,) = TESTS.rglob(f'{module}.py')
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return {f.name for f in tree.body if isinstance(f, ast.FunctionDef)}


def test_every_promise_has_tests_that_exist():
    """A row without a test is a promise that nobody keeps."""
    rows = [line.split('|')[1:3] for line in PROMISES.splitlines()
            if line.startswith('| ') and not line.startswith('| promise')]
    assert len(rows) > 20
    for promise, tests in rows:
        named = re.findall(r'`(\w+)::(\w+)`', tests)
        assert named, f'no test of: {promise}'
        missing = [f'{module}::{name}' for module, name in named if name not in _tests(module)]
        assert not missing, f'{promise}: there is no {missing}'


def test_every_topic_has_a_promise():
    """Named with its direction, as in the table of topics."""
    for direction, topic in _table():
        assert f'| {direction} `{topic}`' in PROMISES
