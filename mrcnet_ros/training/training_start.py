"""What a training for poses starts from: device, network, known classes."""

from __future__ import annotations

from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from ..errors import SpecError
from ..network.mrcnet import MrcNet, RefinerNetwork
from ..objects import ObjectModel
from ..specs import PoseNetworkSpec, RefinerSpec
from .config import PoseConfig, TrainConfig
from .warm_start import Start, freeze_shared, read_refiner_start, read_start, warm_start


@overload
def build_network(config: TrainConfig, objects: list[ObjectModel], stem: dict[str, Tensor]
                  ) -> MrcNet: ...
@overload
def build_network(config: PoseConfig, objects: list[ObjectModel], stem: dict[str, Tensor]
                  ) -> MrcNet | RefinerNetwork: ...
def build_network(config: PoseConfig, objects: list[ObjectModel],
                  stem: dict[str, Tensor]) -> MrcNet | RefinerNetwork:
    """Return the network at its first step, the same for every process."""
    torch.manual_seed(config.seed)
    spec, count = config.spec, len(objects)
    network: MrcNet | RefinerNetwork = (
        RefinerNetwork(spec=spec, objects=count) if isinstance(spec, RefinerSpec)
        else MrcNet(spec=spec, objects=count))
    network.backbone.stem.load_imagenet(stem)
    if config.init is not None:
        warm_start(network, start_of(config.init, spec), [o.label for o in objects],
                   knows=config.init_knows)
    if config.freeze_shared:
        freeze_shared(network)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def start_of(model_dir: Path, spec: PoseNetworkSpec) -> Start:
    """Read the weights that a training starts from.

    :raises ModelError: when the model directory is incomplete, of another spec, or mixed of two.
    """
    return (read_refiner_start(model_dir, spec) if isinstance(spec, RefinerSpec)
            else read_start(model_dir, spec))


def check_device(config: PoseConfig) -> None:
    """Check that PyTorch can train on the device of a configuration.

    :raises SpecError: when there is no such GPU.
    """
    device = torch.device(config.device)
    there = torch.cuda.device_count()  # 0 also where PyTorch was built without CUDA
    if device.type == 'cuda' and (device.index or 0) >= there:
        raise SpecError(f'device {config.device}: PyTorch {torch.__version__} sees {there} GPUs '
                        'of NVIDIA; install the driver and a PyTorch with CUDA, or train on cpu')


def known_classes(config: PoseConfig) -> list[int]:
    """Return the classes whose rows must not change: those that a frozen model knows."""
    if not config.freeze_shared or config.init is None or not config.init_knows:
        return []
    labels = start_of(config.init, config.spec).labels
    return [i for i, o in enumerate(config.load_objects()) if o.label in labels]
