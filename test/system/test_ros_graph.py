"""The node among others: namespaces, remapped topics, simulated time, transform trees."""

import runpy
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from ros_client import Client, ready_node, values
from ros_frames import frame
from ros_process import double_node, own_domain
from rosgraph_msgs.msg import Clock
from tf2_msgs.action import LookupTransform

from mrcnet_ros.ros.connections import connected_names
from mrcnet_ros.ros.params import NodeParameters

ROOT = Path(__file__).parents[2]
PROFILES = {'jazzy': 'FASTRTPS_DEFAULT_PROFILES_FILE', 'kilted': 'FASTDDS_DEFAULT_PROFILES_FILE'}


def test_two_nodes_side_by_side_do_not_mix():
    """Each answers its own inputs, under its own names, and keeps its frames apart in /tf."""
    domain = own_domain(100)
    with ExitStack() as stack:
        processes = [stack.enter_context(double_node(
            domain, f'frame_prefix:={side}/', remaps=[f'__ns:=/{side}'])) for side in ('l', 'r')]
        for process in processes:
            process.wait_for_log('ready')
        left, right = (Client(domain, namespace=f'/{side}') for side in ('l', 'r'))
        for client in (left, right):
            client.connect()
        for client in (left, right):
            other = right if client is left else left  # whose node sends to the same /tf
            name = client.node.get_fully_qualified_name()
            assert other.spin(lambda o=other, n=name: n in connected_names(
                values(o.status['poses'])['/tf subscribers']))
        assert left.answer(frame(1, ('duck', 31.5, 23.5, 30.0))) is not None
        assert right.answer(frame(2, ('duck', 31.5, 23.5, 15.0))) is not None
        assert right.spin(lambda: len(right.transforms) == 2)
        assert left.spin(lambda: len(left.transforms) == 2)
        assert {(t.child_frame_id, round(t.transform.translation.z, 6))
                for t in left.transforms} == {('l/duck', 2.0), ('r/duck', 4.0)}
        for client, second in ((left, 1), (right, 2)):
            assert [a.header.stamp.sec for a in client.answers] == [second]
            assert client.spin(lambda c=client: 'poses' in c.status
                               and values(c.status['poses'])['frames'] == '1')
        assert left.set_parameter('min_detection_score', 1.0).successful
        assert right.answer(frame(3, ('duck',))).detections
        assert left.answer(frame(3, ('duck',))).detections == []
        for client in (left, right):
            client.close()
        assert [process.stop() for process in processes] == [0, 0]


def test_the_inputs_can_be_remapped():
    """/diagnostics names the topic that is listened to."""
    domain = own_domain(101)
    with double_node(domain, remaps=['image:=/front/image_raw']) as process:
        process.wait_for_log('ready')
        client = Client(domain)
        told = client.diagnosis('inputs', 'nobody publishes /front/image_raw')
        assert values(told)['image topic'] == '/front/image_raw'
        client.close()
        client = Client(domain, topics={'image': '/front/image_raw'})
        client.connect()
        assert client.answer(frame(1, ('duck',))) is not None
        client.close()
        assert process.stop() == 0


def test_a_bag_that_is_played_in_a_loop_is_answered_in_simulated_time():
    """The age of the poses is that of /clock, also after it has jumped back."""
    # its inputs are not to be told as silent before the next report comes
    with ready_node(102, 'use_sim_time:=true', 'input_timeout_s:=3600.0') as (_, client):
        clock = client.node.create_publisher(Clock, '/clock', 1)

        def set_clock(second):
            def told():
                clock.publish(Clock(clock=Time(sec=second)))
                return client.clock is not None and client.clock.sec == second
            assert client.spin(told)

        for second in (1000, 10, 1000):
            set_clock(second)
            for number in range(3):
                messages = frame(second - 1, ('duck',))
                for message in messages:
                    message.header.stamp.nanosec = 700_000_000 + number * 50_000_000
                assert client.answer(messages) is not None
            client.status.clear()
            told = values(client.diagnosis('inputs', 'all inputs come'))
            assert float(told['image stamp behind clock [s]']) == pytest.approx(0.2)
        # an answer may arrive before the node has noted its age
        assert client.spin(lambda: 'age p50 [ms]' in values(client.status['poses']))
        ages = values(client.status['poses'])
        assert float(ages['age p50 [ms]']) == pytest.approx(250.0)


