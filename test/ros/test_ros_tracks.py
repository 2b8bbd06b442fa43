"""Instances from frame to frame: names that stay, poses that do not flip."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_client import ready_node
from ros_frames import frame
from stand_in_node import DIAMETERS_M, BoxEstimator, box_object

from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_angle
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.inference.poses import PoseEstimate
from mrcnet_ros.ros.confirmation import Confirmation
from mrcnet_ros.ros.drop_counters import DropCounters
from mrcnet_ros.ros.frame_handler import FrameHandler
from mrcnet_ros.ros.frames import Frame
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.pose_topics import symmetries_message
from mrcnet_ros.ros.remembered_ids import REMEMBERED_FRAMES, RememberedIds
from mrcnet_ros.ros.tracks import Tracks, blend

HALF_TURN = exp_so3([0.0, 0.0, np.pi])
MS = 10**6


@pytest.fixture(scope='module')
def objects(tmp_path_factory):
    folder = tmp_path_factory.mktemp('boxes')
    return {label: box_object(folder, label) for label in ('duck', 'can', 'brick')}


@pytest.fixture
def tracks(objects):
    return Tracks(objects)


def _estimate(label='duck', name='', x=0.0, R=None):
    T = make_transform(np.eye(3) if R is None else R, [x, 0.0, 1.0])
    return PoseEstimate(label, 1, T, 0.9, 0, name, np.zeros(4))


def _names(tracks, *estimates, at_ms=0, **parameters):
    return tracks.update(at_ms * MS, estimates, NodeParameters(**parameters))[0]


def _pose(tracks, estimate, at_ms, **parameters):
    _, poses = tracks.update(at_ms * MS, [estimate], NodeParameters(**parameters))
    return poses[0].T_camera_object


def test_names_stay_while_the_camera_moves_past_its_objects(tracks):
    """Where /tf tells its motion; otherwise another instance is in the place of the first."""
    before, after = [_estimate(x=-0.3), _estimate(x=0.3)], [_estimate(x=-0.3), _estimate(x=-0.9)]
    assert _names(tracks, *before, _estimate(x=0.9)) == ['duck', 'duck_2', 'duck_3']
    tracks.camera_at(make_transform(np.eye(3), [0.6, 0.0, 0.0]))
    assert _names(tracks, *after, at_ms=30) == ['duck_2', 'duck']
    tracks.camera_at(np.eye(4))
    assert _names(tracks, *reversed(before), at_ms=60) == ['duck_2', 'duck']
    assert _names(tracks, *after, at_ms=90) == ['duck', 'duck_3']


def test_a_smooth_pose_does_not_lag_behind_a_moving_camera(tracks):
    """Smoothing is of the object in the world, which rests."""
    _pose(tracks, _estimate(x=0.0), 0, smoothing_s=10.0)
    tracks.camera_at(make_transform(np.eye(3), [0.05, 0.0, 0.0]))
    moved = _estimate(x=-0.05)
    np.testing.assert_allclose(_pose(tracks, moved, 30, smoothing_s=10.0),
                               moved.T_camera_object, atol=1e-9)


def test_an_instance_keeps_its_name_while_its_id_lives(tracks):
    """Also when the detector lists it in another place or misses it for a while."""
    duck_a, duck_b = _estimate(name='a'), _estimate(name='b')
    assert _names(tracks, duck_a, duck_b, _estimate('can', 'a')) == ['duck', 'duck_2', 'can']
    assert _names(tracks, duck_b) == ['duck_2']
    assert _names(tracks, _estimate(name='c'), duck_b) == ['duck', 'duck_2']


def test_names_do_not_run_away_from_a_detector_that_numbers_its_boxes(tracks):
    """A new id in every frame is still the first duck."""
    names = {_names(tracks, _estimate(name=str(i)), at_ms=i)[0] for i in range(1000)}
    assert names == {'duck'}


def test_frames_that_come_too_slowly_for_names_are_noticed(tracks):
    """Steadily; a pause of the robot is none of them, nor is an empty table."""
    ducks = [_estimate(x=-0.3), _estimate(x=0.3)]
    gaps = []
    for number in range(6):
        _names(tracks, *ducks[::1 if number % 2 else -1], at_ms=1250 * number)
        gaps.append(tracks.gap_s)
    assert gaps == [0, 0, *[1.25] * 4]
    _names(tracks, *ducks, at_ms=6500)
    assert tracks.gap_s == 0
    for at_ms in (60_000, 60_300, 99_000):
        _names(tracks, *ducks, at_ms=at_ms)
        assert tracks.gap_s == 0
    for at_ms in (101_000, 103_000, 105_000):
        _names(tracks, *ducks, at_ms=at_ms, track_gap_s=3.0)
        assert tracks.gap_s == 0
    _names(tracks, at_ms=107_000)
    _names(tracks, *ducks, at_ms=109_000)
    assert tracks.gap_s == 0


@pytest.mark.parametrize('ids', [('', '', ''), ('a', 'a', 'a')])
def test_names_of_one_frame_differ(tracks, ids):
    """Whatever the ids are."""
    assert _names(tracks, *(_estimate(name=i) for i in ids)) == ['duck', 'duck_2', 'duck_3']


def test_an_id_is_forgotten_after_many_frames_without_it():
    """Also one that was added between two frames, which changes no other."""
    ids = RememberedIds()
    ids.see({'a': 1, 'b': 2})
    ids.add('a', 7)
    ids.add('c', 3)
    for _ in range(REMEMBERED_FRAMES - 1):
        ids.see({'b': 2})
    assert [ids.get(identity) for identity in 'abcd'] == [1, 2, 3, None]
    ids.see({'b': 4})
    assert [ids.get(identity) for identity in 'abc'] == [None, 4, None]


def test_an_id_that_several_have_is_none(tracks):
    """A detector may write the class there; two ducks do not trade their frames then."""
    left, right = _estimate(name='0', x=-0.3), _estimate(name='0', x=0.3)
    for at_ms in (0, 30, 60, 90):
        assert _names(tracks, left, right, at_ms=at_ms) == ['duck', 'duck_2']
    assert _names(tracks, right, left, at_ms=120) == ['duck_2', 'duck']


def test_ids_that_number_the_boxes_of_an_image_do_not_exchange_names(tracks):
    """The order of scores changes, the places do not; two that are moved keep their ids."""
    def seen(first_x, second_x, at_ms):
        return _names(tracks, _estimate(name='0', x=first_x), _estimate(name='1', x=second_x),
                      at_ms=at_ms)

    assert seen(-0.3, 0.3, 0) == ['duck', 'duck_2']
    assert seen(0.3, -0.3, 30) == ['duck_2', 'duck']
    assert seen(-0.3, 0.3, 60) == ['duck', 'duck_2']
    assert seen(-0.27, 0.27, 90) == ['duck', 'duck_2']
    assert _names(tracks, _estimate(name='1', x=0.9), at_ms=120) == ['duck_2']


def test_a_symmetric_object_is_steady_in_a_bag_that_loops_fast():
    """Frames of a loop shorter than track_gap_s are no late ones; a new era begins with it."""
    made = FrameHandler(BoxEstimator(), dict.fromkeys(DIAMETERS_M, np.zeros((2, 3))),
                        DropCounters(lambda *_: None), compressed=False)

    def seen(era, at_ms, name):
        messages = frame(0, ('brick', 31.5, 23.5, 30.0, 0.9, name))
        for message in messages:
            message.header.stamp.nanosec = at_ms * MS
        answer = made.answer(Frame(*messages, era=era), NodeParameters())
        return answer.scene.estimates[0].T_camera_object

    for era, at_ms in ((0, 600), (0, 900), (1, 100), (1, 400), (2, 100)):
        first, second = seen(era, at_ms, ''), seen(era, at_ms + 50, 'flip')
        np.testing.assert_allclose(first, second, atol=1e-9)


def test_an_instance_never_has_the_name_of_another_object(objects):
    """A second bolt is not called bolt_2 where that is another part."""
    tracks = Tracks({'bolt': objects['duck'], 'bolt_2': objects['can']})
    parts = [_estimate('bolt'), _estimate('bolt', x=0.5), _estimate('bolt_2', x=1.0)]
    for at_ms in (0, 30):
        assert _names(tracks, *parts, at_ms=at_ms) == ['bolt', 'bolt_3', 'bolt_2']


def test_without_ids_an_instance_is_recognised_by_its_place(tracks):
    """When the detector swaps two ducks, or sees only the second."""
    left, right = _estimate(x=-0.3), _estimate(x=0.3)
    assert _names(tracks, left, right) == ['duck', 'duck_2']
    assert _names(tracks, _estimate(x=0.31), _estimate(x=-0.29), at_ms=30) == ['duck_2', 'duck']
    assert _names(tracks, right, at_ms=60) == ['duck_2']
    assert _names(tracks, _estimate(x=2.0), at_ms=90) == ['duck'], 'too far to be the second'


def test_a_new_instance_does_not_take_the_name_of_a_missing_one(tracks):
    """The detector misses it in one image, and finds another one there for the first time."""
    left, right, new = _estimate(x=-0.3), _estimate(x=0.3), _estimate()
    for at_ms in (0, 30):
        assert _names(tracks, left, right, at_ms=at_ms) == ['duck', 'duck_2']
    assert _names(tracks, new, right, at_ms=60) == ['duck_3', 'duck_2']
    assert _names(tracks, left, right, new, at_ms=90) == ['duck', 'duck_2', 'duck_3']
    for at_ms in range(120, 1500, 30):  # the last place of the missing one is forgotten
        assert _names(tracks, right, new, at_ms=at_ms) == ['duck_2', 'duck_3']
    assert _names(tracks, left, right, new, at_ms=1500) == ['duck', 'duck_2', 'duck_3']


@pytest.mark.parametrize(('before', 'after', 'most', 'names'), [
    ([0.0], [0.9], 0, ['duck']), ([0.0], [0.9], 1, ['duck']),
    ([-0.3, 0.3], [0.6, 1.2], 0, ['duck', 'duck_2']),
    ([-0.3, 0.3], [0.9, 0.3], 2, ['duck', 'duck_2']),
    ([-0.3, 0.3], [0.9, 0.3], 3, ['duck_3', 'duck_2']),
    ([-0.3, 0.3], [0.9, 0.3, 1.5], 3, ['duck_3', 'duck_2', 'duck']),
])
def test_what_jumps_keeps_its_name_where_nothing_else_can_be_meant(
        tracks, before, after, most, names):
    """The only instance, all of them, and one of as many as there can be."""
    for at_ms in (0, 30):
        _names(tracks, *(_estimate(x=x) for x in before), at_ms=at_ms)
    seen = [_estimate(x=x) for x in after]
    assert _names(tracks, *seen, at_ms=60, max_instances=most) == names


def test_what_moves_fast_leaves_no_numbers_behind(tracks):
    """One that moves beside one that rests: else each frame would add a name to /tf."""
    rests = _estimate(x=-0.3)
    for number in range(40):
        fast = _estimate(x=0.3 + 0.5 * (number % 7))
        assert _names(tracks, rests, fast, at_ms=30 * number) == ['duck', 'duck_2'], number
    for number in range(40, 50):  # now it rests, then it moves on: one number is held for it
        assert _names(tracks, rests, _estimate(x=0.3), at_ms=30 * number) == ['duck', 'duck_2']
    for number in range(50, 90):
        fast = _estimate(x=1.3 + 0.5 * (number % 7))
        assert _names(tracks, rests, fast, at_ms=30 * number)[1] in ('duck_2', 'duck_3'), number


def test_after_a_gap_numbers_start_anew(tracks):
    """And when time runs backwards, as when a bag is played again."""
    left, right = _estimate(x=-0.3), _estimate(x=0.3)
    for start_ms in (0, 5000, 0):
        assert _names(tracks, left, right, at_ms=start_ms) == ['duck', 'duck_2']
        assert _names(tracks, right, at_ms=start_ms + 2000) == ['duck']


def test_naming_a_late_frame_changes_nothing(tracks):
    """However late it is: no name, no place, no pose, and no id that it has."""
    left, right = _estimate('brick', x=-0.3), _estimate('brick', x=0.3)
    assert _names(tracks, left, right, at_ms=10000) == ['brick', 'brick_2']
    for late in ((right,), (_estimate('brick', '7', x=0.3), _estimate('brick', '8', x=2.0))):
        assert tracks.names(late, NodeParameters(), ['', 'track 9'][:len(late)]) == [
            'brick_2', 'brick'][:len(late)]
    assert _names(tracks, right, left, at_ms=10030) == ['brick_2', 'brick']
    flipped = _estimate('brick', '8', x=0.34, R=HALF_TURN)
    names, (pose,) = tracks.update(10060 * MS, [flipped], NodeParameters(smoothing_s=1.0))
    assert names == ['brick_2'] and np.allclose(pose.T_camera_object[:3, :3], np.eye(3))
    assert 0.3 < pose.T_camera_object[0, 3] < 0.31


def test_a_new_instance_of_a_late_frame_gets_no_name_that_another_has(tracks):
    """It missed the one that is followed, and the next image names both as before."""
    old, new = _estimate(name='5', x=-0.3), _estimate(name='777', x=0.3)
    parameters = NodeParameters(track=True)
    assert tracks.update(0, [old], parameters, ['track 1'])[0] == ['duck']
    assert tracks.names([new], parameters, ['track 2'], ['track 1']) == ['duck_2']
    both = [new, old], parameters, ['track 2', 'track 1']
    assert tracks.update(30 * MS, *both)[0] == ['duck_2', 'duck']


def test_a_followed_instance_without_a_pose_keeps_its_name_from_new_ones(tracks):
    """It may be hidden for an image; once it is given up its name is free."""
    parameters = NodeParameters(track=True)
    assert tracks.update(0, [_estimate(x=-0.3)], parameters, ['track 1'])[0] == ['duck']
    for others, name in ((['track 1'], 'duck_2'), ([], 'duck')):
        assert tracks.names([_estimate(x=0.3)], parameters, [''], others) == [name]
        assert tracks.update(30 * MS, [_estimate(x=2.3 + 2 * len(others))], parameters, [''],
                             others)[0] == [name]


def test_a_symmetric_object_does_not_flip(tracks):
    """Of two poses that look the same the one nearest to the last is published."""
    _pose(tracks, _estimate('brick'), 0)
    small = exp_so3([0.0, 0.0, 0.1])
    T = _pose(tracks, _estimate('brick', R=small @ HALF_TURN, x=0.01), 30)
    assert np.allclose(T[:3, :3], small)
    assert T[0, 3] == pytest.approx(0.01)


def _far_from_its_origin(brick, middle_m, symmetric=True):
    """Return an object whose middle, and axis of a half turn, is off the origin along x."""
    middle_m = np.array([middle_m, 0.0, 0.0])
    half = make_transform(HALF_TURN, middle_m - HALF_TURN @ middle_m)
    motions = np.stack([np.eye(4), half][:1 + symmetric])
    return dataclasses.replace(brick, symmetries=Symmetries(motions), middle_m=middle_m,
                               bounds_m=brick.bounds_m + middle_m)


def _with_middle(item, x, R):
    """Return an estimate of an object whose middle is at a place."""
    estimate = _estimate('brick', x=x, R=R)
    return dataclasses.replace(estimate, T_camera_object=item.from_centred(
        estimate.T_camera_object))


@pytest.mark.parametrize('middle_m', [0.0, 0.06, 0.3])
def test_a_symmetric_object_does_not_flip_wherever_its_origin_is(objects, middle_m):
    """An equivalent whose origin is further away than a diameter is no jump."""
    brick = _far_from_its_origin(objects['brick'], middle_m)
    tracks = Tracks({'brick': brick})
    for number, R in enumerate((np.eye(3), HALF_TURN) * 2):
        T = _pose(tracks, _with_middle(brick, 0.0, R), 30 * number)
        np.testing.assert_allclose(T[:3, :3], np.eye(3), atol=1e-9)
        np.testing.assert_allclose(T[:3, 3], [-middle_m, 0.0, 1.0], atol=1e-9)


@pytest.mark.parametrize('turns', [(np.eye(3), HALF_TURN), (
    exp_so3([0.0, 0.1, 0.1]), exp_so3([0.0, -0.1, -0.1]))])
def test_instances_keep_their_names_wherever_the_origin_is(objects, turns):
    """Neither an equivalent pose nor an error of rotation brings one to another's place."""
    brick = _far_from_its_origin(objects['brick'], 1.0, turns[1] is HALF_TURN)
    tracks = Tracks({'brick': brick})
    for number, (left, right) in enumerate(itertools.product(turns, turns)):
        names = _names(tracks, _with_middle(brick, -0.15, left), _with_middle(brick, 0.15, right),
                       at_ms=60 * number)
        assert names == ['brick', 'brick_2']
        names = _names(tracks, _with_middle(brick, 0.15, left), _with_middle(brick, -0.15, right),
                       at_ms=60 * number + 30)
        assert names == ['brick_2', 'brick']


