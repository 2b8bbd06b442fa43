"""The weights that a training of the paper preset starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ....errors import ModelError
from ....training.checkpoint import read_weights
from ..network.blocks import ObjectConv
from ..network.mrcnet import PaperNet
from ..spec import PaperSpec

# torchvision's names of ResNet's parts, and the places they have in the published backbone
_PARTS = {'conv1': '0', 'bn1': '1', 'layer1': '4', 'layer2': '5', 'layer3': '6', 'layer4': '7'}
# what batch norm without running statistics and a network without classes have no use for
_UNUSED = ('running_mean', 'running_var', 'num_batches_tracked')


def starting_network(spec: PaperSpec, objects: int, imagenet: Path | None, seed: int) -> PaperNet:
    """Return the network as the published training starts it, in training mode.

    :param imagenet: state dict of an ImageNet ResNet-34, None to start its layers from noise.
    :raises ModelError: when the file is not that.
    """
    torch.manual_seed(seed)
    network = PaperNet(spec=spec, objects=objects)
    for module in network.modules():
        if isinstance(module, ObjectConv):
            _start_object_conv(module)
    # residuals start well below the width of a bin
    for head, bins in ((network.regressor.depth_reg, spec.depth_bins),
                       (network.regressor.trans_reg, spec.cells)):
        nn.init.xavier_uniform_(head.linear2.weight, gain=1.0 / bins)
        nn.init.zeros_(head.linear2.bias)
    if imagenet is not None:
        network.backbone.base_model.load_state_dict(read_imagenet(imagenet, network))
    return network.train()


def read_imagenet(path: Path, network: PaperNet) -> dict[str, Tensor]:
    """Return the weights of a ResNet-34 in the backbone's names, read safely.

    :raises ModelError: when it is missing, unsafe, or not a ResNet-34.
    """
    state = read_weights(path)
    expected = network.backbone.base_model.state_dict()
    found = _renamed(state) if isinstance(state, Mapping) else {}
    wrong = sorted(set(expected) ^ set(found)) + sorted(
        name for name in set(expected) & set(found) if found[name].shape != expected[name].shape)
    if wrong:
        raise ModelError(path, f"is not a ResNet-34 in torchvision's names: {len(wrong)} missing, "
                               f'extra or misshapen entries, {wrong[0]!r} is one',
                         'give the state dict that torchvision calls resnet34')
    return found


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, value in state.items():
        part, _, rest = name.partition('.')
        if part in _PARTS and not name.endswith(_UNUSED):
            found[f'{_PARTS[part]}.{rest}'] = value
    return found


def _start_object_conv(conv: ObjectConv) -> None:
    """Initialise each object's kernels like those of a separate convolution."""
    for weight, bias in zip(conv.weights.detach(), conv.bias.detach(), strict=True):
        nn.init.kaiming_uniform_(weight, a=5**0.5)
        bound = weight[0].numel() ** -0.5
        nn.init.uniform_(bias, -bound, bound)
