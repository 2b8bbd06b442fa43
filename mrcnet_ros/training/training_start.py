"""What a training of the default preset starts from: device, network, known classes, views."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import torch
from torch import Tensor

from ..errors import MrcnetError, SpecError
from ..network.mrcnet import MrcNet
from ..objects import ObjectModel
from .config import TrainConfig
from .disturbers import load_disturbers
from .gradient_exchange import end_with_parent
from .training_data import load_templates
from .view_bank import load_or_render
from .warm_start import freeze_shared, read_start, warm_start

log = logging.getLogger(__name__)


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


def draw_ahead(config: TrainConfig, objects: Sequence[ObjectModel], processes: int) -> None:
    """Render views and templates into the cache ahead of the training.

    Errors are logged only: they come again where the views are needed.

    :param processes: largest number of processes that render at the same time.
    """
    jobs = [*objects, None]
    count = min(processes, len(jobs))
    if count < 2:
        return
    with ProcessPoolExecutor(count, get_context('spawn'), end_with_parent) as pool:
        try:
            for problem in pool.map(_draw, [config] * len(jobs), jobs):
                if problem:
                    log.warning('%s', problem)
        except BrokenProcessPool:
            log.warning('a process that draws views died; they are drawn one after the other')


def _draw(config: TrainConfig, model: ObjectModel | None) -> str:
    """Render one object, or all disturbers for None; return the error, '' without one."""
    try:
        if model is None:
            load_disturbers(config)
            return ''
        load_or_render(config.cache, [model], {model.object_id: config.view_prior},
                       config.distance_m, config.views, config.seed)
        load_templates(config, [model])
    except MrcnetError as error:
        return f'{model.label if model else "what disturbs"} could not be drawn ahead: {error}'
    return ''
