"""What is counted of dropped frames, and what is told."""

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from mrcnet_ros.errors import UnknownLabelError
from mrcnet_ros.ros.drop_counters import DropCounters


def test_the_counters_tell_of_the_first_drop_and_then_of_news():
    """Nothing is repeated while nothing happens."""
    told = []
    counters = DropCounters(lambda reason, message: told.append(reason))
    counters.drop('busy', 'x', 0)
    assert counters.news() == ''
    counters.drop('busy', 'x')
    counters.drop('busy', 'y', 2)
    counters.answer(4)
    assert told == ['busy']
    assert counters.summary() == 'answered 1 frames with 4 poses; dropped: busy 3'
    assert 'y' in counters.news()
    assert counters.news() == ''
    with pytest.raises(KeyError):
        counters.drop('mood')


def test_a_drop_that_goes_on_for_weeks_does_not_fill_the_log():
    """It is told each time that its number has doubled; one of another kind at once."""
    counters = DropCounters(lambda reason, message: None)
    told = 0
    for number in range(1000):
        counters.drop('busy', f'frame {number}')
        told += bool(counters.news())
    assert 8 <= told <= 11
    counters.drop('bad_image', 'torn')
    assert 'torn' in counters.news()


def test_a_label_without_end_is_told_in_short():
    """With the end of the message, which lists what is known."""
    counters = DropCounters(lambda reason, message: None)
    counters.drop('unknown_label', str(UnknownLabelError('x' * 10**6, ['can', 'duck'])))
    text = counters.reasons()['unknown_label']
    assert len(text) < 1100
    assert text.startswith('unknown object label') and text.endswith('knows: can, duck')
