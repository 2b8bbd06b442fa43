"""The network's correlation, warp, stem and rows of objects."""

from __future__ import annotations

import pytest

pytest.importorskip('torch', reason='needs the train extra')

import numpy as np
import torch
from tiny_model import SPEC, random_network, random_stem, stem_names
from torch.nn import functional

from mrcnet_ros.geometry.bins import cell_centres, scale_centres
from mrcnet_ros.geometry.se3 import rotation_from_6d as rotation_from_6d_numpy
from mrcnet_ros.network import correlation
from mrcnet_ros.network.correlation import local_correlation, warp_template
from mrcnet_ros.network.losses import (
    displacement,
    masked_l1,
    soft_cross_entropy,
    torch_rotation_from_6d,
)
from mrcnet_ros.network.mrcnet import MrcNet, Pyramid
from mrcnet_ros.network.stem import Stem
from mrcnet_ros.specs import ModelSpec
from mrcnet_ros.training.warm_start import object_parameters


def naive_correlation(template: np.ndarray, features: np.ndarray, radius: int) -> np.ndarray:
    """Follow the definition, one number at a time."""
    count, channels, height, width = template.shape
    side = 2 * radius + 1
    result = np.zeros((count, side * side, height, width))
    for n, i, j in np.ndindex(count, height, width):
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                if 0 <= i + dy < height and 0 <= j + dx < width:
                    value = template[n, :, i, j] @ features[n, :, i + dy, j + dx]
                    channel = (dy + radius) * side + dx + radius
                    result[n, channel, i, j] = value / channels**0.5
    return result


@pytest.mark.parametrize('band', [1, 16, correlation.BAND])
@pytest.mark.parametrize(('height', 'width', 'radius'), [(6, 6, 2), (5, 7, 1), (2, 2, 3)])
def test_local_correlation_is_what_its_definition_says(height, width, radius, band, monkeypatch):
    """Every entry equals the scalar product of its definition, the border's zeros included.

    So in bands of one row, of several rows and of the whole map.
    """
    monkeypatch.setattr(correlation, 'BAND', band)
    torch.manual_seed(0)
    template, features = torch.randn(2, 2, 3, height, width, dtype=torch.float64)
    result = local_correlation(template, features, radius).numpy()
    np.testing.assert_allclose(
        result, naive_correlation(template.numpy(), features.numpy(), radius), atol=1e-12)


def test_a_displacement_has_one_channel_and_no_other():
    """A feature two right of and one above the template's is seen in that channel alone."""
    template, features = torch.zeros(2, 1, 4, 9, 9)
    template[0, :, 4, 4] = 1.0
    features[0, :, 4 - 1, 4 + 2] = 1.0
    volume = local_correlation(template, features, 3)[0]
    dy, dx = -1, 2
    expected = (dy + 3) * 7 + dx + 3
    assert volume[expected, 4, 4] == pytest.approx(2.0)
    assert volume.count_nonzero() == 1
    for wrong in ((dx + 3) * 7 + dy + 3, (3 - dy) * 7 + 3 - dx):  # x outer; the opposite sign
        assert volume[wrong, 4, 4] == 0


def offsets(size: int) -> torch.Tensor:
    """Return the positions of pixel centres in widths from the centre, (size,)."""
    return (torch.arange(size, dtype=torch.float64) + 0.5) / size - 0.5


@pytest.mark.parametrize('ratio', [0.5, 1.0, 1.7])
def test_a_warped_template_is_where_the_coarse_pose_puts_it(ratio):
    """What the template shows at offset q appears in the crop at xy + ratio * q."""
    size, xy = 24, torch.tensor([[0.11, -0.07]], dtype=torch.float64)
    x, y = torch.meshgrid(offsets(size), offsets(size), indexing='xy')
    maps = torch.stack([x, y, torch.ones_like(x)])[None]  # each pixel tells its own offset
    warped = warp_template(maps, xy, torch.tensor([ratio], dtype=torch.float64))[0]
    whole = warped[2] > 1 - 1e-9
    assert whole.sum() > 50
    back_x, back_y = xy[0, 0] + ratio * warped[0], xy[0, 1] + ratio * warped[1]
    torch.testing.assert_close(back_x[whole], x[whole], atol=1e-9, rtol=0)
    torch.testing.assert_close(back_y[whole], y[whole], atol=1e-9, rtol=0)


