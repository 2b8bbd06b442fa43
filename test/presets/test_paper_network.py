"""The published network: names, grouping of detections, kernels by class, decoding."""

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from paper_model import SMALL, small_network  # noqa: E402

from mrcnet_ros.presets.paper.decode import translation as numpy_translation  # noqa: E402
from mrcnet_ros.presets.paper.network.blocks import BatchStatNorm, ObjectConv  # noqa: E402
from mrcnet_ros.presets.paper.network.decode import (  # noqa: E402
    PaperBins,
    residual_view,
    torch_translation,
)
from mrcnet_ros.presets.paper.network.mrcnet import PaperNet  # noqa: E402

TURNS = SMALL.turns


@pytest.fixture(scope='module')
def network():
    """Return a network with seeded weights."""
    torch.set_num_threads(1)
    return small_network()


def detections(count, seed=0):
    """Return images, templates, classes, views and intrinsics of detections."""
    rng = torch.Generator().manual_seed(seed)
    n, size = count * TURNS, SMALL.size_px
    K = torch.tensor([[400.0, 0.0, 20.0], [0.0, 410.0, 40.0], [0.0, 0.0, 1.0]]).repeat(n, 1, 1)
    classes = (torch.arange(count) % 2).repeat_interleave(TURNS)
    image, template = (torch.rand(n, 4, size, size, generator=rng) for _ in range(2))
    return (image, template,
            classes, 0.2 * torch.rand(n, 3, generator=rng), K)


@torch.no_grad()
def poses(network, image, template, classes, view, K):
    """Return R and t of the full forward pass."""
    bins = PaperBins(SMALL)
    crop = network.features(image, classes)
    coarse = bins.coarse(network.stage1(crop, view), K)
    residual = network.stage2(crop, network.features(template, classes),
                              residual_view(coarse, view))
    return bins.refine(coarse, residual, K)


def test_company_does_not_change_a_pose(network):
    """Three detections in one batch get the poses that each gets alone, to 1e-4."""
    batch = detections(3)
    R, t = poses(network, *batch)
    for i in range(3):
        rows = slice(i * TURNS, (i + 1) * TURNS)
        R_alone, t_alone = poses(network, *(x[rows] for x in batch))
        assert (R[rows] - R_alone).abs().max() < 1e-4
        assert (t[rows] - t_alone).abs().max() < 1e-4 * t_alone.abs().max()


def test_a_detections_rotations_do_share_their_statistics(network):
    """An image's features depend on the other rotations of its detection, as published."""
    image, _, classes, _, _ = detections(1)
    changed = image.clone()
    changed[3] = changed[3] ** 2
    with torch.no_grad():
        before, after = network.features(image, classes), network.features(changed, classes)
    assert (before.x4[0] - after.x4[0]).abs().max() > 1e-3


@pytest.mark.parametrize('group', [1, 2, 4])
def test_a_norm_makes_each_group_standard(group):
    """In evaluation every group has mean zero and variance one in every channel."""
    norm = BatchStatNorm(5, group=group).eval()
    x = torch.randn(8, 5, 6, 7) * (0.1 + torch.rand(8, 1, 1, 1)) + torch.rand(8, 1, 1, 1)
    y = norm(x).detach().reshape(-1, group, 5, 6, 7)
    assert y.mean((1, 3, 4)).abs().max() < 1e-5
    assert (y.var((1, 3, 4), correction=0) - 1).abs().max() < 1e-2
    whole = BatchStatNorm(5, group=8).eval()(x)
    torch.testing.assert_close(BatchStatNorm(5, group=group).train()(x), whole,
                               rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kernel', [1, 3])
@pytest.mark.parametrize('as_products', [False, True])
def test_an_object_convolution_takes_each_images_own_kernel(kernel, as_products):
    """Every image of a mixed batch is convolved with the kernel of its class."""
    conv = ObjectConv(6, 4, kernel=kernel, objects=3)
    torch.nn.init.normal_(conv.bias)
    conv.as_products = as_products
    x, classes = torch.randn(5, 6, 7, 9), torch.tensor([2, 0, 2, 1, 0])
    for image, index, answer in zip(x, classes, conv(x, classes), strict=True):
        expected = torch.nn.functional.conv2d(
            image[None], conv.weights[index], conv.bias[index].flatten(), padding=kernel // 2)
        torch.testing.assert_close(answer, expected[0], rtol=1e-4, atol=1e-5)


def test_the_second_names_are_the_same_tensors():
    """``base_model`` holds the encoder's own tensors, and two entries nobody uses."""
    with torch.device('meta'):
        state = PaperNet(spec=SMALL, objects=2).state_dict(keep_vars=True)
    prefix, unused = 'backbone.base_model.', ('0.weight', '1.weight', '1.bias')
    for name, tensor in state.items():
        if name.startswith(prefix) and name.removeprefix(prefix) not in unused:
            stage, rest = name.removeprefix(prefix).split('.', 1)
            assert state[f'backbone.layer{int(stage) - 3}.0.{rest}'] is tensor


def test_the_mask_takes_no_gradient_from_the_poses(network):
    """Only the mask's own loss trains the mask channel of the last decoder layer."""
    image, _, classes, view, _ = detections(1)
    last = network.backbone.decoder.conv_last.bias
    rotation = network.stage1(network.features(image, classes), view).rotation
    gradient, = torch.autograd.grad(rotation.sum(), last)
    assert gradient[0, :64].abs().max() > 0
    assert gradient[0, 64].abs().max() == 0


def test_torch_and_numpy_decode_alike():
    """Training and inference place an object at the same point."""
    rng = np.random.default_rng(0)
    K = np.tile([[400.0, 0, 20], [0, 410, 40], [0, 0, 1]], (6, 1, 1))
    xy, depth = rng.uniform(-0.5, 0.5, (6, 2)), rng.uniform(0.1, 2.0, 6)
    t = torch_translation(*(torch.tensor(x) for x in (xy, depth, K)), SMALL.size_px)
    np.testing.assert_allclose(t.numpy(), numpy_translation(xy, depth, K, SMALL.size_px))


def test_a_translation_projects_back_to_its_cell():
    """The origin's pixel and depth are those that were decoded."""
    K = np.array([[400.0, 0, 20], [0, 410, 40], [0, 0, 1]])
    t = numpy_translation([0.25, -0.125], 1.5, K, 64)
    pixel = K @ t / t[2]
    np.testing.assert_allclose(pixel[:2], [32 + 16, 32 - 8])
    assert t[2] == pytest.approx(1.5 * 400)


def test_a_spec_survives_json():
    """A spec equals what is read back from plain data, and unknown fields are refused."""
    from mrcnet_ros.errors import SpecError
    from mrcnet_ros.presets.paper.spec import PaperSpec, paper_spec

    spec = paper_spec('tless')
    assert PaperSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(SpecError, match='radius'):
        PaperSpec.from_dict({k: v for k, v in spec.to_dict().items() if k != 'radius'})
    with pytest.raises(SpecError, match='tless'):
        paper_spec('linemod')
