"""/diagnostics: what it says of a healthy node, and why no pose arrives."""

import itertools
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from lifecycle_msgs.msg import Transition
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_client import Client, node_fixture, values
from ros_frames import frame
from ros_process import double_node, own_domain
from sensor_msgs.msg import CameraInfo, Image

from mrcnet_ros.geometry.se3 import exp_so3
from mrcnet_ros.ros.diagnostics import Level, Problem, RecentCounts, diagnostic_array
from mrcnet_ros.ros.input_watch import Expected, InputWatch, why_silent
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.statuses import Account, estimator_facts, model_status, pose_status
from mrcnet_ros.ros.timings import Timings
from mrcnet_ros.specs import ViewPrior

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def _account(recent=(), reasons=(), percentiles=()):
    recent = dict(recent)
    return Account(10.0, recent, recent, dict(reasons), dict(percentiles))


def _judge(why_unpaired=None, **recent):
    return pose_status(_account(recent), NodeParameters(), why_unpaired)


def test_a_healthy_node_is_ok_and_tells_its_rate():
    """Frames over the time they were counted in."""
    status = _judge(frames=300, detections=300, poses=290, low_score=10)
    assert status.level == Level.OK
    assert '30.0 frames/s with 290 poses' in status.message


@pytest.mark.parametrize(('recent', 'level', 'word'), [
    ({'frames': 5, 'detections': 5, 'poses': 4, 'unknown_label': 1}, Level.WARN,
     'unknown_label'),
    ({'frames': 5, 'detections': 5, 'low_score': 5}, Level.WARN, 'low_score 5'),
    ({'frames': 5}, Level.OK, 'found nothing'),
    ({'frames': 5, 'bad_image': 1, 'detections': 5, 'poses': 5}, Level.WARN, '1 of 6 frames'),
    ({'bad_camera_info': 7}, Level.ERROR, '7 of 7 frames bad_camera_info'),
    ({'unpaired': 3}, Level.ERROR, 'no stamp fits'),
    ({'frames': 5, 'unpaired': 3, 'detections': 5, 'poses': 5}, Level.OK, '5 poses'),
    ({'frames': 1, 'busy': 9, 'detections': 5, 'poses': 5}, Level.WARN, '9 of 10 frames busy'),
    ({'frames': 5, 'busy': 15, 'detections': 5, 'poses': 5}, Level.OK, '5 poses'),
    ({'frames': 9, 'detections': 9, 'poses': 9, 'no_camera_motion': 9}, Level.WARN,
     'is taken to rest'),
    ({'frames': 9, 'detections': 9, 'poses': 9, 'no_camera_motion': 1}, Level.OK, '9 poses'),
])
def test_what_became_of_frames_and_detections_is_judged(recent, level, word):
    """An error when nothing gets through, a warning for what an operator should look into."""
    status = _judge(Problem(Level.WARN, 'no stamp fits'), **recent)
    assert status.level == level
    assert word in status.message


@pytest.mark.parametrize(('age_s', 'level'), [
    (0.4, Level.OK), (0.6, Level.WARN), (2.1, Level.ERROR)])
def test_old_poses_are_a_warning_and_then_an_error(age_s, level):
    """By the 95th percentile and the thresholds among the parameters."""
    account = _account({'frames': 1, 'detections': 1, 'poses': 1}, (),
                       {'age': (0.1, age_s, 9.0)})
    status = pose_status(account, NodeParameters(), None)
    assert status.level == level
    assert status.values['age p95 [ms]'] == f'{1e3 * age_s:.2f}'


def test_counts_forget_what_is_long_past():
    """Only the growth within the window is recent."""
    counts = RecentCounts(-2.0)
    assert counts.update(-1.0, {'busy': 100}) == (1.0, {'busy': 100})
    assert counts.update(8.0, {'busy': 103, 'frames': 8}) == (10.0, {'busy': 103, 'frames': 8})
    for second in range(9, 19):
        span, recent = counts.update(float(second), {'busy': 103, 'frames': second})
    assert recent['busy'] == 0
    assert recent['frames'] == pytest.approx(10)
    assert span == pytest.approx(10.0)


