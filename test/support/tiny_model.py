"""A tiny network with random weights for two objects made by formula, trained or exported fast."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from meshes import bumpy_sphere, cube, write_ply
from torch import Tensor, nn

from mrcnet_ros.export.directory import export_checkpoint
from mrcnet_ros.export.refiner_export import export_refiner
from mrcnet_ros.network.mrcnet import MrcNet, RefinerNetwork
from mrcnet_ros.network.stem import Stem
from mrcnet_ros.specs import (
    GRAPHS,
    REFINER_GRAPHS,
    BinSpec,
    CropSpec,
    ModelSpec,
    NetworkSpec,
    RefinerSpec,
    TemplateSpec,
)
from mrcnet_ros.training.checkpoint import save_checkpoint
from mrcnet_ros.training.config import RefinerConfig, TrainConfig

SPEC = ModelSpec(
    crop=CropSpec(size_px=32), template=TemplateSpec(size_px=32),
    bins=BinSpec(rotation_nside=1, rotation_in_plane=4, cells=4, scale_bins=8),
    network=NetworkSpec(channels=(8, 8, 16, 16), embedding=(8, 8, 8), hidden=16, radii=(2, 1, 1)))

HALF_TURN = [-1.0, 0, 0, 0, 0, -1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0]


@dataclass(frozen=True, eq=False)
class TinyModel:
    """An exported model and what it was made from.

    :param path: model directory, without the meshes.
    :param meshes: their folder.
    :param store: folder of its templates, for all tests.
    :param checkpoint: that was exported.
    :param network: in evaluation mode, with the exported weights.
    """

    path: Path
    meshes: Path
    store: Path
    config: TrainConfig
    checkpoint: Path
    network: MrcNet


REFINER_SPEC = RefinerSpec(nside=1, template=SPEC.template, network=SPEC.network)


def refiner_config(config: TrainConfig, **changes: object) -> RefinerConfig:
    """Return the configuration of a refiner of the objects of another configuration."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    values |= {'spec': REFINER_SPEC, 'output': config.output.parent / 'refiner', **changes}
    return RefinerConfig(**values)


def graphs_of(tiny: TinyModel) -> dict[str, Path]:
    """Return the files of the graphs of a model, with those of its refiner if it has one."""
    files = {name: tiny.path / f'{name}.onnx' for name in (*GRAPHS, *REFINER_GRAPHS)}
    return {name: file for name, file in files.items() if file.exists()}


def write_material(folder: Path, **changes: object) -> TrainConfig:
    """Write two meshes, their list and two backgrounds, and configure a training on them.

    Labels are ``blob``, and ``box`` which looks the same after half a turn about z.

    :param changes: of the configuration.
    """
    (folder / 'meshes').mkdir(parents=True)
    (folder / 'photos').mkdir()
    write_ply(folder / 'meshes' / 'blob.ply', bumpy_sphere(0.05, subdivisions=2))
    write_ply(folder / 'meshes' / 'box.ply', cube(0.08))
    entries = [{'id': 2, 'label': 'blob', 'mesh': 'blob.ply'},
               {'id': 7, 'label': 'box', 'mesh': 'box.ply', 'symmetries_discrete': [HALF_TURN]}]
    (folder / 'meshes' / 'objects.yaml').write_text(yaml.safe_dump(entries))
    for name in ('a', 'b'):
        noise = np.random.default_rng(ord(name)).integers(0, 255, (12, 16, 3), np.uint8)
        cv2.imwrite(str(folder / 'photos' / f'{name}.png'), cv2.resize(noise, (256, 192)))
    config = TrainConfig(
        name='tiny', output=folder / 'run', cache=folder / 'cache',
        models=folder / 'meshes' / 'objects.yaml', backgrounds=(folder / 'photos',), views=6,
        patches=4, batch_size=4, steps=24, warmup=4, learning_rate=0.01, refresh=8, checkpoint=8,
        validation=8, distance_m=(0.4, 0.8), spec=SPEC)
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def random_stem() -> dict[str, Tensor]:
    """Return weights in the format of the published ones."""
    generator = torch.Generator().manual_seed(5)
    weights = {}
    for conv, (name, norm) in zip(Stem().convs, stem_names(), strict=True):
        shape = conv.weight.shape
        scale = 2.0 * float(np.prod(shape[1:])) ** -0.5
        weights[f'{name}.weight'] = scale * torch.randn(shape, generator=generator)
        for part in ('weight', 'running_var'):
            weights[f'{norm}.{part}'] = 0.5 + torch.rand(shape[0], generator=generator)
        for part in ('bias', 'running_mean'):
            weights[f'{norm}.{part}'] = 0.1 * torch.randn(shape[0], generator=generator)
    return weights