def test_simulated_time_that_never_comes_is_told():
    """A bag that is played without --clock; that stamps are ahead of time zero is not."""
    with ready_node(105, 'use_sim_time:=true') as (_, client):
        assert client.answer(frame(1000, ('duck',))) is not None
        told = client.diagnosis('inputs', 'no /clock has come')
        assert 'ahead' not in told.message


def test_transforms_join_the_tree_of_the_robot():
    """A tf2 buffer finds the way from the robot's base over the camera to the object."""
    tf2_ros = pytest.importorskip('tf2_ros')
    if not hasattr(tf2_ros, 'Buffer'):
        pytest.skip('needs a ROS installation: the stand-in for tf2_ros has no Buffer')
    with ready_node(103) as (_, client):
        buffer = tf2_ros.Buffer()
        listener = tf2_ros.TransformListener(buffer, client.node)
        mount = TransformStamped(child_frame_id='camera_optical')
        mount.header.frame_id = 'base'
        mount.transform.translation.x = 5.0
        mount.transform.rotation.y, mount.transform.rotation.w = np.sqrt([0.5, 0.5]).tolist()
        broadcaster = tf2_ros.StaticTransformBroadcaster(client.node)
        broadcaster.sendTransform(mount)
        # a transform is sent once: the node must have found the listener beside the client
        name = client.node.get_fully_qualified_name()
        assert client.spin(lambda: connected_names(
            values(client.status['poses'])['/tf subscribers'])[name] == 2)
        answer = client.answer(frame(1, ('duck',)))
        stamp = answer.header.stamp
        assert client.spin(lambda: buffer.can_transform('base', 'duck', stamp))
        found = buffer.lookup_transform('base', 'duck', stamp).transform.translation
        # two metres along the optical axis, which the mount turns along the base's x
        assert (found.x, found.y, found.z) == pytest.approx((7.0, 0.0, 0.0), abs=1e-6)
        del listener


@pytest.fixture
def launched(monkeypatch):
    """Return a function that starts the launch file with arguments, in launch's stead."""
    def module(name, **members):
        made = ModuleType(name)
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, name, made)

    def plain(kind):
        return lambda *args, **options: SimpleNamespace(kind=kind, args=args, **options)

    module('launch', LaunchContext=object, LaunchDescription=list)
    module('launch.actions', **{kind: plain(kind) for kind in (
        'DeclareLaunchArgument', 'GroupAction', 'OpaqueFunction')})
    warnings = []
    module('launch.logging', get_logger=lambda name: SimpleNamespace(warning=warnings.append))
    module('launch_ros')
    module('launch_ros.actions', Node=plain('Node'))
    module('launch_ros.parameter_descriptions',
           ParameterValue=lambda value, value_type: (value_type, value))
    module('ament_index_python')
    module('ament_index_python.packages', get_package_share_directory=lambda package: str(ROOT))
    for name in ('ROS_DISTRO', *PROFILES.values()):
        monkeypatch.delenv(name, raising=False)

    def start(given=(), includer=None, **arguments):
        monkeypatch.setattr(sys, 'argv', ['ros2', 'launch', *(
            ['mrcnet_ros', 'pose.launch.py'] if includer is None else includer), *given])
        file = runpy.run_path(str(ROOT / 'launch/pose.launch.py'))
        group, = file['generate_launch_description']()  # keeps its arguments to itself
        assert group.kind == 'GroupAction' and getattr(group, 'scoped', True)
        described, = group.args
        declared = {a.args[0]: a.default_value for a in described
                    if a.kind == 'DeclareLaunchArgument'}
        assert includer is not None or arguments.keys() <= declared.keys()
        context = SimpleNamespace(launch_configurations={**declared, **arguments},
                                  argv=list(given))
        return described[-1].function(context)

    start.warnings = warnings
    return start