def test_percentiles_are_of_the_recent_durations():
    """A slow minute in the past is not held against the present."""
    now = [0.0]
    timings = Timings(lambda: now[0])
    timings.add({'age': 100.0})
    now[0] = 11.0
    for percent in range(101):
        timings.add({'age': percent / 100})
    assert timings.percentiles()['age'] == pytest.approx((0.5, 0.95, 0.99))
    now[0] = 30.0
    assert timings.percentiles() == {}


def _publisher(kind='sensor_msgs/msg/Image', qos=BEST_EFFORT):
    return SimpleNamespace(topic_type=kind, qos_profile=qos, node_name='driver')


@pytest.mark.parametrize(('publishers', 'words'), [
    ([], ['nobody publishes /cam', 'remapping']),
    ([_publisher('sensor_msgs/msg/CompressedImage')],
     ['sensor_msgs/msg/CompressedImage', 'expected sensor_msgs/msg/Image', 'image_transport']),
    ([_publisher()], ['driver', 'another QoS', 'input_reliability']),
    ([_publisher(qos=RELIABLE)], ['driver', 'nothing arrives', 'fastdds.xml']),
])
def test_the_graph_tells_why_an_input_is_silent(publishers, words):
    """No publisher, another type, another QoS, or lost on the way."""
    text = why_silent('image', Expected('/cam', Image, RELIABLE), publishers)
    assert all(word in text for word in words), text


@pytest.mark.parametrize(('name', 'came'), [('camera_info', False), ('image', True)])
def test_only_images_that_never_came_are_said_to_be_too_large(name, came):
    """A small message, or an image after others, stays away because nobody publishes it."""
    text = why_silent(name, Expected('/cam', Image, RELIABLE), [_publisher(qos=RELIABLE)],
                      came=came)
    assert 'ros2 topic hz' in text and 'fastdds' not in text


def test_stamps_far_from_the_clock_are_told():
    """In either direction."""
    now = [0.0]
    watch = InputWatch(lambda: 50 * 10**9, lambda: now[0])
    watch.expect('image', Expected('/cam', Image, RELIABLE))
    image = frame(40)[0]
    watch.saw(image, 'image')
    problem, = watch.problems(2.0, 1.0, lambda topic: [])
    assert problem.level == Level.WARN
    assert '10 s behind' in problem.text and 'use_sim_time' in problem.text
    assert watch.problems(2.0, 11.0, lambda topic: []) == []
    now[0] = 3.0
    problem, = watch.problems(2.0, 11.0, lambda topic: [])
    assert problem.level == Level.ERROR
    assert 'stopped 3 s ago' in problem.text


def test_inputs_of_two_cameras_are_told():
    """Cameras on one trigger have equal stamps, and nothing else gives the mistake away."""
    watch = InputWatch(lambda: 10**9)
    for name, kind in (('image', Image), ('detections', Image)):
        watch.expect(name, Expected(f'/{name}', kind, RELIABLE))
    image, _, boxes = frame(1)
    for frame_id, mixed in (('/camera_optical', False), ('', False), ('right_optical', True)):
        boxes.header.frame_id = frame_id
        watch.saw(image, 'image')
        watch.saw(boxes, 'detections')
        problems = watch.problems(2.0, 1.0, lambda topic: [])
        assert bool(problems) == mixed
    problem, = problems
    assert problem.level == Level.WARN
    assert "'camera_optical'" in problem.text and "'right_optical'" in problem.text


@pytest.fixture
def watch():
    watch = InputWatch(lambda: 0)
    for name, kind in (('image', Image), ('camera_info', CameraInfo), ('detections', Image)):
        watch.expect(name, Expected(f'/{name}', kind, RELIABLE))
    return watch


def _unpaired(watch, slop_s=0.0, *, answered=False):
    problem = watch.why_unpaired(slop_s, answered=answered)
    return problem and (problem.level, problem.text)


