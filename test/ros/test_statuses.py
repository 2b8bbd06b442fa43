"""What /diagnostics says of counts, times and models."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_client import values
from ros_frames import frame

from mrcnet_ros.ros.diagnostics import Level, Problem, RecentCounts, diagnostic_array
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.statuses import (
    Account,
    depth_status,
    estimator_facts,
    model_status,
    pose_status,
)
from mrcnet_ros.ros.timings import Timings
from mrcnet_ros.specs import ViewPrior


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
     'so the camera is assumed to be still'),
    ({'frames': 9, 'detections': 9, 'poses': 9, 'no_camera_motion': 1}, Level.OK, '9 poses'),
    ({'frames': 9, 'detections': 9, 'poses': 9, 'track_gap': 8}, Level.WARN,
     'too late after the one before'),
    ({'frames': 9, 'detections': 9, 'poses': 9, 'track_gap': 1}, Level.OK, '9 poses'),
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


@pytest.mark.parametrize(('age_s', 'level'), [(0.2, Level.WARN), (0.4, Level.ERROR)])
def test_thresholds_in_the_wrong_order_are_told_and_the_error_holds(age_s, level):
    """They are not refused, because tools set one parameter after the other."""
    account = _account({'frames': 1, 'detections': 1, 'poses': 1}, (),
                       {'age': (0.1, age_s, 9.0)})
    status = pose_status(account, NodeParameters(warn_age_s=0.5, error_age_s=0.3), None)
    assert status.level == level
    assert 'warn_age_s 0.5 is without effect: error_age_s is 0.3' in status.message


@pytest.mark.parametrize(('answering_s', 'told'), [(0.05, True), (0.7, False)])
def test_what_makes_poses_old_is_told(answering_s, told):
    """Images that come late need no faster estimator."""
    account = _account({'frames': 1, 'detections': 1, 'poses': 1}, (), {
        'age': (0.6, 0.8, 0.9), 'waiting': (0.0, 0.001, 0.01),
        'answering': (answering_s, answering_s, answering_s), 'publishing': (0.0, 0.001, 0.01)})
    message = pose_status(account, NodeParameters(), None).message
    assert 'poses are 0.8 s old' in message
    assert ('of which the node took 0.052 s; their images or boxes come late' in message) == told


@pytest.mark.parametrize(('came', 'recent', 'told'), [
    ((50, 99), {'frames': 300, 'depth_late': 150}, True),
    ((50, 99), {'frames': 150, 'no_depth': 150}, True),
    ((99, 99), {'frames': 300, 'depth_late': 150}, False),  # late
    ((50, 99), {'frames': 300, 'depth_late': 290}, False),  # fewer, and most of them late
    ((50, 99), {'no_depth': 150}, False),
    ((2, 3), {'frames': 3, 'depth_late': 1}, False),  # too few to tell
    ((0, 0), {'frames': 300, 'depth_late': 150}, False)])  # other stamps
def test_depth_for_fewer_images_than_colour_is_no_problem(came, recent, told):
    """A depth camera of half the rate is told as it is, and not as a fault of stamps."""
    account = Account(10.0, recent, recent, {}, {}, depth_came=came)
    statuses = [depth_status(account, 'auto', None), pose_status(account, NodeParameters(), None)]
    assert ('depth comes for 50 of 99 images' in statuses[0].message) == told
    assert (max(status.level for status in statuses) == Level.OK) == told


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