def test_the_launch_file_hands_on_what_it_is_given(launched, monkeypatch):
    """Namespace, remaps, parameters that the node has, and room for images in shared memory.

    Folders stay text whatever they look like, and ~ is the home directory.
    """
    monkeypatch.setenv('HOME', '/home/robot')
    node, = launched(image='/front/image_raw', model='2026', meshes='~/meshes', namespace='left',
                     use_sim_time='True', autostart='false')
    assert Path(node.additional_env[PROFILES['kilted']]).is_file()
    assert (node.executable, node.namespace) == ('pose_node', 'left')
    assert node.remappings == [('image', '/front/image_raw')]
    file, given = node.parameters
    assert Path(file) == ROOT / 'config/pose_node.yaml'
    assert given == {'model': (str, '2026'), 'meshes': (str, '/home/robot/meshes'),
                     'use_sim_time': True, 'autostart': False}
    assert given.keys() - {'use_sim_time'} <= vars(NodeParameters()).keys()
    node, = launched(fastdds_profile='')
    assert node.parameters[1] == {} and node.remappings == []
    assert node.additional_env == {}


@pytest.mark.parametrize(('text', 'expected'), [
    ('true', True), ('True', True), ('yes', True), ('on', True), ('1', True), ('false', False),
    ('No', False), ('off', False), ('0', False)])
@pytest.mark.parametrize('name', ['use_sim_time', 'autostart'])
def test_switches_of_the_launch_file_are_what_yaml_takes_for_a_boolean(
        launched, name, text, expected):
    """As on ROS's own command line."""
    assert launched(**{name: text})[0].parameters[1][name] is expected


@pytest.mark.parametrize('name', ['use_sim_time', 'autostart', 'rviz'])
def test_a_switch_that_is_no_boolean_is_refused(launched, name):
    """With the name of the argument; it must not count as false."""
    with pytest.raises(ValueError, match=f"launch argument {name} is 'maybe'.* true or false"):
        launched(**{name: 'maybe'})


@pytest.mark.parametrize(('given', 'words'), [
    (('modle:=/m',), ('no argument modle; did you mean model?', 'params_file')),
    (('model:=/m', 'ns:=left', 'camera-info:=/c'), ('no argument ns', 'mean camera_info?')),
    (('sync_slop_s:=0.1',), ('sync_slop_s is a parameter of the node', 'params_file'))])
def test_an_argument_that_is_not_known_is_refused(launched, given, words):
    """Launch itself takes any name without a word; the model would be that of params_file."""
    with pytest.raises(ValueError, match=words[0].replace('?', r'\?')) as caught:
        launched(given)
    assert all(word in str(caught.value) for word in words)
    assert launched(('model:=/m', 'namespace:=left'), model='/m', namespace='left')


def test_arguments_of_a_file_that_includes_this_one_are_its_own(launched):
    """Only what looks misspelt is told: launch hands all names on."""
    outer = ['my_robot', 'robot.launch.py']
    assert launched(('robot:=ur5',), outer, robot='ur5', modle='/m', use_rviz='true')
    warning, = launched.warnings
    assert 'no argument modle; did you mean model?' in warning
    launched.warnings.clear()
    assert launched((), outer, models='/all', model='/m')
    assert launched((), ['my_robot', 'pose.launch.py'], world='table') and not launched.warnings
    with pytest.raises(ValueError, match='no argument world'):
        launched(('world:=table',), [str(ROOT / 'launch/pose.launch.py')])


@pytest.mark.parametrize(('name', 'value', 'said'), [
    ('params_file', '/nowhere/my.yaml', 'no such file'), ('params_file', '', 'no such file'),
    ('fastdds_profile', '/nowhere/my.xml', 'no such file'), ('image', '', 'is empty'),
    ('detections', ' ', 'is empty')])
