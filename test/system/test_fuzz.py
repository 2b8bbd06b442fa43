"""Fuzzing with compressed images, and what the fuzzer itself is worth."""

import argparse
import random

import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from ros_process import STAND_IN, WAIT_S, environment, own_domain
from sensor_msgs.msg import CompressedImage

from mrcnet_ros.cli.fuzz import fuzz
from mrcnet_ros.errors import ImageError
from mrcnet_ros.ros.messages import rgb_from_compressed
from mrcnet_ros.testbench.fuzz_messages import HEIGHT, WIDTH, Fuzzer, good_frame, spoil_compressed


def test_the_node_outlives_absurd_compressed_images(tmp_path, monkeypatch, capsys):
    """Good frames between them are answered, and images that cannot be decoded are counted."""
    for name, value in environment(own_domain(64)).items():
        monkeypatch.setenv(name, value)
    args = argparse.Namespace(messages=1500, seed=1, timeout=WAIT_S,
                              log=tmp_path / 'node.log')
    assert fuzz(args, [STAND_IN, '--ros-args'], ['duck', 'brick'], 'compressed') == 0
    told = capsys.readouterr().out
    assert 'compressed: 1500 messages sent' in told
    counts = dict(pair.split() for pair in
                  told.split('dropped: ')[1].splitlines()[0].split(', '))
    for reason in ('bad_image', 'bad_camera_info', 'unknown_label'):
        assert int(counts[reason]) > 0
    assert int(counts['failed']) == 0


def test_a_good_compressed_frame_can_be_decoded():
    """To the size that its camera_info says."""
    image = good_frame(10**9, 'duck', compressed=True)['image']
    assert isinstance(image, CompressedImage)
    assert rgb_from_compressed(image).shape == (HEIGHT, WIDTH, 3)


def test_damage_is_of_both_kinds():
    """Some damaged images cannot be decoded, others can and are another image."""
    draw, fates = random.Random(0), set()
    for _ in range(200):
        image = good_frame(10**9, 'duck', compressed=True)['image']
        spoil_compressed(image, draw)
        try:
            fates.add(rgb_from_compressed(image).shape == (HEIGHT, WIDTH, 3))
        except ImageError:
            fates.add('undecodable')
    assert fates == {True, False, 'undecodable'}


def test_the_same_seed_sends_the_same_compressed_messages():
    """So that a finding can be repeated."""
    def drawn(seed):
        fuzzer = Fuzzer(seed, ['duck'], compressed=True)
        return [(topic, len(m) if isinstance(m, bytes) else repr(m))
                for stamp in range(60) for topic, m in fuzzer.messages(stamp)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