def test_smoothing_turns_an_object_about_its_middle(objects):
    """Half way between two rotations the middle stays where both have it."""
    brick = _far_from_its_origin(objects['brick'], 0.3, symmetric=False)
    tracks = Tracks({'brick': brick})
    _pose(tracks, _with_middle(brick, 0.0, np.eye(3)), 0)
    T = _pose(tracks, _with_middle(brick, 0.0, exp_so3([0.0, 0.0, 0.4])), 30, smoothing_s=0.05)
    np.testing.assert_allclose(brick.to_centred(T)[:3, 3], [0.0, 0.0, 1.0], atol=1e-9)
    assert 0.1 < rotation_angle(T[:3, :3]) < 0.3


@pytest.mark.parametrize('ratio', [1.0, 0.9])
def test_an_equivalent_of_an_object_smaller_than_its_mesh_is_where_the_object_is(objects, ratio):
    """An axis of symmetry beside the origin is nearer to it; all that is published knows that."""
    aside = make_transform(HALF_TURN, [0.1, 0.0, 0.0])
    brick = dataclasses.replace(objects['brick'], size_ratio=ratio, symmetries=Symmetries(
        np.stack([np.eye(4), aside])))
    real = make_transform(HALF_TURN, [0.1 * ratio, 0.0, 0.0])
    flipped = _estimate('brick').T_camera_object @ real
    first, second = _estimate('brick'), dataclasses.replace(
        _estimate('brick'), T_camera_object=flipped)
    tracks, T = Tracks({'brick': brick}), first.T_camera_object
    for number, estimate in enumerate((first, second)):
        _, (pose,) = tracks.update(number * 30 * MS, [estimate], NodeParameters())
        assert np.allclose(pose.T_camera_object, T)
    confirmation = Confirmation('brick', 0, {'brick': brick})
    found = [confirmation.see(number * 30 * MS, ['brick'], [estimate], NodeParameters(
        confirm_frames=2)) for number, estimate in enumerate((first, second))][1]
    assert found is not None and np.allclose(found.estimate.T_camera_object, T)
    (told,) = json.loads(symmetries_message({'brick': brick}).data)['objects']
    assert np.allclose(told['transforms'][1], real.ravel())
    assert told['diameter_m'] == pytest.approx(ratio * brick.diameter_m)


