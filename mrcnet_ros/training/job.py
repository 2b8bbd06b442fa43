"""What a training starts from: the network at its first step, and what processes are told."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SpecError
from ..network.mrcnet import MrcNet
from ..objects import ObjectModel
from .config import TrainConfig
from .template_bank import TemplateBank
from .view_bank import SharedViews
from .warm_start import freeze_shared, read_start, warm_start


@dataclass(frozen=True, eq=False)
class Job:
    """What all training processes are told.

    :param views: of all classes, in shared memory.
    :param bank: in shared memory.
    :param stem: ImageNet weights for the frozen layers.
    :param deadline: of the last step on the monotonic clock [s], or None.
    :param spent: part of the time that earlier starts have spent, 0 to 1.
    """

    config: TrainConfig
    views: list[SharedViews]
    bank: TemplateBank
    stem: dict[str, Tensor]
    deadline: float | None
    spent: float = 0.0


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
    """Return the classes whose rows must not move: those that a frozen model knows already."""
    if not config.freeze_shared or config.init is None or not config.init_knows:
        return []
    labels = read_start(config.init, config.spec).labels
    return [i for i, o in enumerate(config.load_objects()) if o.label in labels]
