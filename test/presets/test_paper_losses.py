"""Soft labels under symmetry and the published losses, against their definitions."""

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from mrcnet_ros.geometry.rotation_grid import rotation_grid  # noqa: E402
from mrcnet_ros.geometry.se3 import exp_so3, make_transform  # noqa: E402
from mrcnet_ros.geometry.symmetry import continuous_symmetry  # noqa: E402
from mrcnet_ros.presets.paper.network.decode import PaperBins  # noqa: E402
from mrcnet_ros.presets.paper.network.labels import (  # noqa: E402
    nearest_equivalent,
    rotation_soft_label,
)
from mrcnet_ros.presets.paper.network.losses import (  # noqa: E402
    PaperTargets,
    cell_label,
    depth_label,
    expected_class_loss,
    focal_loss,
    paper_losses,
    position_in_bins,
    smooth_norm,
)
from mrcnet_ros.presets.paper.network.mrcnet import CoarseLogits, Residual  # noqa: E402
from mrcnet_ros.presets.paper.spec import PaperSpec  # noqa: E402

SPEC = PaperSpec(depth_near=0.05, depth_far=1.7, rotation_nside=1, rotation_in_plane=4)
TWOFOLD = np.stack([np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])])
DIAMETER = 100.0


def tensor(array):
    """Return a float64 tensor."""
    return torch.tensor(np.asarray(array), dtype=torch.float64)


@pytest.fixture
def vertices():
    """Return points of an object without symmetry [mm]."""
    return tensor(np.random.default_rng(0).uniform(-1, 1, (60, 3)) * [40, 25, 15] + [5, 0, 3])


def label(R_gt, R_bins, vertices, symmetries):
    """Return the soft label of float64 inputs."""
    return rotation_soft_label(tensor(R_gt), tensor(R_bins), vertices, tensor(symmetries),
                               DIAMETER).numpy()


