"""Why inputs are silent or do not fit together, as /diagnostics says it."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_frames import frame
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from mrcnet_ros.geometry.se3 import exp_so3
from mrcnet_ros.ros.diagnostics import Level, Problem
from mrcnet_ros.ros.input_watch import InputWatch
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.silent_input import Expected, why_silent
from mrcnet_ros.ros.statuses import Account, pose_status

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def _publisher(kind='sensor_msgs/msg/Image', qos=BEST_EFFORT, name='driver'):
    return SimpleNamespace(topic_type=kind, qos_profile=qos, node_name=name,
                           node_namespace='/')


@pytest.mark.parametrize(('publishers', 'words'), [
    ([], ['nobody publishes /cam', 'remapping']),
    ([_publisher('sensor_msgs/msg/CompressedImage')],
     ['sensor_msgs/msg/CompressedImage', 'expected sensor_msgs/msg/Image', 'image_transport']),
    ([_publisher()], ['driver', 'another QoS', 'input_reliability']),
    ([_publisher(qos=RELIABLE)], ['driver', 'nothing arrives', 'ros2 topic hz']),
])
def test_the_graph_tells_why_an_input_is_silent(publishers, words):
    """No publisher, another type, another QoS, or lost on the way."""
    text = why_silent('image', Expected('/cam', Image, RELIABLE), publishers, others_came=True)
    assert all(word in text for word in words), text


def test_an_input_that_came_has_the_right_name():
    """Its driver has ended; the remapping is not to blame."""
    text = why_silent('image', Expected('/cam', Image, RELIABLE), [], came=True)
    assert 'nobody publishes /cam any more' in text and 'remapping' not in text


@pytest.mark.parametrize(('kind', 'qos', 'came', 'others', 'told'), [
    (Image, BEST_EFFORT, False, True, True), (Image, RELIABLE, False, True, False),
    (CameraInfo, BEST_EFFORT, False, True, False), (Image, BEST_EFFORT, True, True, False),
    (Image, BEST_EFFORT, False, False, False), (CompressedImage, BEST_EFFORT, False, True, False)])
def test_only_images_that_never_came_are_said_to_be_too_large(kind, qos, came, others, told):
    """A small or reliable message, an image after others, or all inputs stay away otherwise."""
    publisher = _publisher(f'sensor_msgs/msg/{kind.__name__}', RELIABLE)
    text = why_silent('image', Expected('/cam', kind, qos), [publisher], came=came,
                      others_came=others)
    assert 'ros2 topic hz' in text and ('large best-effort images' in text) == told


@pytest.mark.parametrize(('kind', 'qos', 'told'), [
    (Image, BEST_EFFORT, True), (Image, RELIABLE, False), (CompressedImage, BEST_EFFORT, False)])
def test_lost_images_are_too_large_only_where_the_middleware_loses_large_ones(kind, qos, told):
    """Others get lost as well, but another profile or QoS does not help."""
    watch = InputWatch(lambda: 0)
    for name, expected in (('image', kind), ('camera_info', CameraInfo)):
        watch.expect(name, Expected(f'/{name}', expected, qos))
    for number in range(60):
        image, info, _ = frame(1 + number)
        watch.saw(info, 'camera_info')
        if number % 2:
            watch.saw(image, 'image')
    level, text = _unpaired(watch)
    assert level == Level.WARN and 'images are lost on the way' in text
    assert ('large best-effort images' in text) == told


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


@pytest.mark.parametrize(('others', 'connected', 'told'), [
    ([_publisher(name='bag')], 2, True), ([_publisher()], 2, True),
    ([], 1, False), ([_publisher(name='bag')], 1, False),
    ([_publisher('sensor_msgs/msg/CompressedImage')], 1, False)])
def test_two_nodes_that_publish_the_images_are_told(others, connected, told):
    """A bag of the camera beside the camera: its frames are the same, and so are the names."""
    watch = InputWatch(lambda: 5000 * 10**9)
    watch.expect('image', Expected('/cam', Image, BEST_EFFORT))
    watch.saw(frame(40)[0], 'image')
    watch.connected('image', connected)
    texts = [p.text for p in watch.problems(2.0, 1.0, lambda topic: [_publisher(), *others])]
    assert len(texts) == 1
    if told:  # and not that clocks differ
        assert f'/{others[0].node_name} and /driver publish /cam' in texts[0]
        assert 'use_sim_time' not in texts[0]
    else:
        assert 'use_sim_time' in texts[0]


@pytest.mark.parametrize(('name', 'remedy'), [
    ('detections', 'detector faster'), ('depth', 'driver faster')])
def test_a_partner_that_comes_long_after_its_image_is_not_told_to_have_another_clock(
        name, remedy):
    """Its stamp is that of the image, which came in time."""
    now = [40 * 10**9]
    watch = InputWatch(lambda: now[0])
    for each in ('image', name):
        watch.expect(each, Expected(f'/{each}', Image, RELIABLE))
    watch.saw(frame(40)[0], 'image')
    for late_s, told in ((0.5, False), (1.5, True)):
        now[0] = int((40 + late_s) * 1e9)
        watch.saw(frame(40)[0], name)
        texts = [p.text for p in watch.problems(2.0, 1.0, lambda topic: [])]
        assert bool(texts) == told
    assert '1.5 s after their image' in texts[0] and remedy in texts[0]
    assert 'clock' not in texts[0]
    watch.saw(frame(30)[0], name)  # no image has this stamp
    text, = (p.text for p in watch.problems(2.0, 1.0, lambda topic: []))
    assert "behind the node's clock" in text


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


def _watch_depth(watch, numbers):
    """Show depth for some of the images of that camera."""
    watch.expect('depth', Expected('/depth', Image, RELIABLE))
    for number in numbers:
        message, _, _ = frame(0)
        message.header.stamp.sec = 1 + number // 30
        message.header.stamp.nanosec = number % 30 * 33_333_333
        watch.saw(message, 'depth')


def test_a_detector_that_is_slower_than_the_camera_is_no_problem(watch):
    """As long as frames are answered: most images never get a partner, and need none."""
    _watch_camera(watch, every=6)
    level, text = _unpaired(watch, answered=True)
    assert level == Level.OK
    assert 'detections come for 15 of 85 images' in text
    recent = {'frames': 50, 'unpaired': 250, 'detections': 50, 'poses': 50}
    status = pose_status(Account(10.0, recent, recent, {}, {}), NodeParameters(),
                         Problem(level, text))
    assert status.level == Level.OK
    assert '50 poses' in status.message and 'detections come for 15' in status.message


def test_boxes_that_mostly_come_too_late_are_told_although_some_are_answered(watch):
    """They come for a third of the images, and one in ten of these is answered."""
    _watch_camera(watch, every=3)
    level, text = _unpaired(watch, answered=10 / 283)
    assert level == Level.WARN and 'arrive too late for the images; raise queue' in text
    assert _unpaired(watch, answered=0.3)[0] == Level.OK


def test_inputs_that_come_for_different_images_are_told(watch):
    """None of them is late, and camera_info comes for each image."""
    _watch_camera(watch, every=6)
    _watch_depth(watch, range(3, 90, 6))
    level, text = _unpaired(watch)
    assert level == Level.WARN and 'camera_info' not in text
    assert text.startswith('detections come for 15 of 85 images, depth come for 15 of 85 images')
    assert text.endswith('not for the same images')


def test_boxes_that_come_seconds_late_are_told_as_that(watch):
    """No image can be judged: when its boxes come, its camera_info is long forgotten."""
    _watch_camera(watch, images=400, every=3, late=120)
    _watch_depth(watch, range(0, 400, 2))
    level, text = _unpaired(watch)
    assert level == Level.WARN and 'arrive too late for the images; raise queue' in text


def test_images_that_get_lost_are_no_fault_of_other_stamps(watch):
    """Who sets sync_slop_s then pairs boxes with wrong images."""
    for number in range(90):
        for name in ('image', 'camera_info', 'detections'):
            if name == 'camera_info' or (name == 'image') == (number % 5 < 2):
                message, _, _ = frame(0)
                message.header.stamp.sec = 1 + number // 30
                message.header.stamp.nanosec = number % 30 * 33_333_333
                watch.saw(message, name)
    level, text = _unpaired(watch, answered=0.1)
    assert level == Level.WARN and 'sync_slop_s' not in text
    assert 'image came for 36 of 87 camera_info only, so images are lost on the way' in text


def test_messages_that_wait_for_a_slow_node_have_no_other_clock():
    """Under lossless the middleware keeps them, however old they become."""
    now = [0.0]
    watch = InputWatch(lambda: 50 * 10**9, lambda: now[0])
    watch.expect('image', Expected('/cam', Image, RELIABLE))
    watch.holds()
    watch.saw(frame(40)[0], 'image')
    problem, = watch.problems(60.0, 1.0, lambda topic: [])
    assert 'image waits 10 s for the node, which is slower' in problem.text and watch.held
    now[0] = 30.0
    problem, = watch.problems(60.0, 1.0, lambda topic: [])
    assert 'use_sim_time' in problem.text and not watch.held


@pytest.mark.parametrize(('shift_ns', 'came'), [(0, (50, 99)), (9_000_000, (0, 0))])
def test_depth_that_comes_for_each_second_image_is_counted(watch, shift_ns, came):
    """Depth with stamps of its own is none of the images."""
    watch.expect('depth', Expected('/depth', Image, RELIABLE, optional=True))
    assert watch.depth_came(0.0) == (0, 0)
    _watch_camera(watch, images=100)
    for number in range(0, 100, 2):
        depth, _, _ = frame(0)
        depth.header.stamp.sec = 1 + number // 30
        depth.header.stamp.nanosec = number % 30 * 33_333_333 + shift_ns
        watch.saw(depth, 'depth')
    assert watch.depth_came(0.0) == came


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


@pytest.mark.parametrize(('images', 'every', 'late'), [(90, 6, 20), (300, 30, 120)])
def test_a_detector_that_answers_too_late_needs_a_longer_queue(watch, images, every, late):
    """Its stamps are right, so another sync_slop_s would pair its boxes with wrong images."""
    _watch_camera(watch, images, every, late)
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


@pytest.mark.parametrize('own_detector', [False, True])
def test_the_input_whose_stamps_differ_is_named(own_detector):
    """A node that publishes camera_info by its own clock is none of the detector's faults."""
    watch = InputWatch(lambda: 9 * 10**9)
    names = ['image', 'camera_info'] if own_detector else ['image', 'camera_info', 'detections']
    for name in names:
        watch.expect(name, Expected(f'/{name}', Image, RELIABLE))
    for second in range(3, 9):
        image, info, boxes = frame(second)
        info.header.stamp.nanosec = 24_000
        for name, message in zip(names, (image, info, boxes), strict=False):
            watch.saw(message, name)
    text = _unpaired(watch)[1]
    assert 'let what publishes camera_info copy the stamp of the image' in text
    assert 'detect' not in text


