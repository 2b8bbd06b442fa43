"""Symmetries that a mesh does not have are refused, also those of small objects."""

import numpy as np
import pytest
import trimesh

from mrcnet_ros.errors import MeshError
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.meshes import Mesh, check_symmetries


def part(height_m):
    """Return a cone on a cylinder, its middle in the origin, as a mesh of the package."""
    cylinder = trimesh.creation.cylinder(radius=height_m / 6, height=height_m / 2, sections=48)
    cone = trimesh.creation.cone(radius=height_m / 3, height=height_m / 2, sections=48)
    both = trimesh.util.concatenate([cylinder.apply_translation([0, 0, -height_m / 4]), cone])
    vertices = np.asarray(both.vertices, np.float64)
    return Mesh(vertices, np.asarray(both.faces, np.int32), np.asarray(both.vertex_normals),
                np.full(vertices.shape, 128, np.uint8))


def turns(*vectors_rad):
    """Return no turn and those of rotation vectors."""
    return np.stack([make_transform(exp_so3(np.array(v, np.float64)), np.zeros(3))
                     for v in ((0.0, 0.0, 0.0), *vectors_rad)])


@pytest.mark.parametrize('height_m', [0.03, 0.3])
def test_half_turns_that_are_none_are_refused(height_m):
    """The outline of a small object moves by less than the 15 mm that BOP lets pass."""
    mesh = part(height_m)
    check_symmetries('part.ply', mesh, turns((0, 0, 1.0), (0, 0, 2.5)), height_m)
    with pytest.raises(MeshError, match=r'part\.ply: does not have the given symmetries'):
        check_symmetries('part.ply', mesh, turns((np.pi, 0, 0)), height_m)
