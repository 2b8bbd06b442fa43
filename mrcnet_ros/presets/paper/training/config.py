"""A training run of the paper preset, read from a YAML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....cpus import usable_cpus
from ....datasets.catalogue import facts_of
from ....errors import SpecError
from ....objects import ObjectModel, load_bop_objects
from ....reading.fields import only_known
from ....training.config import build_config, read_values
from ....training.scene_config import at_least_one
from ..spec import PaperSpec

PAPER_FIELDS = tuple(f.name for f in dataclasses.fields(PaperSpec))
PRECISIONS = ('float32', 'bfloat16', 'float16')


@dataclass(frozen=True, kw_only=True)
class PaperTrainConfig:
    """A training run of the paper preset on a BOP dataset; the defaults are the published ones.

    Relative paths are taken from the working directory.

    :param output: folder of checkpoints and metrics.
    :param dataset: BOP dataset folder, which holds the splits and the models.
    :param spec: of the network; in the file only what differs from the published numbers of the
        dataset, and for other datasets at least ``depth_near`` and ``depth_far``.
    :param splits: folders of training images.
    :param models: folder of the meshes; '' for that of the published training, or ``models``.
    :param object_ids: of the classes, in class order; () for those of the published network, or
        all that there are.
    :param backgrounds: folders of photographs for images with several instances of an object.
    :param imagenet: state dict of an ImageNet ResNet-34 in torchvision's names to start from.
    :param batch_size: samples of each process in a step.
    :param epochs: length of the schedule.
    :param steps: length of the schedule instead of ``epochs``.
    :param learning_rate: highest rate, reached after ``warmup`` steps from the lowest.
    :param final_rate: lowest rate, at both ends of the schedule.
    :param precision: of the convolutions: ``float32``, or autocast to ``bfloat16`` or, on a GPU
        and with scaled gradients, ``float16``. Heads, poses and losses are float32.
    :param workers: processes of each training process that make samples; 0 makes them in it,
        the default is one for each CPU that may be used, but not more than eight.
    :param label_vertices: how many vertices of each mesh labels and losses use, evenly taken;
        None for all, as published.
    :param checkpoint: steps between checkpoints.
    :param log: steps between lines of metrics.
    :param seed: of everything that is drawn.
    """

    output: Path
    dataset: Path
    spec: PaperSpec
    splits: tuple[str, ...] = ('train_pbr',)
    models: str = ''
    object_ids: tuple[int, ...] = ()
    backgrounds: tuple[Path, ...] = ()
    imagenet: Path | None = None
    batch_size: int = 16
    epochs: int = 75
    steps: int | None = None
    learning_rate: float = 2e-4
    final_rate: float = 5e-6
    weight_decay: float = 1e-3
    warmup: int = 1000
    precision: str = 'float32'
    workers: int = field(default_factory=lambda: min(8, usable_cpus()))
    label_vertices: int | None = None
    checkpoint: int = 1000
    log: int = 50
    seed: int = 0

    @property
    def models_dir(self) -> Path:
        """Return the folder of the meshes."""
        return self.dataset / (self.models or facts_of(self.dataset.name).training_models)

    def load_objects(self) -> list[ObjectModel]:
        """Return the objects in class order.

        :raises DatasetError: when the models folder cannot be used or lacks one of them.
        :raises MeshError: when a mesh is missing.
        """
        ids = self.object_ids or facts_of(self.dataset.name).network_object_ids or None
        objects = load_bop_objects(self.models_dir, ids)
        return [objects[i] for i in ids or objects]


def is_paper_config(path: Path) -> bool:
    """Tell whether a training configuration is one of the paper preset.

    :raises SpecError: when the file cannot be read.
    """
    return read_values(path).get('preset') == 'paper'


def read_paper_config(path: Path) -> PaperTrainConfig:
    """Read a training configuration, ``preset: paper``.

    :raises SpecError: when the file is missing or a field is unknown or has a wrong value.
    """
    values = {k: v for k, v in read_values(path).items() if k != 'preset'}
    spec = values.get('spec', {})
    if not isinstance(spec, Mapping):
        raise SpecError(f'{path}: spec must be a mapping of names to values, got {spec!r}')
    values['spec'] = _spec(Path(str(values.get('dataset', ''))).name, spec)
    config = build_config(PaperTrainConfig, values, _convert, path)
    _check(config, path)
    return config


def _spec(dataset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {'dataset': dataset}
    depth_range = facts_of(dataset).network_depth_range
    if depth_range is not None:
        values |= dict(zip(('depth_near', 'depth_far'), depth_range, strict=True))
    return values | dict(given)


def _convert(name: str, value: Any) -> Any:
    """Return the field ``spec``, the only one that is not plain."""
    only_known(value, PAPER_FIELDS, name)
    missing = [n for n in ('depth_near', 'depth_far') if n not in value]
    if missing:
        raise SpecError(f'{name} lacks {" and ".join(missing)}')
    return PaperSpec.from_dict({**PaperSpec(depth_near=0.1, depth_far=1.0).to_dict(), **value})


def _check(config: PaperTrainConfig, path: Path) -> None:
    at_least_one(config, ('batch_size', 'epochs', 'checkpoint', 'log'), path)
    for name in ('steps', 'label_vertices'):
        if getattr(config, name) is not None:
            at_least_one(config, (name,), path)
    if config.workers < 0 or config.warmup < 0:
        raise SpecError(f'{path}: workers ({config.workers}) and warmup ({config.warmup}) must '
                        'not be negative')
    if config.precision not in PRECISIONS:
        raise SpecError(f'{path}: precision must be one of {PRECISIONS}, got '
                        f'{config.precision!r}')
    if len(set(config.object_ids)) < len(config.object_ids):
        raise SpecError(f'{path}: object_ids names an object twice: {config.object_ids}')
    spec = config.spec
    if not 0 < spec.depth_near < spec.depth_far:
        raise SpecError(f'{path}: depth_near ({spec.depth_near}) must be positive and below '
                        f'depth_far ({spec.depth_far})')
    if spec.size_px < 32 or spec.size_px % 32:
        raise SpecError(f'{path}: size_px must be a multiple of 32, got {spec.size_px}')
