"""What the network should have said: soft labels, and symmetric equivalents."""

from __future__ import annotations

import pytest

pytest.importorskip('torch', reason='needs the train extra')

import numpy as np
import torch
from meshes import bumpy_sphere, cube

from mrcnet_ros.geometry.bins import cell_centres, scale_centres
from mrcnet_ros.geometry.rotation_grid import rotation_grid
from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_angle
from mrcnet_ros.meshes import measure_diameter
from mrcnet_ros.specs import BinSpec, ModelSpec
from mrcnet_ros.training.composer import Sample
from mrcnet_ros.training.targets import (
    POINTS,
    Batch,
    ObjectShapes,
    cell_targets,
    collate,
    nearest_equivalent,
    rotation_targets,
    scale_targets,
)

GRID = torch.tensor(np.array(rotation_grid(1, 6)), dtype=torch.float32)
HALF_TURN = make_transform(exp_so3([0, 0, np.pi]), [0.01, 0, 0])
BLOB, BOX = bumpy_sphere(0.05, subdivisions=2).vertices, cube(0.08).vertices * [1.0, 0.6, 1.4]
SHARPNESS = 0.03


@pytest.fixture(scope='module')
def shapes() -> ObjectShapes:
    """Describe a blob without symmetry, and a box with a half turn about z."""
    return ObjectShapes.build(
        [BLOB, BOX], [measure_diameter(BLOB), measure_diameter(BOX)],
        [np.eye(4)[None], np.stack([np.eye(4), HALF_TURN])])


def batch_of(rotations: np.ndarray, class_index: int, xy=(0.0, 0.0), log_size=0.0) -> Batch:
    """Return a batch with these rotations (N, 3, 3); images and coordinates are empty."""
    count = len(rotations)
    return Batch(
        torch.zeros(count, 3, 8, 8), torch.full((count,), class_index),
        torch.tensor(rotations, dtype=torch.float32), torch.tensor([xy] * count),
        torch.full((count,), log_size), torch.zeros(count, 3, 2, 2), torch.zeros(count, 2, 2))


def random_rotations(count: int) -> np.ndarray:
    """Return rotations (count, 3, 3)."""
    return exp_so3(np.random.default_rng(0).normal(size=(count, 3)) * 2)


def test_rotation_labels_follow_the_displacement_of_the_vertices(shapes):
    """Log ratios of weights are differences of root mean square displacements in diameters."""
    R = random_rotations(5)
    labels = rotation_targets(batch_of(R, 0), shapes, GRID, SHARPNESS).numpy()
    points = BLOB / measure_diameter(BLOB)
    moved = np.einsum('nij,pj->npi', R, points)[:, None] - np.einsum('rij,pj->rpi', GRID, points)
    distance = np.sqrt((moved**2).sum(-1).mean(-1))
    expected = np.exp(-distance / SHARPNESS)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(labels, expected, atol=2e-3)
    np.testing.assert_array_equal(labels.argmax(1), distance.argmin(1))
    np.testing.assert_allclose(labels.sum(1), 1.0, atol=1e-5)


def test_at_a_bin_centre_the_label_peaks_in_that_bin(shapes):
    """A rotation that is a bin's own gets the most weight there."""
    for row in (0, 17, 40):
        labels = rotation_targets(batch_of(GRID[row:row + 1].numpy(), 0), shapes, GRID, SHARPNESS)
        assert labels[0].argmax() == row
        assert labels[0, row] > 0.9


def test_symmetric_poses_have_the_same_labels(shapes):
    """Half a turn changes nothing for the box, and does for the blob."""
    R = random_rotations(6)
    turned = R @ HALF_TURN[:3, :3]
    for class_index, equal in ((1, True), (0, False)):
        first, second = (rotation_targets(batch_of(r, class_index), shapes, GRID, SHARPNESS)
                         for r in (R, turned))
        assert torch.allclose(first, second, atol=1e-4) == equal
    labels = rotation_targets(batch_of(GRID[3:4].numpy(), 1), shapes, GRID, SHARPNESS)[0]
    both = [3, int(torch.einsum('ij,rij->r', GRID[3] @ torch.tensor(
        HALF_TURN[:3, :3], dtype=torch.float32), GRID).argmax())]
    assert labels[both].sum() > 0.9


