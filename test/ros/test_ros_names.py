"""Names of instances, which stay from frame to frame."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from tracked_instances import MS, estimate_of, names_of

from mrcnet_ros.geometry.se3 import make_transform
from mrcnet_ros.ros.params import NodeParameters
from mrcnet_ros.ros.remembered_ids import REMEMBERED_FRAMES, RememberedIds
from mrcnet_ros.ros.tracks import Tracks


def test_names_stay_while_the_camera_moves_past_its_objects(tracks):
    """Where /tf tells its motion; otherwise another instance is in the place of the first."""
    before = [estimate_of(x=-0.3), estimate_of(x=0.3)]
    after = [estimate_of(x=-0.3), estimate_of(x=-0.9)]
    assert names_of(tracks, *before, estimate_of(x=0.9)) == ['duck', 'duck_2', 'duck_3']
    tracks.camera_at(make_transform(np.eye(3), [0.6, 0.0, 0.0]))
    assert names_of(tracks, *after, at_ms=30) == ['duck_2', 'duck']
    tracks.camera_at(np.eye(4))
    assert names_of(tracks, *reversed(before), at_ms=60) == ['duck_2', 'duck']
    assert names_of(tracks, *after, at_ms=90) == ['duck', 'duck_3']


def test_an_instance_keeps_its_name_while_its_id_lives(tracks):
    """Also when the detector lists it in another place or misses it for a while."""
    duck_a, duck_b = estimate_of(name='a'), estimate_of(name='b')
    assert names_of(tracks, duck_a, duck_b, estimate_of('can', 'a')) == ['duck', 'duck_2', 'can']
    assert names_of(tracks, duck_b) == ['duck_2']
    assert names_of(tracks, estimate_of(name='c'), duck_b) == ['duck', 'duck_2']


def test_names_do_not_run_away_from_a_detector_that_numbers_its_boxes(tracks):
    """A new id in every frame is still the first duck."""
    names = {names_of(tracks, estimate_of(name=str(i)), at_ms=i)[0] for i in range(1000)}
    assert names == {'duck'}


def test_frames_that_come_too_slowly_for_names_are_noticed(tracks):
    """Steadily; a pause of the robot is none of them, nor is an empty table."""
    ducks = [estimate_of(x=-0.3), estimate_of(x=0.3)]
    gaps = []
    for number in range(6):
        names_of(tracks, *ducks[::1 if number % 2 else -1], at_ms=1250 * number)
        gaps.append(tracks.gap_s)
    assert gaps == [0, 0, *[1.25] * 4]
    names_of(tracks, *ducks, at_ms=6500)
    assert tracks.gap_s == 0
    for at_ms in (60_000, 60_300, 99_000):
        names_of(tracks, *ducks, at_ms=at_ms)
        assert tracks.gap_s == 0
    for at_ms in (101_000, 103_000, 105_000):
        names_of(tracks, *ducks, at_ms=at_ms, track_gap_s=3.0)
        assert tracks.gap_s == 0
    names_of(tracks, at_ms=107_000)
    names_of(tracks, *ducks, at_ms=109_000)
    assert tracks.gap_s == 0


@pytest.mark.parametrize('ids', [('', '', ''), ('a', 'a', 'a')])
def test_names_of_one_frame_differ(tracks, ids):
    """Whatever the ids are."""
    assert names_of(tracks, *(estimate_of(name=i) for i in ids)) == ['duck', 'duck_2', 'duck_3']


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
    left, right = estimate_of(name='0', x=-0.3), estimate_of(name='0', x=0.3)
    for at_ms in (0, 30, 60, 90):
        assert names_of(tracks, left, right, at_ms=at_ms) == ['duck', 'duck_2']
    assert names_of(tracks, right, left, at_ms=120) == ['duck_2', 'duck']


def test_ids_that_number_the_boxes_of_an_image_do_not_exchange_names(tracks):
    """The order of scores changes, the places do not; two that are moved keep their ids."""
    def seen(first_x, second_x, at_ms):
        return names_of(tracks, estimate_of(name='0', x=first_x),
                        estimate_of(name='1', x=second_x), at_ms=at_ms)

    assert seen(-0.3, 0.3, 0) == ['duck', 'duck_2']
    assert seen(0.3, -0.3, 30) == ['duck_2', 'duck']
    assert seen(-0.3, 0.3, 60) == ['duck', 'duck_2']
    assert seen(-0.27, 0.27, 90) == ['duck', 'duck_2']
    assert names_of(tracks, estimate_of(name='1', x=0.9), at_ms=120) == ['duck_2']


def test_an_instance_never_has_the_name_of_another_object(objects):
    """A second bolt is not called bolt_2 where that is another part."""
    tracks = Tracks({'bolt': objects['duck'], 'bolt_2': objects['can']})
    parts = [estimate_of('bolt'), estimate_of('bolt', x=0.5), estimate_of('bolt_2', x=1.0)]
    for at_ms in (0, 30):
        assert names_of(tracks, *parts, at_ms=at_ms) == ['bolt', 'bolt_3', 'bolt_2']


def test_without_ids_an_instance_is_recognised_by_its_place(tracks):
    """When the detector swaps two ducks, or sees only the second."""
    left, right = estimate_of(x=-0.3), estimate_of(x=0.3)
    assert names_of(tracks, left, right) == ['duck', 'duck_2']
    swapped = estimate_of(x=0.31), estimate_of(x=-0.29)
    assert names_of(tracks, *swapped, at_ms=30) == ['duck_2', 'duck']
    assert names_of(tracks, right, at_ms=60) == ['duck_2']
    assert names_of(tracks, estimate_of(x=2.0), at_ms=90) == ['duck'], 'too far to be the second'


def test_a_new_instance_does_not_take_the_name_of_a_missing_one(tracks):
    """The detector misses it in one image, and finds another one there for the first time."""
    left, right, new = estimate_of(x=-0.3), estimate_of(x=0.3), estimate_of()
    for at_ms in (0, 30):
        assert names_of(tracks, left, right, at_ms=at_ms) == ['duck', 'duck_2']
    assert names_of(tracks, new, right, at_ms=60) == ['duck_3', 'duck_2']
    assert names_of(tracks, left, right, new, at_ms=90) == ['duck', 'duck_2', 'duck_3']
    for at_ms in range(120, 1500, 30):  # the last place of the missing one is forgotten
        assert names_of(tracks, right, new, at_ms=at_ms) == ['duck_2', 'duck_3']
    assert names_of(tracks, left, right, new, at_ms=1500) == ['duck', 'duck_2', 'duck_3']


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
        names_of(tracks, *(estimate_of(x=x) for x in before), at_ms=at_ms)
    seen = [estimate_of(x=x) for x in after]
    assert names_of(tracks, *seen, at_ms=60, max_instances=most) == names


def test_what_moves_fast_leaves_no_numbers_behind(tracks):
    """One that moves beside one that rests: else each frame would add a name to /tf."""
    rests = estimate_of(x=-0.3)
    for number in range(40):
        fast = estimate_of(x=0.3 + 0.5 * (number % 7))
        assert names_of(tracks, rests, fast, at_ms=30 * number) == ['duck', 'duck_2'], number
    for number in range(40, 50):  # now it rests, then it moves on: one number is held for it
        assert names_of(tracks, rests, estimate_of(x=0.3), at_ms=30 * number) == ['duck', 'duck_2']
    for number in range(50, 90):
        fast = estimate_of(x=1.3 + 0.5 * (number % 7))
        assert names_of(tracks, rests, fast, at_ms=30 * number)[1] in ('duck_2', 'duck_3'), number


def test_after_a_gap_numbers_start_anew(tracks):
    """And when time runs backwards, as when a bag is played again."""
    left, right = estimate_of(x=-0.3), estimate_of(x=0.3)
    for start_ms in (0, 5000, 0):
        assert names_of(tracks, left, right, at_ms=start_ms) == ['duck', 'duck_2']
        assert names_of(tracks, right, at_ms=start_ms + 2000) == ['duck']


def test_a_new_instance_of_a_late_frame_gets_no_name_that_another_has(tracks):
    """It missed the one that is followed, and the next image names both as before."""
    old, new = estimate_of(name='5', x=-0.3), estimate_of(name='777', x=0.3)
    parameters = NodeParameters(track=True)
    assert tracks.update(0, [old], parameters, ['track 1'])[0] == ['duck']
    assert tracks.names([new], parameters, ['track 2'], ['track 1']) == ['duck_2']
    both = [new, old], parameters, ['track 2', 'track 1']
    assert tracks.update(30 * MS, *both)[0] == ['duck_2', 'duck']


def test_a_followed_instance_without_a_pose_keeps_its_name_from_new_ones(tracks):
    """It may be hidden for an image; once it is given up its name is free."""
    parameters = NodeParameters(track=True)
    assert tracks.update(0, [estimate_of(x=-0.3)], parameters, ['track 1'])[0] == ['duck']
    for others, name in ((['track 1'], 'duck_2'), ([], 'duck')):
        assert tracks.names([estimate_of(x=0.3)], parameters, [''], others) == [name]
        assert tracks.update(30 * MS, [estimate_of(x=2.3 + 2 * len(others))], parameters, [''],
                             others)[0] == [name]
