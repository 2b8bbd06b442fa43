"""What the network should have said: soft labels, and symmetric equivalents."""

from __future__ import annotations

import pytest

pytest.importorskip('torch', reason='needs the train extra')

import numpy as np
import torch
from meshes import bumpy_sphere, cube

from mrcnet_ros.geometry.bins import cell_centres, encode_translation, scale_centres
from mrcnet_ros.geometry.crop import CropCamera, pinhole
from mrcnet_ros.geometry.rotation_grid import rotation_grid
from mrcnet_ros.geometry.se3 import exp_so3, make_transform, rotation_angle, rotation_to_axis
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.meshes import measure_diameter
from mrcnet_ros.network.mrcnet import Stage2
from mrcnet_ros.specs import BinSpec, ModelSpec
from mrcnet_ros.training.composer import Sample
from mrcnet_ros.training.step import fine_losses
from mrcnet_ros.training.targets import (
    POINTS,
    Batch,
    ObjectShapes,
    Poses,
    cell_targets,
    nearest_true_poses,
    rotation_targets,
    scale_targets,
    stack_samples,
)

GRID = torch.tensor(np.array(rotation_grid(1, 6)), dtype=torch.float32)
HALF_TURN = make_transform(exp_so3([0, 0, np.pi]), np.zeros(3))
BLOB, BOX = bumpy_sphere(0.05, subdivisions=2).vertices, cube(0.08).vertices * [1.0, 0.6, 1.4]
SHARPNESS = 0.03


@pytest.fixture(scope='module')
def shapes() -> ObjectShapes:
    """Describe a blob without symmetry, and a box with a half turn about z."""
    return ObjectShapes.build(
        [BLOB, BOX], [measure_diameter(BLOB), measure_diameter(BOX)],
        [np.eye(4)[None], np.stack([np.eye(4), HALF_TURN])], [False, False])


def shapes_of(symmetries: np.ndarray) -> ObjectShapes:
    """Describe the box alone, with symmetries (M, 4, 4) [m]."""
    return ObjectShapes.build([BOX], [measure_diameter(BOX)], [symmetries], [False])


def batch_of(rotations: np.ndarray, class_index: int, xy=(0.0, 0.0), log_size=0.0,
             focal=4.0) -> Batch:
    """Return a batch with these rotations (N, 3, 3); images and coordinates are empty."""
    count = len(rotations)
    return Batch(
        torch.zeros(count, 3, 8, 8), torch.full((count,), class_index),
        torch.tensor(rotations, dtype=torch.float32), torch.tensor([xy] * count),
        torch.full((count,), log_size), torch.full((count,), focal),
        torch.zeros(count, 3, 2, 2), torch.zeros(count, 2, 2),
        torch.full((count,), -1))


def random_rotations(count: int) -> np.ndarray:
    """Return rotations (count, 3, 3)."""
    return exp_so3(np.random.default_rng(0).normal(size=(count, 3)) * 2)


def test_no_rotation_of_a_ball_is_wrong():
    """Its labels are even, and the target is the rotation that it is compared with."""
    info = {'symmetries_continuous': [{'axis': axis, 'offset': [0, 0, 0]}
                                      for axis in ([0, 0, 1], [1, 0, 0])]}
    ball = Symmetries.from_bop(info, 1.0)
    assert ball.is_ball
    shapes = ObjectShapes.build([BLOB], [measure_diameter(BLOB)], [ball.for_training], [True])
    batch, other = batch_of(random_rotations(5), 0), random_rotations(9)[4:]
    labels = rotation_targets(batch, shapes, GRID, SHARPNESS)
    np.testing.assert_allclose(labels, 1 / len(GRID), rtol=1e-5)
    reference = torch.tensor(other, dtype=torch.float32)
    found = nearest_true_poses(batch, shapes, reference)
    np.testing.assert_array_equal(found.rotation, reference)
    np.testing.assert_allclose(found.log_size, batch.log_size, atol=1e-6)


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
    found = nearest_true_poses(batch_of(R, 1), shapes,
                               torch.tensor(reference, dtype=torch.float32)).rotation
    np.testing.assert_allclose(found, R @ HALF_TURN[:3, :3], atol=1e-6)
    near = nearest_true_poses(batch_of(R, 1), shapes,
                              torch.tensor(R @ nudge, dtype=torch.float32)).rotation
    np.testing.assert_allclose(near, R, atol=1e-6)


def test_an_object_without_symmetries_keeps_its_truth(shapes):
    """Padding of the symmetries to a common number adds no equivalent."""
    R = random_rotations(8)
    reference = torch.tensor(R @ HALF_TURN[:3, :3], dtype=torch.float32)
    found = nearest_true_poses(batch_of(R, 0), shapes, reference).rotation.numpy()
    assert rotation_angle(np.swapaxes(found, -1, -2).astype(float) @ R).max() < 1e-3


