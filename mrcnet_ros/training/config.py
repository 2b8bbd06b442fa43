"""What a training run is made of, read from a YAML file."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..errors import SpecError
from ..objects import ObjectModel
from ..reading.fields import only_known
from ..reading.text import parse_yaml
from ..specs import (
    BinSpec,
    CropSpec,
    ModelSpec,
    NetworkSpec,
    TemplateSpec,
    ViewPrior,
    from_mapping,
)
from .config_values import UnknownKindError, fitted
from .scene_config import SceneConfig, at_least_one, check_scenes

Config = TypeVar('Config')


@dataclass(frozen=True, kw_only=True)
class TrainConfig(SceneConfig):
    """A training run of the default preset; ``checkpoint`` is a multiple of ``refresh``.

    :param device: that trains, as PyTorch calls it: ``cpu``, or ``cuda`` for the first GPU.
    :param composers: processes that compose images for one training process; 0 when it composes
        them itself, which is faster on a processor.
    :param refresh: steps between refreshes of the template features.
    :param emphasis: how often an object is drawn for every draw of the others, by label; 1 for
        those not named.
    :param init: model directory to start from, or None to start from noise.
    :param init_knows: whether an object of ``init`` with the same label is the same object; where
        not, its row is not used.
    :param freeze_shared: train only the rows of objects that ``init`` does not know; its answers
        for the objects it knows stay the same to the bit.
    :param spec: of the model.
    """

    views: int = 2000
    device: str = 'cpu'
    composers: int = 0
    batch_size: int = 32
    steps: int = 10000
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: int = 300
    refresh: int = 100
    checkpoint: int = 500
    validation: int = 1000
    emphasis: dict[str, int] = field(default_factory=dict)
    init: Path | None = None
    init_knows: bool = True
    freeze_shared: bool = False
    spec: ModelSpec = field(default_factory=ModelSpec)

    def load_objects(self) -> list[ObjectModel]:
        """Return the objects in class order.

        :raises SpecError: when labels or emphasis are of other objects.
        """
        objects = super().load_objects()
        try:
            only_known(self.emphasis, [o.label for o in objects], 'emphasis')
        except ValueError as error:
            raise SpecError(str(error)) from error
        return objects


def read_config(path: Path, changes: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a training configuration.

    :param changes: fields that differ from the file; a dot leads into a field that is a mapping,
        as in ``chances.occluded``.
    :raises SpecError: when the file is missing or a field is unknown or has a wrong value.
    """
    values = read_values(path)
    change_values(values, changes or {}, path)
    if values.get('preset') == 'paper':
        raise SpecError(f'{path} is of the paper preset; its checkpoint becomes a model with '
                        f'mrcnet import-checkpoint FILE --config {path} --output DIR')
    config = build_config(TrainConfig, values, _convert, path)
    _check(config, path)
    return config