def stem_names() -> list[tuple[str, str]]:
    """Return the published names of the stem's convolutions and of their norms, in order."""
    names = [('_conv_stem', '_bn0'), ('_blocks.0._depthwise_conv', '_blocks.0._bn1'),
             ('_blocks.0._project_conv', '_blocks.0._bn2')]
    for block in ('_blocks.1', '_blocks.2'):
        names += [(f'{block}._{part}_conv', f'{block}._bn{i}')
                  for i, part in enumerate(('expand', 'depthwise', 'project'))]
    return names


def random_network(spec: ModelSpec = SPEC, objects: int = 2) -> MrcNet:
    """Return a network whose every output depends on its inputs, in evaluation mode.

    Norms have seen a batch of images, and the last layer, which starts at zero, is random.
    """
    torch.manual_seed(3)
    network = MrcNet(spec=spec, objects=objects)
    images, classes = _settle(network, objects, spec.crop.size_px)
    with torch.no_grad():
        network.coarse(network.backbone(images, classes).x16, classes)
    return network.eval()


def random_refiner(objects: int = 2) -> RefinerNetwork:
    """Return a refiner whose every output depends on its inputs, in evaluation mode."""
    torch.manual_seed(4)
    network = RefinerNetwork(spec=REFINER_SPEC, objects=objects)
    _settle(network, objects, REFINER_SPEC.crop.size_px)
    return network.eval()


def _settle(network: MrcNet | RefinerNetwork, objects: int, size: int) -> tuple[Tensor, Tensor]:
    """Give a network random rows, a random last layer, and norms that have seen a batch.

    :return: the batch of images and their classes.
    """
    network.backbone.stem.load_imagenet(random_stem())
    for name, parameter in network.named_parameters():
        if 'gain' in name or 'offset' in name:  # rows of objects start equal
            parameter.data += 0.3 * torch.randn(parameter.shape)
    nn.init.normal_(network.residual.output.weight, std=0.1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None
    count = 64
    smooth = nn.functional.interpolate(torch.rand(count // 2, 3, 4, 4), size=(size, size),
                                       mode='bilinear')
    images = 255 * torch.cat([smooth, torch.rand(count // 2, 3, size, size)])
    classes = torch.arange(count) % objects
    with torch.no_grad():
        pyramid = network.backbone(images, classes)
        network.residual(pyramid, pyramid._replace(dense=torch.rand_like(pyramid.dense)),
                         torch.zeros(count, 2), torch.zeros(count), classes)
    return images, classes


def export_tiny(folder: Path) -> TinyModel:
    """Export a random network as a model directory."""
    config = write_material(folder)
    network = random_network()
    checkpoint = folder / 'checkpoint.pt'
    save_checkpoint(checkpoint, {
        'average': network.state_dict(), 'step': 0,
        'config': json.loads(json.dumps(vars(config), default=str))}, SPEC)
    path = export_checkpoint(checkpoint, config, folder / 'model')
    network.load_state_dict({k: v.half() if v.is_floating_point() else v
                             for k, v in network.state_dict().items()})
    return TinyModel(path, folder / 'meshes', folder / 'store', config, checkpoint, network)


def add_refiner(tiny: TinyModel, folder: Path) -> Path:
    """Return a copy of a model directory that has a random refiner."""
    network, path = random_refiner(), shutil.copytree(tiny.path, folder / 'refined')
    checkpoint = folder / 'refiner.pt'
    save_checkpoint(checkpoint, {'average': network.state_dict(), 'step': 0, 'samples': 64},
                    REFINER_SPEC)
    return export_refiner(checkpoint, refiner_config(tiny.config), path)
