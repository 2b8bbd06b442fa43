"""Poses are compared with the nearest equivalent of the truth, on the mesh or the real object."""

from __future__ import annotations

from pathlib import Path

import bop_folder
import numpy as np
import pytest

from mrcnet_ros.datasets.bop import BopDataset
from mrcnet_ros.evaluation.compared_object import ComparedObject
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.objects import ObjectModel, load_bop_objects

T_GT = bop_folder.pose(0.05, -0.02, 0.8)
root = bop_folder.root_fixture(scope='module')


@pytest.fixture(scope='module')
def cube(root: Path) -> ObjectModel:
    """Return the object that looks the same after a quarter turn about z."""
    return load_bop_objects(BopDataset(root, 'toy', 'test').models_dir)[3]


def test_an_estimate_is_compared_with_the_equivalent_that_is_nearest(cube: ObjectModel) -> None:
    """A quarter turn does not count; what is left is told from the turned truth."""
    T_near = T_GT @ bop_folder.SYMMETRIES[3][0]
    T_est = T_near.copy()
    T_est[:3, 3] += [0.003, 0.0, 0.004]
    found = ComparedObject(cube).nearest(T_est, T_GT)
    np.testing.assert_allclose(found.T_camera_object, T_near, atol=1e-9)
    np.testing.assert_allclose(found.difference, [0.0, 0.005, 0.004], atol=1e-6)
    assert found.mssd_m == pytest.approx(0.005)


def test_points_of_the_real_object_move_less_if_it_is_smaller_than_its_mesh(cube: ObjectModel
                                                                            ) -> None:
    """By its size when it turns, and by as much as those of the mesh when it is shifted."""
    turned, shifted = T_GT.copy(), T_GT.copy()
    turned[:3, :3] = exp_so3([0.0, 0.2, 0.1]) @ turned[:3, :3]
    shifted[:3, 3] += [0.0, 0.01, 0.0]
    mesh, real = ComparedObject(cube), ComparedObject(cube, scale=0.8)
    for T, factor in ((turned, 0.8), (shifted, 1.0)):
        assert real.nearest(T, T_GT).mssd_m == pytest.approx(factor * mesh.nearest(T, T_GT).mssd_m)


def test_symmetries_of_the_real_object_are_used_where_they_are_given(cube: ObjectModel) -> None:
    """An axis beside the origin is nearer to it if the object is smaller than its mesh."""
    turn = make_transform(np.diag([-1.0, -1.0, 1.0]), [0.02, 0.0, 0.0])
    smaller = Symmetries(np.stack([np.eye(4), turn])).scaled(0.5)
    T_est = T_GT @ make_transform(turn[:3, :3], [0.01, 0.0, 0.0])
    assert ComparedObject(cube, symmetries=smaller).nearest(T_est, T_GT).mssd_m < 1e-9
    assert ComparedObject(cube).nearest(T_est, T_GT).mssd_m == pytest.approx(0.01)


def test_any_rotation_of_a_ball_is_right(cube: ObjectModel) -> None:
    """Only the distance of its centre counts."""
    ball = Symmetries.from_bop({'symmetries_continuous': [
        {'axis': axis, 'offset': [0.0, 0.0, 0.0]} for axis in ([0, 0, 1], [1, 0, 0])]}, 1e-3)
    T_est = T_GT.copy()
    T_est[:3, :3] = exp_so3([0.7, -0.9, 0.4]) @ T_est[:3, :3]
    T_est[:3, 3] += [0.0, 0.003, 0.0]
    found = ComparedObject(cube, symmetries=ball).nearest(T_est, T_GT)
    assert found.difference.rotation_rad == pytest.approx(0.0, abs=1e-6)
    assert found.mssd_m == pytest.approx(0.003)