def read_values(path: Path) -> dict[str, Any]:
    """Return the fields of a training configuration as they are written.

    :raises SpecError: when the file cannot be read or holds no mapping.
    """
    try:
        values = parse_yaml(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise SpecError(f'training configuration {path} cannot be read: {error}') from error
    if not isinstance(values, Mapping):
        raise SpecError(f'training configuration {path} must be a mapping of names to values')
    return dict(values)


def change_values(values: dict[str, Any], changes: Mapping[str, Any], path: Path) -> None:
    """Set fields that differ from the file; a dot leads into a field that is a mapping.

    :param values: of the file; changed in place.
    :raises SpecError: when a dot leads into a field that is no mapping.
    """
    for name, value in changes.items():
        _change(values, name.split('.'), value, path)


def _change(values: dict[str, Any], name: Sequence[str], value: Any, path: Path) -> None:
    """Set a field of nested mappings; the mappings that are not there yet are made."""
    if len(name) == 1:
        values[name[0]] = value
        return
    inner = values.setdefault(name[0], {})
    if not isinstance(inner, dict):
        raise SpecError(f'{path}: {name[0]} is {inner!r} and has no field {".".join(name[1:])}')
    _change(inner, name[1:], value, path)


def build_config(kind: type[Config], values: Mapping[str, Any],
                 convert: Callable[[str, Any], Any], path: Path) -> Config:
    """Build a configuration from the fields of a file.

    :param kind: a dataclass.
    :param convert: makes the fields from what YAML has read that are not of a plain kind.
    :param path: of the file, for messages.
    :raises SpecError: when a field is unknown or missing or has a value of another type.
    """
    kinds = {f.name: str(f.type) for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    try:
        only_known(values, kinds, str(path))
    except ValueError as error:
        raise SpecError(str(error)) from error

    def field_value(name: str, value: Any) -> Any:
        try:
            return fitted(value, kinds[name], name)
        except UnknownKindError:
            return convert(name, value)

    try:
        return kind(**{name: field_value(name, value) for name, value in values.items()})
    except (TypeError, ValueError, IndexError, AttributeError, SpecError) as error:
        raise SpecError(f'{path}: {error}') from error


def plain(config: Any) -> dict[str, Any]:
    """Return the fields of a configuration as plain data, for checkpoints."""
    values: dict[str, Any] = json.loads(json.dumps(vars(config), default=str))
    return values


def _check(config: TrainConfig, path: Path) -> None:
    check_scenes(config, path)
    at_least_one(config, ('refresh',), path)
    if config.checkpoint % config.refresh:
        raise SpecError(f'{path}: checkpoint ({config.checkpoint}) must be a multiple of refresh '
                        f'({config.refresh}), so that a resumed run sees the same templates')
    _check_processes(config, path)
    if config.freeze_shared and config.init is None:
        raise SpecError(f'{path}: freeze_shared needs init, the model to be extended')
    for label, count in config.emphasis.items():
        if count < 0:
            raise SpecError(f'{path}: emphasis: {label} must not be negative, got {count}')


def _check_processes(config: TrainConfig, path: Path) -> None:
    if not re.fullmatch(r'cpu|cuda(:\d+)?', config.device):
        raise SpecError(f'{path}: device must be cpu, cuda or cuda:N, got {config.device!r}')
    if config.composers < 0:
        raise SpecError(f'{path}: composers must not be negative, got {config.composers}')
    if config.processes > 1 and (config.composers or config.device != 'cpu'):
        what = 'composers' if config.composers else f'device {config.device}'
        raise SpecError(f'{path}: {what} needs processes 1, got {config.processes}')


def _convert(name: str, value: Any) -> Any:
    if name == 'view_prior':
        return None if value is None else view_prior_of(value)
    parts = {'crop': CropSpec, 'bins': BinSpec, 'template': TemplateSpec, 'network': NetworkSpec}
    defaults = ModelSpec().to_dict()
    only_known(value, defaults, 'spec')
    return ModelSpec.from_dict({**defaults, **{
        k: {**defaults[k], **v} if k in parts else v for k, v in value.items()}})


def view_prior_of(value: Any) -> ViewPrior:
    """Return a view prior of a configuration.

    :raises SpecError: when it is none.
    """
    prior: ViewPrior = from_mapping(ViewPrior, value, 'view_prior')
    low, high, tilt = prior.elevation_min_deg, prior.elevation_max_deg, prior.tilt_max_deg
    if not -90 <= low < high <= 90 or not 0 < tilt <= 180:
        raise SpecError(f'view_prior must have -90 <= elevation_min_deg < elevation_max_deg <= 90 '
                        f'and 0 < tilt_max_deg <= 180, got {low}, {high} and {tilt}')
    if max(-low, high, tilt) <= math.pi:
        raise SpecError(f'view_prior is in degrees; elevations of {low} to {high} and a tilt of '
                        f'{tilt} look like radians')
    return prior