def test_the_equivalent_to_aim_for_is_the_nearest_one(shapes):
    """Seen from a reference half a turn away, the truth is turned by the symmetry."""
    R = random_rotations(8)
    nudge = exp_so3(0.2 * np.random.default_rng(1).normal(size=(8, 3)))
    reference = R @ HALF_TURN[:3, :3] @ nudge
    found = nearest_equivalent(batch_of(R, 1), shapes,
                               torch.tensor(reference, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found, R @ HALF_TURN[:3, :3], atol=1e-6)
    near = nearest_equivalent(batch_of(R, 1), shapes,
                              torch.tensor(R @ nudge, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(near, R, atol=1e-6)


def test_an_object_without_symmetries_keeps_its_truth(shapes):
    """Padding of the symmetries to a common number adds no equivalent."""
    R = random_rotations(8)
    reference = torch.tensor(R @ HALF_TURN[:3, :3], dtype=torch.float32)
    found = nearest_equivalent(batch_of(R, 0), shapes, reference).numpy()
    assert rotation_angle(np.swapaxes(found, -1, -2).astype(float) @ R).max() < 1e-3


def test_shapes_are_in_diameters(shapes):
    """Points lie on the mesh scaled to diameter one; shifts of symmetries are scaled alike."""
    scaled = BOX / measure_diameter(BOX)
    assert shapes.points.shape == (2, POINTS, 3)
    gaps = np.linalg.norm(shapes.points[1].numpy()[:, None] - scaled, axis=2).min(axis=1)
    assert gaps.max() < 1e-6
    np.testing.assert_allclose(shapes.moments[1], scaled.T @ scaled / len(scaled), atol=1e-6)
    np.testing.assert_allclose(shapes.shifts[1, 1], [0.01 / measure_diameter(BOX), 0, 0],
                               atol=1e-6)


def test_cell_and_scale_labels_peak_at_the_truth():
    """Their peaks are the cell and the bin the truth lies in; y is the outer axis of the cells."""
    spec = ModelSpec(bins=BinSpec(cells=6, scale_bins=10))
    centres = torch.tensor(cell_centres(spec.bins), dtype=torch.float32)
    scales = torch.tensor(scale_centres(spec.bins), dtype=torch.float32)
    batch = batch_of(np.eye(3)[None], 0, (float(centres[4]) + 0.05, float(centres[1]) - 0.05),
                     float(scales[7]) + 0.04)
    cells = cell_targets(batch, spec, centres.repeat(6), centres.repeat_interleave(6))[0]
    assert cells.argmax() == 1 * 6 + 4
    assert cells.sum() == pytest.approx(1.0, abs=1e-5)
    bins = scale_targets(batch, scales)[0]
    assert bins.argmax() == 7
    assert bins[8] > bins[6]
    assert bins.sum() == pytest.approx(1.0, abs=1e-5)


def test_collating_keeps_every_number():
    """Images become channels first, everything else is stacked."""
    rng = np.random.default_rng(0)
    samples = [Sample(rng.integers(0, 255, (8, 8, 3), np.uint8), i, random_rotations(1)[0],
                      rng.normal(size=2), 0.1 * i, rng.random((3, 2, 2), np.float32),
                      rng.random((2, 2), np.float32), 1.0) for i in range(3)]
    batch = collate(samples)
    assert batch.image[2, 1, 5, 3] == samples[2].image[5, 3, 1]
    assert batch.class_index.tolist() == [0, 1, 2]
    np.testing.assert_allclose(batch.rotation[1], samples[1].R_ray_object, atol=1e-6)
    np.testing.assert_allclose(batch.xy[1], samples[1].xy, atol=1e-6)
    np.testing.assert_allclose(batch.log_size, [0.0, 0.1, 0.2], atol=1e-6)
    np.testing.assert_array_equal(batch.coordinates[2], samples[2].coordinates)
    np.testing.assert_array_equal(batch.mask[2], samples[2].mask)