def test_the_covariance_is_that_of_the_pose_that_is_published(objects):
    """Where an equivalent has its origin elsewhere, rotation errors move it on a lever."""
    aside = make_transform(HALF_TURN, [0.02, 0.0, 0.0])  # half a turn about an axis off the origin
    brick = dataclasses.replace(
        objects['brick'], symmetries=Symmetries(np.stack([np.eye(4), aside])))
    tracks, C = Tracks({'brick': brick}), np.diag([1e-6, 1e-6, 1e-4, 0.01, 0.01, 0.01])
    flipped = _estimate('brick')
    flipped = dataclasses.replace(
        flipped, covariance=C, T_camera_object=flipped.T_camera_object @ aside)
    published = [tracks.update(number * 30 * MS, [estimate], NodeParameters())[1][0]
                 for number, estimate in enumerate(
                     [dataclasses.replace(_estimate('brick'), covariance=C), flipped])]
    assert np.array_equal(published[0].covariance, C)
    assert np.allclose(published[1].T_camera_object, _estimate('brick').T_camera_object)
    expected = C.copy()
    expected[1, 1] += 0.02**2 * 0.01
    expected[2, 2] += 0.02**2 * 0.01
    assert np.allclose(np.diag(published[1].covariance), np.diag(expected))
    assert np.linalg.eigvalsh(published[1].covariance).min() > 0
    assert np.array_equal(flipped.covariance, C)