def test_a_file_that_is_not_there_or_a_topic_without_a_name_is_refused(
        launched, name, value, said):
    """The node would start with its defaults, or listen elsewhere."""
    with pytest.raises(ValueError, match=f'launch argument {name} is .*{said}|{name} {said}'):
        launched(**{name: value})


def test_rviz_is_started_with_the_topics_of_the_node(launched):
    """In its namespace, with the image that the node gets, in the frame that is asked for."""
    shown = ROOT / 'config/pose.rviz'
    topics = [line.split()[1] for line in shown.read_text(encoding='utf-8').splitlines()
              if line.strip().startswith('Value: /')]
    assert [action.executable for action in launched()] == ['pose_node']
    _, rviz = launched(rviz='true')
    assert (rviz.package, rviz.arguments) == ('rviz2', ['-d', str(shown)])
    assert dict(rviz.remappings) == {topic: topic[1:] for topic in topics}
    _, rviz = launched(rviz='true', rviz_frame='base_link', namespace='left',
                       image='/front/image_raw', use_sim_time='yes')
    assert rviz.arguments[2:] == ['-f', 'base_link']
    assert rviz.parameters == [{'use_sim_time': True}]
    remapped = dict(rviz.remappings)
    assert set(topics) == set(remapped)
    assert remapped['/image'] == '/front/image_raw'
    assert (rviz.namespace, remapped['/overlay']) == ('left', 'overlay')


def test_topics_of_rviz_are_relative_to_the_namespace_that_is_pushed_on_it(launched):
    """As PushRosNamespace does to the node and to RViz alike, around an included launch file."""
    import rclpy

    _, rviz = launched(rviz='true', namespace='left')
    words = [word for pair in rviz.remappings for word in ('-r', ':='.join(pair))]
    context = rclpy.Context()
    rclpy.init(context=context, args=['--ros-args', '-r', '__ns:=/robot/left', *words],
               domain_id=own_domain(106))
    shown = rclpy.create_node('rviz', context=context)
    assert shown.resolve_topic_name('/overlay') == '/robot/left/overlay'
    assert shown.resolve_topic_name('/image') == '/robot/left/image'
    shown.destroy_node()
    context.shutdown()


@pytest.mark.parametrize('name', PROFILES.values())
def test_the_launch_file_leaves_a_profile_of_the_user_alone(launched, monkeypatch, name):
    """It may hold a discovery server or a list of interfaces; an argument is stronger."""
    monkeypatch.setenv(name, '/mine.xml')
    assert [node.additional_env for node in launched()] == [{}]
    other = str(ROOT / 'config/fastdds.xml')
    node, = launched(fastdds_profile=other)
    assert node.additional_env == {PROFILES['kilted']: other}


@pytest.mark.parametrize('distro', PROFILES)
def test_the_profile_is_set_where_fast_dds_looks_for_it(launched, monkeypatch, distro):
    """Its variable was renamed after Jazzy; processes started later do not get it."""
    monkeypatch.setenv('ROS_DISTRO', distro)
    assert [set(action.additional_env) for action in launched()] == [{PROFILES[distro]}]


def test_over_dds_a_confirmed_pose_has_the_prefix_too():
    """It is the frame in /tf; a request may name it with or without."""
    with ready_node(104, 'frame_prefix:=l/', 'confirm_frames:=2') as (_, client):
        action = client.action(LookupTransform, 'confirm_pose')
        for wanted in ('duck', 'l/duck'):
            goal = LookupTransform.Goal(source_frame=wanted)
            goal.timeout.sec = 60
            future = client.result(action.send_goal_async(goal)).get_result_async()
            for second in range(1, 50):
                messages = frame(1, ('duck',))
                for message in messages:
                    message.header.stamp.nanosec = second * 10**7
                client.answer(messages)
                if client.spin(future.done, 0.1):
                    break
            assert client.result(future).result.transform.child_frame_id == 'l/duck'
