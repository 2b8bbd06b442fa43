"""Bags carry depth images, which fit their images or are refused."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
pytest.importorskip('vision_msgs', reason='needs ros_pip/interfaces or a ROS installation')

from pathlib import Path

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from mrcnet_ros.cli.evaluate_bag import _depth_use
from mrcnet_ros.errors import DatasetError
from mrcnet_ros.geometry.camera import Camera
from mrcnet_ros.ros.depth_image import depth_from_image
from mrcnet_ros.testbench.bag import DEPTH, read_bag
from mrcnet_ros.testbench.bag_writer import BagWriter

CAMERA = Camera(np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]]), 64, 48)
DEPTH_M = np.linspace(0.5, 1.5, 64 * 48, dtype=np.float32).reshape(48, 64)
DEPTH_M[3, 4] = 0.0


def write(path, *depths):
    """Write a bag with a moment for each depth image, None for one without."""
    with BagWriter(path) as writer:
        for number, depth_m in enumerate(depths, start=1):
            if depth_m is not None:
                writer.write_depth(number, depth_m)
            writer.write(number, np.zeros((48, 64, 3), np.uint8), CAMERA, [], [])
    return path


def test_depth_comes_out_of_a_bag_as_it_went_in(tmp_path):
    """To the bit, nothing where nothing was measured; a moment without depth has none."""
    first, second = read_bag(write(tmp_path / 'bag', DEPTH_M, None))
    depth_m = depth_from_image(deserialize_message(first.inputs[DEPTH], Image))
    assert np.isnan(depth_m[3, 4])
    np.testing.assert_array_equal(np.nan_to_num(depth_m), DEPTH_M)
    assert DEPTH not in second.inputs


@pytest.mark.parametrize(('depth_m', 'words'), [
    (DEPTH_M[::2, ::2], 'depth is 32x24 px, the image 64x48 px'),
    (1000 * DEPTH_M, 'the median depth is 1000 m'),
], ids=['another size', 'millimetres'])
def test_depth_that_does_not_fit_its_image_is_refused(tmp_path, depth_m, words):
    """With the bag, the moment and what to do."""
    with pytest.raises(DatasetError, match=words):
        read_bag(write(tmp_path / 'bag', np.ascontiguousarray(depth_m)))


def test_frames_wait_for_depth_where_all_have_it(tmp_path):
    """It may come last; where some have none, no frame waits, and where none has, none is used."""
    every, some, none = (read_bag(write(tmp_path / name, *depths))[:] for name, depths in (
        ('every', (DEPTH_M, DEPTH_M)), ('some', (DEPTH_M, None)), ('none', (None, None))))
    bag = Path('bag')
    assert [_depth_use(bag, frames, 'auto') for frames in (every, some, none)] == [
        'required', 'auto', 'off']
    assert _depth_use(bag, every, 'off') == 'off'
    with pytest.raises(DatasetError, match='1 of 2 images have no /depth'):
        _depth_use(bag, some, 'required')


def test_a_moment_in_which_the_depth_camera_saw_nothing_is_one_without_depth(tmp_path):
    """It is answered from colour alone, and refused at once where depth is required."""
    frames = read_bag(write(tmp_path / 'bag', DEPTH_M, np.zeros_like(DEPTH_M), DEPTH_M))[:]
    assert [DEPTH in frame.inputs for frame in frames] == [True, False, True]
    assert _depth_use(Path('bag'), frames, 'auto') == 'auto'
    with pytest.raises(DatasetError, match=r'1 of 3 images .* nothing was measured'):
        _depth_use(Path('bag'), frames, 'required')