@pytest.mark.parametrize('parameters', [{}, {'smoothing_s': 1.0}])
def test_a_covariance_is_that_of_the_frame(tracks, parameters):
    """Smoothing does not claim to know better, and a turn about the axes of the object is none."""
    C = np.diag([1e-6, 2e-6, 1e-4, 0.01, 0.02, 0.03])
    _pose(tracks, _estimate('brick'), 0)
    estimate = dataclasses.replace(_estimate('brick', R=HALF_TURN), covariance=C)
    _, poses = tracks.update(30 * MS, [estimate], NodeParameters(**parameters))
    assert np.allclose(poses[0].covariance, C)


@pytest.mark.parametrize(('label', 'change', 'parameters'), [
    ('duck', {}, {}),
    ('brick', {'at_ms': 1500}, {}),
    ('brick', {'at_ms': -10}, {}),
    ('brick', {'x': 0.5}, {}),
    ('brick', {}, {'stable_symmetry': False}),
])
def test_what_is_not_the_same_any_more_is_left_as_estimated(tracks, label, change, parameters):
    """No symmetry, a gap, time backwards, a jump, or not wanted."""
    _pose(tracks, _estimate(label), 0)
    estimate = _estimate(label, R=HALF_TURN, x=change.get('x', 0.0))
    T = _pose(tracks, estimate, change.get('at_ms', 30), **parameters)
    assert np.array_equal(T, estimate.T_camera_object)