def _watch_camera(watch, images=90, every=1, late=0):
    """Show a camera of 30 Hz and a detector that answers some images, so many images later."""
    for number in range(images):
        for name, n in (('image', number), ('camera_info', number), ('detections', number - late)):
            if n >= 0 and (name != 'detections' or n % every == 0):
                message, _, _ = frame(0)
                message.header.stamp.sec, message.header.stamp.nanosec = 1 + n // 30, (
                    n % 30 * 33_333_333)
                watch.saw(message, name)


def test_a_detector_that_is_slower_than_the_camera_is_no_problem(watch):
    """As long as frames are answered: most images never get a partner, and need none."""
    _watch_camera(watch, every=6)
    level, text = _unpaired(watch, answered=True)
    assert level == Level.OK
    assert 'detections come for 15 of 85 images' in text
    status = _judge(Problem(level, text), frames=50, unpaired=250, detections=50, poses=50)
    assert status.level == Level.OK
    assert '50 poses' in status.message and 'detections come for 15' in status.message


def test_the_second_camera_of_a_stereo_pair_is_told(watch):
    """Its P is of the first camera's frame, while its poses are in its own."""
    info = CameraInfo()
    info.header.frame_id = 'left_optical'
    info.p = [500.0, 0.0, 320.0, 0.0, 0.0, 500.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    watch.saw(info, 'camera_info')
    assert watch.camera_remark(rectified=True) == ''
    info.p[3] = -60.0
    watch.saw(info, 'camera_info')
    assert '(0.12, 0) m from the first one' in watch.camera_remark(rectified=True)
    assert "'left_optical'" in watch.camera_remark(rectified=True)
    assert watch.camera_remark(rectified=False) == ''
    info.p = [float('nan')] * 12
    watch.saw(info, 'camera_info')
    assert watch.camera_remark(rectified=True) == ''


@pytest.mark.parametrize(('turn_deg', 'told'), [(0.0, ''), (0.1, ''), (1.5, '1.5 degrees')])
def test_raw_images_that_rectifying_would_turn_are_told(watch, turn_deg, told):
    """Poses of raw images are in another frame than those of rectified ones."""
    info = CameraInfo()
    info.r = exp_so3([0.0, np.radians(turn_deg), 0.0]).ravel().tolist()
    watch.saw(info, 'camera_info')
    remark = watch.camera_remark(rectified=False)
    assert told in remark and bool(remark) == bool(told)
    assert watch.camera_remark(rectified=True) == ''
    info.r = [0.0] * 9  # of a camera that nobody calibrated
    watch.saw(info, 'camera_info')
    assert watch.camera_remark(rectified=False) == ''


def test_a_detector_that_answers_too_late_needs_a_longer_queue(watch):
    """Its stamps are right, so another sync_slop_s would pair its boxes with wrong images."""
    _watch_camera(watch, every=6, late=20)
    level, text = _unpaired(watch)
    assert level == Level.WARN
    assert 'queue' in text and 'sync_slop_s' not in text


def test_images_that_were_lost_do_not_make_stamps_differ(watch):
    """One detection without its image among others that fit."""
    _watch_camera(watch, every=6)
    stray, _, _ = frame(2)
    stray.header.stamp.nanosec = 5
    watch.saw(stray, 'detections')
    assert _unpaired(watch, answered=True)[0] == Level.OK


def test_nothing_is_guessed_before_all_inputs_came(watch):
    """What is missing is told elsewhere."""
    watch.saw(frame(1)[0], 'image')
    assert _unpaired(watch) is None


def test_the_smallest_difference_of_stamps_is_told(watch):
    """So that sync_slop_s can be chosen."""
    for second in range(3):
        image, info, boxes = frame(second)
        boxes.header.stamp.nanosec = 12_000_000
        watch.saw(image, 'image')
        watch.saw(info, 'camera_info')
        watch.saw(boxes, 'detections')
    assert 'detections 0.012 s away' in _unpaired(watch)[1]
    assert 'camera_info' not in _unpaired(watch)[1]
    assert 'away' not in _unpaired(watch, 0.02)[1], 'they are near enough'
    image, info, boxes = frame(9)
    watch.saw(image, 'image')
    watch.saw(boxes, 'detections')
    assert 'detections 0.012 s away' in _unpaired(watch)[1], 'a pair hides the others'


def test_a_status_becomes_a_message():
    """Names begin with the node's; levels are the bytes that diagnostic_msgs wants."""
    counts = {'cache_hits': 3, 'cache_misses': 1}
    status = model_status('inactive', '', '', {'model': 'lmo'}, counts)
    stamp = frame(7)[0].header.stamp
    message = diagnostic_array(stamp, 'arm/pose_node', 'lmo', [status])
    assert message.header.stamp == stamp
    assert message.status[0].name == 'arm/pose_node: model'
    assert message.status[0].level == b'\x01'
    assert 'inactive' in message.status[0].message
    assert values(message.status[0])['template cache hit rate'] == '0.750'


def test_the_views_that_a_model_knows_are_told():
    """Of other views it gives wrong poses with middling scores, and nothing else would tell."""
    table = ViewPrior(elevation_min_deg=0.0, elevation_max_deg=80.0, tilt_max_deg=30.0)

    def told(**priors):
        numbers = {label: number for number, label in enumerate(priors)}
        model = SimpleNamespace(view_priors={numbers[k]: p for k, p in priors.items()})
        objects = {name: SimpleNamespace(object_id=n) for name, n in numbers.items()}
        return estimator_facts(SimpleNamespace(objects=objects, model=model))['views']

    assert told(can=None, duck=None) == 'from all sides'
    both = told(can=table, duck=table)
    assert '0 to 80 degrees' in both and 'within 30 degrees' in both and 'can' not in both
    mixed = told(can=table, duck=None)
    assert mixed.startswith('can: camera 0 to 80') and mixed.endswith('; duck: from all sides')


node = node_fixture(20, 'stale_stamp_s:=1000000000.0', 'warn_age_s:=3600.0',
                    'error_age_s:=3600.0')


def _nanoseconds(time):
    return time.sec * 10**9 + time.nanosec


def _now_frame(*objects):
    messages = frame(0, *objects)
    now = time.time_ns()
    for message in messages:
        message.header.stamp.sec, message.header.stamp.nanosec = now // 10**9, now % 10**9
    return messages


def test_over_dds_the_state_of_the_node_arrives_each_second(node):
    """First what is missing, then rates, ages, stages, cache, model; then unknown labels."""
    client = Client(node.domain)
    lost = client.diagnosis('inputs', 'camera_info never came')
    assert lost.level == b'\x02'
    client.connect()
    assert client.answer(_now_frame(('duck',))) is not None
    told = client.diagnosis('poses', 'frames/s with 1 poses')
    assert told.level == b'\x00'
    numbers = values(told)
    assert numbers['frames'] == numbers['poses'] == '1'
    for name in ('age', 'waiting', 'answering', 'crop', 'stage1', 'publishing'):
        assert float(numbers[f'{name} p50 [ms]']) >= 0.0
    assert float(numbers['stage1 p99 [ms]']) == pytest.approx(2.0)
    model = values(client.status['model'])
    assert (model['model'], model['backend'], model['device']) == ('boxes', 'none', 'cpu')
    assert model['template cache hits'] == '1'
    assert model['views'] == 'from all sides'
    assert client.answer(_now_frame(('teapot',))) is not None
    warned = client.diagnosis('poses', 'unknown_label')
    assert warned.level == b'\x01'
    assert "'teapot'" in warned.message and 'duck' in warned.message
    reports, start = client.reports, client.clock
    assert client.spin(lambda: client.reports >= reports + 3)
    assert _nanoseconds(client.clock) - _nanoseconds(start) > 1.5e9
    client.close()


def test_over_dds_stamps_that_never_fit_are_told(node):
    """With the difference, so that the user can set sync_slop_s."""
    client = Client(node.domain)
    client.connect()
    said, seconds = '', itertools.count(100)
    while 'detections 0.005 s away' not in said:
        image, info, boxes = frame(next(seconds), ('duck',))
        boxes.header.stamp.nanosec = 5_000_000
        client.send(image, info, boxes)
        client.spin(lambda: False, 0.05)
        said = client.status['poses'].message
    assert 'frames unpaired' in said
    client.close()


def test_over_dds_a_qos_that_does_not_fit_is_told():
    """A best-effort camera and a node that asks for reliability: named with the policy."""
    domain = own_domain(21)
    with double_node(domain, 'input_reliability:=reliable') as process:
        process.wait_for_log('ready')
        client = Client(domain)
        publisher = client.node.create_publisher(Image, 'image', BEST_EFFORT)
        client.node.destroy_publisher(client.publishers.pop('image'))
        process.wait_for_log('RELIABILITY')
        publisher.publish(frame(1)[0])
        # the graph may know the publisher before its name
        told = client.diagnosis('inputs', f'{client.node.get_name()}, offers another QoS')
        assert 'RELIABILITY' in told.message
        assert told.level == b'\x02'
        client.close()
        assert process.stop() == 0


def test_over_dds_an_image_of_another_type_is_told():
    """Compressed where raw was expected."""
    domain = own_domain(22)
    with double_node(domain) as process:
        process.wait_for_log('ready')
        client = Client(domain, compressed=True)
        told = client.diagnosis('inputs', 'image_transport')
        assert 'expected sensor_msgs/msg/Image' in told.message
        client.close()
        assert process.stop() == 0


def test_over_dds_a_model_that_cannot_be_loaded_is_told_until_another_is():
    """The node stays unconfigured, and starts once its parameter is right."""
    domain = own_domain(23)
    with double_node(domain, 'autostart:=false', 'model:=bad') as process:
        client = Client(domain)
        assert not client.transition(Transition.TRANSITION_CONFIGURE)
        told = client.diagnosis('model', 'it is damaged')
        assert told.level == b'\x02'
        assert values(told)['state'] == 'unconfigured'
        assert client.set_parameter('model', 'boxes').successful
        assert client.transition(Transition.TRANSITION_CONFIGURE)
        assert client.diagnosis('model', 'the node is inactive').level == b'\x01'
        assert client.transition(Transition.TRANSITION_ACTIVATE)
        assert client.diagnosis('model', 'active with boxes').level == b'\x00'
        client.close()
        assert process.stop() == 0


def test_over_dds_a_node_that_is_loading_says_what_it_does():
    """Rendering templates for the first time may take minutes, in which nobody answers."""
    with double_node(own_domain(25), 'model:=endless') as process:
        client = Client(process.domain)
        told = client.diagnosis('model', 'loading the ducks one by one')
        assert told.level == b'\x01'
        assert values(told)['state'] == 'configuring'
        reports = client.reports
        assert client.spin(lambda: client.reports >= reports + 2), 'it went silent'
        client.close()
        assert process.stop() == 0


@pytest.mark.parametrize(('name', 'value', 'words'), [
    ('error_age_s', 3.0, ['error_age_s', 'below']),
    ('warn_age_s', -1.0, ['warn_age_s']),
    ('warn_age_s', math.nan, ['warn_age_s', 'nan']),
    ('warn_age_s', None, ['undeclared']),
])
def test_over_dds_a_threshold_that_makes_no_sense_is_refused(client, name, value, words):
    """With the reason; also one that contradicts another, and a parameter is never deleted."""
    result = client.set_parameter(name, value)
    assert not result.successful
    assert all(word in result.reason for word in words), result.reason


def test_over_dds_rectified_images_of_a_second_camera_are_told(node):
    """And their poses are in the frame of the camera itself, from its own optical centre."""
    client = Client(node.domain)
    client.connect()
    image, info, boxes = _now_frame(('duck',))
    info.p = [300.0, 0.0, 31.5, -60.0, 0.0, 300.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert client.set_parameter('image_rectified', True).successful
    position = client.answer((image, info, boxes)).detections[0].results[0].pose.pose.position
    assert (position.x, position.y, position.z) == pytest.approx((0.0, 0.0, 1.0))
    assert '(0.2, 0) m from the first one' in client.diagnosis(
        'inputs', 'second camera').message
    assert client.set_parameter('image_rectified', False).successful
    client.close()