def test_nearest_is_by_the_vertices_not_by_the_angle():
    """Of three half turns of a box the chosen one moves the vertices least from the reference."""
    group = np.stack([np.eye(4)] + [make_transform(exp_so3(np.pi * axis), np.zeros(3))
                                    for axis in np.eye(3)])
    R, reference = random_rotations(64), exp_so3(
        2 * np.random.default_rng(2).normal(size=(64, 3)))
    found = nearest_true_poses(batch_of(R, 0), shapes_of(group),
                               torch.tensor(reference, dtype=torch.float32)).rotation
    candidates = R[:, None] @ group[None, :, :3, :3]
    moved = np.einsum('nsij,pj->nspi', candidates - reference[:, None], BOX)
    least = (moved**2).sum(-1).mean(-1).argmin(1)
    np.testing.assert_allclose(found, candidates[np.arange(64), least], atol=1e-5)
    by_angle = np.einsum('nsij,nij->ns', candidates, reference).argmax(1)
    assert (by_angle != least).sum() > 5  # or the test could not tell the two rules apart


@pytest.fixture
def off_axis() -> tuple[Batch, ObjectShapes, Poses]:
    """Give true poses of a box, and those after half a turn about an axis off its origin."""
    centre = np.array([0.05, -0.02, 0.03])
    turn = HALF_TURN[:3, :3]
    symmetry = make_transform(turn, centre - turn @ centre)
    crop = CropCamera(np.eye(3), pinhole(400.0, 96), 96)
    diameter_m, R = measure_diameter(BOX), random_rotations(8)
    t = np.random.default_rng(4).uniform([-0.05, -0.05, 0.4], [0.05, 0.05, 0.9], (8, 3))
    batch, turned = (
        batch_of(rotation_to_axis(T[:, :3, 3]) @ T[:, :3, :3], 0, focal=400.0 / 96)._replace(
            xy=torch.tensor(code[:, :2]).float(), log_size=torch.tensor(code[:, 2]).float())
        for T in (make_transform(R, t), make_transform(R, t) @ symmetry)
        for code in [encode_translation(T[:, :3, 3], crop.focal, diameter_m)])
    return (batch, shapes_of(np.stack([np.eye(4), symmetry])),
            Poses(turned.rotation, turned.xy, turned.log_size))


def test_a_symmetry_about_an_axis_off_the_origin_moves_the_target(off_axis):
    """Position, size and ray of the equivalent are those of the moved origin."""
    batch, shapes, turned = off_axis
    assert (turned.xy - batch.xy).abs().min() > 0.001
    for reference, expected in ((turned.rotation, turned), (batch.rotation, batch)):
        found = nearest_true_poses(batch, shapes, reference)
        for name in Poses._fields:
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=2e-6)


def test_either_of_two_equivalent_poses_is_without_error(off_axis):
    """Stage 2 that answers with the whole equivalent pose has no error in any of its parts."""
    batch, shapes, turned = off_axis
    six = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(8, 1)
    for pose in (batch, turned):
        losses = fine_losses(Stage2(six, pose.xy, pose.log_size, torch.zeros(8)), pose.rotation,
                             batch, shapes)
        for name in ('rotation', 'xy', 'depth'):
            assert losses[name].max() < 5e-4, name


def test_shapes_are_in_diameters():
    """Points lie on the mesh scaled to diameter one; shifts of symmetries are scaled alike."""
    moved = make_transform(HALF_TURN[:3, :3], [0.01, 0, 0])
    shapes = shapes_of(np.stack([np.eye(4), moved]))
    scaled = BOX / measure_diameter(BOX)
    assert shapes.points.shape == (1, POINTS, 3)
    gaps = np.linalg.norm(shapes.points[0].numpy()[:, None] - scaled, axis=2).min(axis=1)
    assert gaps.max() < 1e-6
    np.testing.assert_allclose(shapes.moments[0], scaled.T @ scaled / len(scaled), atol=1e-6)
    np.testing.assert_allclose(shapes.shifts[0, 1], [0.01 / measure_diameter(BOX), 0, 0],
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
                      rng.normal(size=2), 0.1 * i, 3.0 + i, rng.random((3, 2, 2), np.float32),
                      rng.random((2, 2), np.float32), 1.0) for i in range(3)]
    batch = stack_samples(samples).ready(torch.device('cpu'))
    assert batch.image[2, 1, 5, 3] == samples[2].image[5, 3, 1]
    assert batch.class_index.tolist() == [0, 1, 2]
    np.testing.assert_allclose(batch.rotation[1], samples[1].R_ray_object, atol=1e-6)
    np.testing.assert_allclose(batch.xy[1], samples[1].xy, atol=1e-6)
    np.testing.assert_allclose(batch.log_size, [0.0, 0.1, 0.2], atol=1e-6)
    assert batch.focal.tolist() == [3.0, 4.0, 5.0]
    np.testing.assert_array_equal(batch.coordinates[2], samples[2].coordinates)
    np.testing.assert_array_equal(batch.mask[2], samples[2].mask)
