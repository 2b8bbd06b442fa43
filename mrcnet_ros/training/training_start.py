"""What a training of the default preset starts from: device, network, known classes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import SpecError
from ..network.mrcnet import MrcNet
from ..objects import ObjectModel
from .config import TrainConfig
from .warm_start import freeze_shared, read_start, warm_start


def build_network(config: TrainConfig, objects: list[ObjectModel],
                  stem: dict[str, Tensor]) -> MrcNet:
    """Return the network at its first step, the same for every process."""
    torch.manual_seed(config.seed)
    network = MrcNet(spec=config.spec, objects=len(objects))
    network.backbone.stem.load_imagenet(stem)
    if config.init is not None:
        warm_start(network, read_start(config.init, config.spec), [o.label for o in objects],
                   knows=config.init_knows)
    if config.freeze_shared:
        freeze_shared(network)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def check_device(config: TrainConfig) -> None:
    """Check that PyTorch can train on the device of a configuration.

    :raises SpecError: when there is no such GPU.
    """
    device = torch.device(config.device)
    there = torch.cuda.device_count()  # 0 also where PyTorch was built without CUDA
    if device.type == 'cuda' and (device.index or 0) >= there:
        raise SpecError(f'device {config.device}: PyTorch {torch.__version__} sees {there} GPUs '
                        'of NVIDIA; install the driver and a PyTorch with CUDA, or train on cpu')


def known_classes(config: TrainConfig) -> list[int]:
    """Return the classes whose rows must not change: those that a frozen model knows."""
    if not config.freeze_shared or config.init is None or not config.init_knows:
        return []
    labels = read_start(config.init, config.spec).labels
    return [i for i, o in enumerate(config.load_objects()) if o.label in labels]