def test_the_true_rotation_is_entirely_right_and_others_fall_with_their_distance(vertices):
    """Labels are exp(-mean vertex distance / 3 % of the diameter)."""
    R_gt, grid = exp_so3([0.3, 0.2, -0.5]), rotation_grid(1, 4)
    found = label(R_gt, [R_gt, *grid], vertices, np.eye(4)[None])
    assert found[0] == pytest.approx(1.0)
    moved = np.einsum('kij,pj->kpi', grid - R_gt, vertices.numpy())
    np.testing.assert_allclose(found[1:], np.exp(-np.linalg.norm(moved, axis=2).mean(1) / 3.0),
                               rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize('offset', [(0.0, 0.0, 0.0), (12.0, -5.0, 3.0)])
def test_all_equivalents_of_the_true_rotation_are_entirely_right(vertices, offset):
    """Any symmetric bin counts as right, also about an axis beside the origin."""
    symmetries = continuous_symmetry([0, 0, 1], offset)[::45]
    turning = [T for T in symmetries if np.abs(T[:3, 3]).max() < 1e-9 or offset == (0, 0, 0)]
    R_gt = exp_so3([0.3, 0.2, -0.5])
    found = label(R_gt, [R_gt @ T[:3, :3] for T in turning], vertices, symmetries)
    np.testing.assert_allclose(found, 1.0)


def test_the_offset_of_a_symmetry_counts(vertices):
    """A turn about an axis beside the origin also moves it, which BOP's definition honours."""
    R_gt, turn = np.eye(3), np.diag([-1.0, -1.0, 1.0])
    beside = np.stack([np.eye(4), make_transform(turn, [10.0, 0, 0])])
    found = label(R_gt, [turn], vertices, beside)
    assert found[0] == pytest.approx(np.exp(-10.0 / 3.0))
    assert label(R_gt, [turn], vertices, TWOFOLD)[0] == pytest.approx(1.0)


def test_the_nearest_equivalent_moves_the_vertices_least(vertices):
    """Of all equivalents the one with the smallest mean squared distance is taken."""
    R_gt, t_gt = exp_so3([0.1, -0.4, 0.9]), np.array([10.0, -20.0, 800.0])
    symmetries = continuous_symmetry([0, 0, 1], [4.0, 2.0, 0.0])
    R_reference = R_gt @ exp_so3([0.1, 0.05, 2.0])
    R, t = nearest_equivalent(*(tensor(x) for x in (R_gt, t_gt, R_reference)), vertices,
                              tensor(symmetries))
    candidates = make_transform(R_gt, t_gt) @ symmetries
    moved = np.einsum('sij,pj->spi', candidates[:, :3, :3] - R_reference, vertices.numpy())
    best = candidates[(moved**2).sum((1, 2)).argmin()]
    np.testing.assert_allclose(R.numpy(), best[:3, :3])
    np.testing.assert_allclose(t.numpy(), best[:3, 3])


def truth(vertices, count=2):
    """Return intrinsics and targets of a batch."""
    K = tensor([[[400.0, 0, 20], [0, 410, 40], [0, 0, 1]]] * count)
    R = tensor(exp_so3(np.random.default_rng(1).normal(size=(count, 3))))
    t = tensor([[120.0, 30.0, 300.0], [60.0, 80.0, 250.0]])[:count]
    grid = PaperBins(SPEC).double().rotations
    labels = torch.stack([
        rotation_soft_label(x, grid, vertices, tensor(TWOFOLD), DIAMETER) for x in R])
    return K, PaperTargets(R=R, t=t, rotation_label=labels, mask=torch.ones(count, 8, 8) > 0,
                           vertices=[vertices] * count, T_symmetries=[tensor(TWOFOLD)] * count)


def perfect(K, targets):
    """Return logits sure of the right bins and the residuals that reach the truth exactly."""
    bins = PaperBins(SPEC).double()
    depth, xy = position_in_bins(targets.t, K, SPEC.size_px)
    nearest = [targets.rotation_label.argmax(1), (depth[:, None] - bins.depths).abs().argmin(1),
               (xy[:, None] - bins.cells).norm(dim=2).argmin(1)]
    sizes = (len(bins.rotations), len(bins.depths), len(bins.cells))
    logits = CoarseLogits(*(40.0 * torch.nn.functional.one_hot(i, n).double() - 20.0
                            for i, n in zip(nearest, sizes, strict=True)))
    six = (targets.R @ bins.rotations[nearest[0]].transpose(1, 2)).transpose(1, 2)[:, :2]
    return logits, Residual(six.flatten(1), (depth - bins.depths[nearest[1]])[:, None],
                            xy - bins.cells[nearest[2]])


def test_a_perfect_answer_leaves_only_the_floor_of_each_residual_loss(vertices):
    """Residual losses are 0.5 times their weight at the truth, the class losses small."""
    K, targets = truth(vertices)
    logits, residual = perfect(K, targets)
    sure = torch.full((2, 1, 8, 8), 30.0)
    losses = paper_losses(logits, residual, sure, K, targets, PaperBins(SPEC).double())
    assert losses.rotation_residual == pytest.approx(0.5, rel=1e-6)
    assert losses.xy_residual == pytest.approx(0.5, rel=1e-6)
    assert losses.depth_residual == pytest.approx(0.2 * 0.5, rel=1e-6)
    assert losses.mask < 1e-6


def test_an_equivalent_answer_is_as_good_as_the_truth(vertices):
    """Predicting the pose turned by the object's symmetry costs nothing more."""
    K, targets = truth(vertices)
    bins = PaperBins(SPEC).double()
    turned = targets.R @ tensor(TWOFOLD[1, :3, :3])
    logits, residual = perfect(K, targets)
    six = (turned @ bins.rotations[logits.rotation.argmax(1)].transpose(1, 2)).transpose(1, 2)
    residual = residual._replace(six=six[:, :2].flatten(1))
    losses = paper_losses(logits, residual, torch.zeros(2, 1, 8, 8), K, targets, bins)
    assert losses.rotation_residual == pytest.approx(0.5, rel=1e-6)


def test_residual_errors_are_distances_in_millimetres(vertices):
    """An offset of a hundredth of the crop and a depth error cost their 3-D distance."""
    K, targets = truth(vertices)
    logits, residual = perfect(K, targets)
    bins = PaperBins(SPEC).double()
    moved = residual._replace(xy=residual.xy + tensor([0.02, 0.0]))
    losses = paper_losses(logits, moved, torch.zeros(2, 1, 8, 8), K, targets, bins)
    expected = (0.02 * 256 / 400.0 * targets.t[:, 2]).mean()
    assert losses.xy_residual == pytest.approx(float(expected))
    assert losses.depth_residual == pytest.approx(0.1, rel=1e-6)
    moved = residual._replace(depth=residual.depth + 0.05)
    losses = paper_losses(logits, moved, torch.zeros(2, 1, 8, 8), K, targets, bins)
    expected = (0.05 * 400.0 * targets.t.norm(dim=1) / targets.t[:, 2]).mean()
    assert losses.depth_residual == pytest.approx(0.2 * float(expected))


def test_every_loss_has_a_gradient_for_what_it_trains(vertices):
    """Each term reaches its own output and no class loss reaches a residual."""
    K, targets = truth(vertices)
    values = [torch.randn(2, n, dtype=torch.float64, requires_grad=True)
              for n in (48, 1000, 4096, 6, 1, 2)]
    mask = torch.zeros(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    losses = paper_losses(CoarseLogits(*values[:3]), Residual(*values[3:]), mask, K, targets,
                          PaperBins(SPEC).double())
    trained = (0, 3, 1, 2, 5, 4, 6)
    inputs = [*values, mask]
    for term, own in zip(losses, trained, strict=True):
        gradients = torch.autograd.grad(term, inputs, retain_graph=True, allow_unused=True)
        reached = [i for i, g in enumerate(gradients) if g is not None and g.abs().max() > 0]
        assert reached == [own]


def test_smooth_norm_has_its_knee_at_one():
    """Half the square plus a half below one, the length above, continuous between."""
    lengths = tensor([0.0, 0.5, 1.0, 3.0])
    found = smooth_norm(torch.stack([lengths, 0 * lengths, 0 * lengths], 1))
    np.testing.assert_allclose(found.numpy(), [0.5, 0.625, 1.0, 3.0])


def test_class_labels_are_distributions_around_the_truth():
    """They sum to one and peak at the bin that holds the value."""
    bins = PaperBins(SPEC).double()
    depths = depth_label(tensor([0.3, 1.2]), bins.depths)
    cells = cell_label(tensor([[0.1, -0.2], [0.0, 0.4]]), bins.cells)
    for found in (depths, cells):
        np.testing.assert_allclose(found.sum(1).numpy(), 1.0)
    assert abs(float(bins.depths[depths[0].argmax()]) - 0.3) < 1.65 / 2000 + 1e-9
    assert (bins.cells[cells[0].argmax()] - tensor([0.1, -0.2])).abs().max() <= 1 / 128 + 1e-9
    spacing = bins.depths[1] - bins.depths[0]
    centred = depth_label(bins.depths[100:101], bins.depths)[0]
    ratio = centred[101] / centred[100]
    assert ratio == pytest.approx(np.exp(-4.0), rel=1e-3) and spacing > 0


def test_class_losses_follow_their_formulas():
    """Focal and expected-probability losses on single numbers."""
    logits, p = tensor([[0.7, -1.1]]), tensor([[0.8, 0.1]])
    s = torch.sigmoid(logits)
    expected = 10 * p * (1 - s)**2 * -s.log() + 0.1 * (1 - p) * s**2 * -(1 - s).log()
    assert focal_loss(logits, p)[0] == pytest.approx(float(expected.sum()))
    q, hit = tensor([[0.25, 0.75]]), torch.softmax(logits, 1)
    mean = (hit * q).sum()
    assert expected_class_loss(logits, q)[0] == pytest.approx(
        float(-(1 - mean)**2 * (q * hit.log()).sum()))