def test_a_warped_template_is_empty_where_the_template_ends():
    """Nothing is drawn beyond the template's border."""
    size = 16
    maps, xy = torch.ones(1, 1, size, size), torch.tensor([[0.25, 0.0]])
    warped = warp_template(maps, xy, torch.tensor([0.5]))[0, 0]
    p = offsets(size)
    outside = ((p - 0.25).abs() > 0.25 + 0.5 / size)
    assert warped[:, outside].abs().max() == 0
    assert warped[size // 2, ~outside].max() == 1


def test_features_meet_their_own_template_after_the_warp():
    """A crop that shows the template shifted and scaled correlates best at no displacement."""
    torch.manual_seed(1)
    template = functional.interpolate(torch.randn(1, 16, 12, 12), scale_factor=2.0,
                                      mode='bilinear')
    xy, ratio = torch.tensor([[1 / 12, -1 / 8]]), torch.tensor([1.0])
    crop = torch.roll(template, (-3, 2), (2, 3))  # the same shift in pixels of 1 / 24
    volume = local_correlation(warp_template(template, xy, ratio), crop, 2)
    middle = volume[0, :, 8:16, 8:16].mean((1, 2))
    assert middle.argmax() == 12
    unaligned = local_correlation(template, crop, 2)[0, :, 8:16, 8:16].mean((1, 2))
    assert unaligned[12] < 0.5 * middle[12]


def pyramids(network: MrcNet, count: int = 3) -> tuple[Pyramid, Pyramid, torch.Tensor]:
    """Return features of random crops and templates, and their classes."""
    torch.manual_seed(2)
    size = SPEC.crop.size_px
    classes = torch.arange(count) % 2
    images = 255 * torch.rand(2, count, 3, size, size)
    coordinates = torch.rand(count, 4, size // 4, size // 4)
    with torch.no_grad():
        crop = network.backbone(images[0], classes)
        template = network.backbone(images[1], classes)._replace(dense=coordinates)
        return crop, template, classes


def test_stage_2_listens_to_its_template():
    """Another template, at any one of the four maps, gives another residual."""
    network = random_network()
    crop, template, classes = pyramids(network)
    xy, log_size = torch.zeros(3, 2), torch.full((3,), -0.2)

    def six(pyramid: Pyramid) -> torch.Tensor:
        with torch.no_grad():
            return network.residual(crop, pyramid, xy, log_size, classes).six

    base = six(template)
    for name in Pyramid._fields:
        other = template._replace(**{name: getattr(template, name).flip(-1)})
        assert (six(other) - base).abs().amax(1).min() > 1e-4, name


def test_a_new_network_leaves_the_coarse_pose_as_it_is():
    """Before training, stage 2 answers the identity and stage 1's own position and size."""
    torch.manual_seed(0)
    network = MrcNet(spec=SPEC, objects=2).eval()
    crop, template, classes = pyramids(network)
    xy, log_size = torch.randn(3, 2), torch.randn(3)
    with torch.no_grad():
        fine = network.residual(crop, template, xy, log_size, classes)
    torch.testing.assert_close(fine.six, torch.tensor([[1.0, 0, 0, 0, 1, 0]] * 3))
    torch.testing.assert_close(fine.xy, xy)
    torch.testing.assert_close(fine.log_size, log_size)


def test_stage_1_answers_within_its_bins():
    """The expected position and size lie between the outermost cells and bins."""
    network = random_network()
    crop, _, classes = pyramids(network)
    with torch.no_grad():
        coarse = network.coarse(crop.x16, classes)
    cells, scales = cell_centres(SPEC.bins), scale_centres(SPEC.bins)
    assert coarse.rotation_logits.shape == (3, SPEC.bins.rotations)
    assert coarse.xy.abs().max() <= cells.max() + 1e-6
    assert scales[0] - 1e-6 <= coarse.log_size.min()
    assert coarse.log_size.max() <= scales[-1] + 1e-6


def test_the_first_cell_axis_of_stage_1_is_y():
    """Certain of the second cell of the first row, stage 1 answers right of the left, and top."""
    head = random_network().coarse
    cells = SPEC.bins.cells
    with torch.no_grad():
        head.cells.weight.zero_()
        head.cells.bias.copy_(50.0 * functional.one_hot(torch.tensor(1), cells**2))
        xy = head(torch.rand(1, 8, 2, 2), torch.zeros(1, dtype=torch.int64)).xy[0]
    centres = cell_centres(SPEC.bins)
    np.testing.assert_allclose(xy.numpy(), [centres[1], centres[0]], atol=1e-6)


def test_rows_of_one_object_do_not_touch_another():
    """Changing everything that belongs to one object leaves the other's answers as they were."""
    network = random_network()
    before, _, _ = pyramids(network)
    classes = torch.tensor([0, 1, 0])
    with torch.no_grad():
        logits = network.coarse(before.x16, classes).rotation_logits
        for parameter in object_parameters(network).values():
            parameter[1] += 1.0
        after, _, _ = pyramids(network)
        moved = network.coarse(after.x16, classes).rotation_logits
    assert torch.equal(logits[[0, 2]], moved[[0, 2]])
    assert (logits[1] - moved[1]).abs().max() > 1e-2


def test_the_stem_computes_what_the_published_layers_do():
    """With the norms folded in, features equal those of convolutions and norms one by one."""
    weights, stem = random_stem(), Stem()
    stem.load_imagenet(weights)
    image = 255 * torch.rand(2, 3, 32, 32)
    layers = [(conv.stride[0], conv.groups) for conv in stem.convs]
    x = (image - 127.0) / 128.0
    skip = x
    for number, ((name, norm), (stride, groups)) in enumerate(
            zip(stem_names(), layers, strict=True)):
        if number == 6:
            skip = x
        kernel = weights[f'{name}.weight']
        if kernel.shape[-1] == 3:  # TensorFlow's SAME for even sizes
            x = functional.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        x = functional.conv2d(x, kernel, stride=stride, groups=groups)
        x = functional.batch_norm(x, *(weights[f'{norm}.{part}'] for part in (
            'running_mean', 'running_var', 'weight', 'bias')), eps=1e-3)
        if 'project' not in name:
            x = functional.relu6(x)
    found = stem(image)
    assert found.shape == (2, 24, 8, 8)
    torch.testing.assert_close(found, x + skip, atol=1e-4, rtol=1e-4)
    assert not any(p.requires_grad for p in stem.parameters())


@pytest.mark.parametrize('size', [32, 64, 96])
def test_maps_have_the_strides_they_are_named_by(size):
    """Crops of any multiple of 32 pixels give maps at strides 4, 8 and 16."""
    values = SPEC.to_dict()
    spec = ModelSpec.from_dict({**values, 'crop': {**values['crop'], 'size_px': size}})
    network = MrcNet(spec=spec, objects=1).eval()
    with torch.no_grad():
        pyramid = network.backbone(torch.rand(1, 3, size, size), torch.zeros(1, dtype=torch.int64))
    assert [m.shape[-1] for m in pyramid] == [size // 4, size // 8, size // 16, size // 4]


def test_rotations_from_six_numbers_agree_with_the_geometry():
    """Training and inference orthonormalise alike."""
    six = np.random.default_rng(0).normal(size=(20, 6))
    np.testing.assert_allclose(torch_rotation_from_6d(torch.tensor(six)).numpy(),
                               rotation_from_6d_numpy(six), atol=1e-12)


def test_displacement_is_the_mean_distance_of_points():
    """Half a turn moves a point by twice its distance from the axis."""
    points = torch.tensor([[[0.3, 0.4, 9.0], [0.1, 0.0, -2.0]]])
    turned = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))[None]
    found = displacement(turned, torch.eye(3)[None], points)
    assert found.item() == pytest.approx((1.0 + 0.2) / 2, abs=1e-3)


def test_soft_cross_entropy_is_zero_at_its_labels_and_positive_elsewhere():
    """The labels' own entropy is taken off."""
    labels = torch.softmax(torch.randn(4, 7), 1)
    assert soft_cross_entropy(torch.log(labels), labels).abs().max() < 1e-5
    assert soft_cross_entropy(torch.zeros(4, 7), labels).min() > 0.01


def test_masked_l1_ignores_what_is_not_visible():
    """Errors count by the visible part of their cell."""
    target, mask = torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4)
    prediction = torch.full((1, 3, 4, 4), 100.0)
    assert masked_l1(prediction, target, mask).item() == 0
    mask[0, 1, 2] = 1.0
    prediction[0, :, 1, 2] = torch.tensor([0.5, -0.25, 0.25])
    assert masked_l1(prediction, target, mask).item() == pytest.approx(1.0 / 2.0)