def test_an_input_that_is_too_late_is_one_that_the_node_has():
    """With the node's own detector there are no messages of another one."""
    watch = InputWatch(lambda: 0)
    for name in ('image', 'camera_info'):
        watch.expect(name, Expected(f'/{name}', Image, RELIABLE))
    for second in range(60):
        image, info, _ = frame(second + 1)
        watch.saw(image, 'image')
        if second % 30 == 0:
            watch.saw(info, 'camera_info')
    assert _unpaired(watch)[1].startswith('camera_info arrive too late')


@pytest.mark.parametrize('image_s', [40, 55])
def test_a_stamp_that_never_changes_is_told(image_s):
    """As of a camera_info that is read from a file; whether or not an image once had it."""
    watch = InputWatch(lambda: 60 * 10**9)
    for name in ('image', 'camera_info'):
        watch.expect(name, Expected(f'/{name}', Image, RELIABLE))
    for second in range(5):
        watch.saw(frame(image_s + second)[0], 'image')
        watch.saw(frame(40)[1], 'camera_info')
    text, = (p.text for p in watch.problems(2.0, 30.0 if image_s == 40 else 10.0, lambda _: []))
    assert 'camera_info has the same stamp in every message' in text
    assert 'clock' not in text and 'driver faster' not in text


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
