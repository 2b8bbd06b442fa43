"""Laws of the stage-1 bins: rotation grid, cells and sizes."""

from pathlib import Path

import numpy as np
import pytest

from mrcnet_ros.errors import SpecError
from mrcnet_ros.geometry import bins, rotation_grid, se3
from mrcnet_ros.geometry.crop import CropCamera, pinhole
from mrcnet_ros.specs import BinSpec

REFERENCE = Path(__file__).parents[3] / 'shared' / 'reference' / 'rotation_prototypes.npy'
SIZES = [(1, 1), (1, 6), (2, 12), (3, 5), (4, 24)]


@pytest.mark.skipif(not REFERENCE.is_file(), reason=f'{REFERENCE} is not here')
def test_the_grid_is_the_published_one_in_the_published_order():
    """An nside of 4 with 24 angles gives the published quaternions, up to their sign."""
    published = np.load(REFERENCE).astype(np.float64)
    ours = rotation_grid.quaternion_grid(4, 24)
    assert ours.shape == published.shape
    sign = np.sign(np.sum(ours * published, axis=1, keepdims=True))
    np.testing.assert_allclose(sign * ours, published, atol=1e-6)
    np.testing.assert_allclose(
        rotation_grid.rotation_grid(4, 24), se3.rotation_from_quat_wxyz(published), atol=3e-6)


@pytest.mark.parametrize(('nside', 'in_plane'), SIZES)
def test_a_grid_has_its_size_in_distinct_proper_rotations(nside, in_plane):
    """12 nside^2 directions times the in-plane angles, none twice."""
    grid = rotation_grid.rotation_grid(nside, in_plane)
    assert grid.shape == (12 * nside**2 * in_plane, 3, 3)
    np.testing.assert_allclose(np.linalg.det(grid), 1.0, atol=1e-12)
    gram = grid.reshape(-1, 9) @ grid.reshape(-1, 9).T
    np.fill_diagonal(gram, -1.0)
    assert gram.max() < 3.0 - 1e-3


@pytest.mark.parametrize(('nside', 'in_plane'), SIZES)
def test_every_bin_centre_is_its_own_nearest_bin(nside, in_plane):
    """Encoding a bin centre gives its class."""
    grid = rotation_grid.rotation_grid(nside, in_plane)
    np.testing.assert_array_equal(rotation_grid.nearest_bin(grid, grid), np.arange(len(grid)))


def test_the_nearest_bin_has_the_smallest_angle():
    """The shortcut by traces agrees with measured angles, and the default grid is fine enough."""
    grid = rotation_grid.rotation_grid(2, 12)
    R = se3.rotation_from_quat_wxyz(np.random.default_rng(1).standard_normal((100, 4)))
    chosen = rotation_grid.nearest_bin(R, grid)
    angles = se3.rotation_angle(np.swapaxes(R, -1, -2)[:, None] @ grid)
    np.testing.assert_allclose(
        np.take_along_axis(angles, chosen[:, None], 1)[:, 0], angles.min(axis=1), atol=1e-12)
    assert angles.min(axis=1).max() < np.radians(40)


def test_the_grid_covers_all_directions_evenly():
    """Object axes average out, and each octant of viewing directions has its share."""
    grid = rotation_grid.rotation_grid(4, 24)
    np.testing.assert_allclose(grid.mean(axis=0), 0.0, atol=1e-12)
    octants = np.unique(np.sign(grid[:, 2] + 1e-3) @ [1, 2, 4], return_counts=True)[1]
    assert len(octants) == 8
    assert octants.min() > 0.7 * octants.max()


def test_a_cached_grid_cannot_be_changed_by_its_users():
    """The array is shared and therefore read-only."""
    with pytest.raises(ValueError, match='read-only'):
        rotation_grid.rotation_grid(1, 6)[0, 0, 0] = 2.0


@pytest.mark.parametrize('bad', [(0, 12), (2, 0), (-1, 3)])
def test_an_empty_grid_is_refused(bad):
    """The error repeats the two numbers."""
    with pytest.raises(SpecError, match=f'{bad[0]} and {bad[1]}'):
        rotation_grid.quaternion_grid(*bad)


@pytest.mark.parametrize('focal_px', [80.0, 900.0])
def test_a_translation_survives_encoding_and_decoding(focal_px):
    """Encoded and decoded translations are equal to 1e-12 m, whatever the crop."""
    crop = CropCamera(np.eye(3), pinhole(focal_px, 96), 96)
    rng = np.random.default_rng(5)
    t = np.column_stack([rng.uniform(-0.2, 0.2, (100, 2)), rng.uniform(0.3, 3.0, 100)])
    code = bins.encode_translation(t, crop.focal, 0.15)
    np.testing.assert_allclose(
        bins.decode_translation(code[:, :2], code[:, 2], crop.focal, 0.15), t, rtol=0, atol=1e-12)


def test_a_code_says_where_in_the_crop_the_object_is_and_how_large():
    """Position is the projected origin in crop widths, the size is diameter f / (z size)."""
    crop = CropCamera(np.eye(3), pinhole(400.0, 96), 96)
    t = np.array([0.03, -0.02, 0.8])
    u, v, w = crop.K_crop @ t
    expected = [(u / w - 47.5) / 96, (v / w - 47.5) / 96, np.log(0.15 * 400.0 / (0.8 * 96))]
    np.testing.assert_allclose(bins.encode_translation(t, crop.focal, 0.15), expected, atol=1e-14)


@pytest.mark.parametrize('spec', [BinSpec(), BinSpec(cells=5, scale_bins=7)])
def test_centres_are_evenly_spaced_and_fill_their_range(spec):
    """Cells tile the crop, scale bins tile the range of log sizes: half a bin at both ends."""
    cells, scales = bins.cell_centres(spec), bins.scale_centres(spec)
    assert len(cells) == spec.cells and len(scales) == spec.scale_bins
    for centres, low, high in ((cells, -0.5, 0.5),
                               (scales, np.log(spec.scale_min), np.log(spec.scale_max))):
        width = (high - low) / len(centres)
        np.testing.assert_allclose(np.diff(centres), width, atol=1e-12)
        assert centres[0] == pytest.approx(low + width / 2)
        assert centres[-1] == pytest.approx(high - width / 2)
