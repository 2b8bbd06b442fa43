"""Symmetries of shape and colour are found, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import trimesh
from new_model.shapes import cylinder, flange, grey, marked_cylinder, mug, turned

from mrcnet_ros.geometry.se3 import exp_so3
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.meshes import Mesh, measure_diameter
from mrcnet_ros.new_model.seen_surface import look_at
from mrcnet_ros.new_model.symmetry_search import Found, find_symmetries

BOX = trimesh.creation.box


def search(mesh: Mesh) -> Found:
    """Find the symmetries of a mesh."""
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    diameter = measure_diameter(mesh.vertices)
    return find_symmetries(look_at(mesh, middle, diameter), mesh.vertices, middle, diameter)


EXPECTED = {
    'box': (BOX((100, 60, 30)), 3, 0),
    'cube': (BOX((100, 100, 100)), 23, 0), 'plate': (BOX((100, 60, 0.5)), 3, 0),
    'cylinder': (cylinder(), 1, 1),
    'cone': (trimesh.creation.cone(30, 80, sections=48), 0, 1),
    'hexagon': (trimesh.creation.cylinder(30, 30, sections=6), 11, 0),
    'flange with 4 holes': (flange(4), 7, 0),
    'flange with 7 holes and a boss': (
        flange(7) + turned(cylinder(12, 20), np.eye(4), (0, 0, 9)), 6, 0),
    'mug': (mug(), 0, 0)}


@pytest.mark.parametrize('name', EXPECTED)
def test_the_symmetries_of_a_shape(name: str) -> None:
    """As many turns and full circles as the shape has."""
    shape, turns, circles = EXPECTED[name]
    found = search(grey(shape))
    assert (len(found.turns), len(found.circles)) == (turns, circles), found.words()
    assert not found.by_colour


def test_a_ball_has_all_rotations() -> None:
    """It is told in words, and written as two full circles."""
    found = search(grey(trimesh.creation.icosphere(subdivisions=3, radius=50)))
    assert found.is_ball and 'ball' in found.words()
    assert not Symmetries.from_bop(found.entry(0.001), 0.001).seen_rotations().any()


def test_a_coloured_mark_ends_the_symmetry_of_a_cylinder() -> None:
    """What the colours rule out is told."""
    found = search(marked_cylinder())
    assert not found.turns and not found.circles and found.by_colour


def test_a_cylinder_anywhere_in_its_file_is_round_about_its_own_axis() -> None:
    """The axis passes through it, tilted and far from the origin as it is."""
    tilt: Any = np.eye(4)
    tilt[:3, :3] = exp_so3([0.7, 0.3, 0.1])
    offset = (300.0, 100.0, 200.0)
    found = search(grey(turned(cylinder(), tilt, offset)))
    assert len(found.circles) == 1
    assert abs(found.circles[0] @ tilt[:3, 2]) > np.cos(np.radians(0.5))
    entry = found.entry(0.001)['symmetries_continuous'][0]
    np.testing.assert_allclose(entry['offset'], offset, atol=0.5)


def test_turns_of_a_tilted_box_move_it_onto_itself() -> None:
    """Each motion that is written, in the unit of the file, keeps the corners."""
    tilt: Any = np.eye(4)
    tilt[:3, :3] = exp_so3([0.4, -0.8, 0.3])
    box = turned(BOX((100, 60, 30)), tilt, (50.0, -20.0, 400.0))
    symmetries = Symmetries.from_bop(search(grey(box)).entry(0.001), 1.0).transforms
    assert len(symmetries) == 4
    corners = np.asarray(box.vertices)
    for T in symmetries:
        moved = corners @ T[:3, :3].T + T[:3, 3]
        gap = np.linalg.norm(moved[:, None] - corners, axis=2).min(axis=1)
        assert gap.max() < 1.0