def test_poses_are_not_smoothed_unless_asked_for(tracks):
    """They are the estimator's to the bit."""
    _pose(tracks, _estimate(), 0)
    estimate = _estimate(x=0.02, R=exp_so3([0.1, 0.0, 0.0]))
    assert np.array_equal(_pose(tracks, estimate, 30), estimate.T_camera_object)


def test_smoothing_follows_with_its_time_constant(objects):
    """However many frames there are in that time: 63 % of a step after smoothing_s."""
    target = _estimate(x=0.04, R=exp_so3([0.0, 0.0, 0.3]))
    for frames in (1, 10, 100):
        tracks = Tracks(objects)
        _pose(tracks, _estimate(), 0)
        for number in range(1, frames + 1):
            T = _pose(tracks, target, 200 * number / frames, smoothing_s=0.2)
        part = 1 - np.exp(-1)
        assert T[0, 3] == pytest.approx(0.04 * part)
        assert rotation_angle(T[:3, :3]) == pytest.approx(0.3 * part)


def test_a_turn_that_is_a_jump_is_not_smoothed():
    """A pose half way between two hypotheses would be neither."""
    old, new = np.eye(4), make_transform(exp_so3([0.0, 1.2, 0.0]), [0.01, 0.0, 0.0])
    assert np.array_equal(blend(old, new, 0.1), new)


def test_over_dds_the_transform_of_a_symmetric_object_is_steady():
    """The estimator flips in every other frame; after a gap its pose is taken as it is."""
    with ready_node(50) as (_, client):
        for number, name in enumerate(['', 'flip', '', 'flip', 'flip']):
            messages = frame(1 if number < 4 else 9, ('brick', 31.5, 23.5, 30.0, 0.9, name))
            for message in messages:
                message.header.stamp.nanosec = number * 10**8
            assert client.answer(messages) is not None
        assert client.spin(lambda: len(client.transforms) == 5)
        turns = [abs(t.transform.rotation.z) for t in client.transforms]
        assert turns == pytest.approx([0.0, 0.0, 0.0, 0.0, 1.0])


def test_estimates_themselves_are_not_changed(tracks):
    """What the estimator returned can be used elsewhere."""
    before = _estimate('brick', R=HALF_TURN)
    copy = dataclasses.replace(before, T_camera_object=before.T_camera_object.copy())
    _pose(tracks, _estimate('brick'), 0)
    _pose(tracks, before, 30, smoothing_s=1.0)
    assert np.array_equal(before.T_camera_object, copy.T_camera_object)
