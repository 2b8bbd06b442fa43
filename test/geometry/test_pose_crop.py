"""The crop of a pose shows the object as its template does."""

from __future__ import annotations

import numpy as np
import pytest

from mrcnet_ros.geometry.pose_crop import directions_seen, pose_crop
from mrcnet_ros.geometry.rotation_grid import grid_of
from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_angle
from mrcnet_ros.geometry.view_prior import rotation_from_angles
from mrcnet_ros.specs import RefinerSpec, ViewPrior

SPEC = RefinerSpec()
GRID = grid_of(SPEC.bins)
ALL = np.ones(len(GRID), bool)
DIAMETER_M = 0.12
RNG = np.random.default_rng(8)
POSES = [make_transform(exp_so3(RNG.uniform(-3, 3, 3)),
                        [*RNG.uniform(-0.3, 0.3, 2), RNG.uniform(0.4, 1.2)]) for _ in range(40)]


@pytest.mark.parametrize('T', POSES[:8])
def test_the_object_is_in_the_middle_and_as_large_as_in_a_template(T):
    """Its origin is seen at the middle; the relative size is that of the templates."""
    crop, _ = pose_crop(T, DIAMETER_M, SPEC.template, GRID, ALL)
    seen = crop.K_crop @ crop.R_crop_camera @ T[:3, 3]
    middle = (SPEC.template.size_px - 1) / 2
    np.testing.assert_allclose(seen[:2] / seen[2], middle, atol=1e-9)
    np.testing.assert_allclose(crop.R_crop_camera @ crop.R_crop_camera.T, np.eye(3), atol=1e-12)
    relative = DIAMETER_M * crop.focal / np.linalg.norm(T[:3, 3])
    assert relative == pytest.approx(SPEC.template.relative_size) and crop.size_px == 96


@pytest.mark.parametrize('T', POSES)
def test_no_other_roll_and_no_other_template_is_nearer(T):
    """Of all directions and all rolls, tried in steps."""
    crop, nearest = pose_crop(T, DIAMETER_M, SPEC.template, GRID, ALL)
    R = crop.R_crop_camera @ T[:3, :3]
    left = rotation_angle(R @ GRID[nearest].T)
    for angle in np.radians(np.arange(0, 360, 15)):
        rolled = exp_so3([0.0, 0.0, angle]) @ R
        trace = np.einsum('ij,nij->n', rolled, GRID)
        assert np.arccos(np.clip((trace.max() - 1) / 2, -1, 1)) >= left - 1e-6
    # 192 directions are about 15 degrees apart
    assert left < np.radians(12.0)


@pytest.mark.parametrize('T', POSES[:8])
def test_turning_the_camera_about_the_ray_does_not_change_what_is_seen(T):
    """The crop is rolled, so the object stands in it as before."""
    turn = exp_so3(0.8 * T[:3, 3] / np.linalg.norm(T[:3, 3]))
    turned = make_transform(turn @ T[:3, :3], turn @ T[:3, 3])
    (a, first), (b, second) = (pose_crop(pose, DIAMETER_M, SPEC.template, GRID, ALL)
                               for pose in (T, turned))
    assert first == second
    np.testing.assert_allclose(a.R_crop_camera @ T[:3, :3], b.R_crop_camera @ turned[:3, :3],
                               atol=1e-9)


def test_only_templates_that_there_are_are_chosen():
    """The nearest of them, although another one would be nearer."""
    for T in POSES:
        _, best = pose_crop(T, DIAMETER_M, SPEC.template, GRID, ALL)
        some = ALL.copy()
        some[best] = False
        _, other = pose_crop(T, DIAMETER_M, SPEC.template, GRID, some)
        assert other != best and some[other]


def test_a_prior_leaves_the_directions_it_allows_whatever_the_tilt():
    """An object seen from above has about half of them; how it is tilted does not count."""
    above = ViewPrior(elevation_min_deg=0.0, elevation_max_deg=90.0, tilt_max_deg=20.0)
    seen = directions_seen(SPEC, above)
    assert directions_seen(SPEC, None).all() and 90 < seen.sum() < 130
    rng = np.random.default_rng(3)
    for _ in range(200):
        azimuth, elevation, tilt = rng.uniform([-np.pi, 0.02, -np.pi], [np.pi, 1.55, np.pi])
        T = make_transform(rotation_from_angles(azimuth, elevation, tilt), [0.0, 0.0, 0.8])
        _, nearest = pose_crop(T, DIAMETER_M, SPEC.template, GRID, ALL)
        assert seen[nearest]
