"""Which frames wait for the estimator, and which are dropped."""

import threading

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from mrcnet_ros.ros.frame_queue import FrameQueue


def test_a_replacing_queue_keeps_the_newest():
    """And tells how many it dropped."""
    queue = FrameQueue(1, replace=True)
    assert [queue.put(n) for n in range(3)] == [0, 1, 1]
    assert queue.get() == 2


def test_a_waiting_frame_gives_way_to_a_newer_one_only():
    """Whichever came first."""
    queue = FrameQueue(1, replace=True, order=lambda number: number)
    assert [queue.put(n) for n in (5, 3, 8, 7)] == [0, 1, 1, 1]
    assert queue.get() == 8


def test_a_lossless_queue_is_full_and_loses_nothing():
    """Whoever puts does not wait; everything comes out, what is older first."""
    told = []
    queue = FrameQueue(2, replace=False, order=lambda number: number,
                       on_room=lambda: told.append(queue.full))
    assert [queue.put(n) for n in (1, 4)] == [0, 0]
    assert queue.full
    assert queue.put(2) == 0
    assert [queue.get() for _ in range(3)] == [1, 2, 4]
    assert not queue.full
    assert told == [True, False]  # still one too many, then room


def test_frames_of_one_order_keep_that_in_which_they_came():
    """A queue without an order is one after the other."""
    queue = FrameQueue(9, replace=False)
    for text in ('b', 'a', 'c'):
        queue.put(text)
    assert [queue.get() for _ in range(3)] == ['b', 'a', 'c']


def test_closing_a_queue_ends_all_waiting():
    """Whoever waits for a frame goes on; what is put later is dropped."""
    queue = FrameQueue(1, replace=False)
    found = []
    reader = threading.Thread(target=lambda: found.append(queue.get()))
    reader.start()
    assert queue.close() == 0
    reader.join(60)
    assert found == [None]
    assert queue.put(1) == 1
