"""Modules that have moved are found where programs of users import them from."""

import importlib

import pytest


@pytest.mark.parametrize(('former', 'name', 'present'), [
    ('mrcnet_ros.evaluation.bop', 'BopDataset', 'mrcnet_ros.datasets.bop'),
    ('mrcnet_ros.ros.bag', 'read_bag', 'mrcnet_ros.testbench.bag')])
def test_what_has_moved_is_found_in_its_former_place(former, name, present):
    """It is the same, be it reached by attribute or by import."""
    if '.ros.' in former:
        pytest.importorskip('rclpy', reason='needs the ROS wheels or a ROS installation')
    there, here = importlib.import_module(former), importlib.import_module(present)
    assert there is here and hasattr(here, name)
