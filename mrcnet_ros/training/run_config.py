"""The configuration of every training, and how it is read from a YAML file."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ..errors import SpecError
from ..reading.fields import label, only_known
from ..reading.text import parse_yaml
from ..specs import Spec


class UnknownKindError(Exception):
    """A field has a type that :func:`fitted` does not handle."""


def fitted(value: Any, wanted: str, name: str) -> Any:
    """Return a YAML value as the type of a field.

    :param wanted: annotation of the field: int, float, bool, str, Path, a tuple or dict of them,
        or one of these or None.
    :param name: of the field, for messages.
    :raises ValueError: when the value is of another type.
    :raises UnknownKindError: when the annotation is another one.
    """
    if wanted.endswith(' | None'):
        return None if value is None else fitted(value, wanted.removesuffix(' | None'), name)
    inner = wanted.partition('[')[2].removesuffix(']').split(', ')
    if wanted.startswith('tuple['):
        return _tuple(value, inner, name)
    if wanted.startswith('dict['):
        if not isinstance(value, Mapping):
            raise ValueError(f'{name} must be a mapping, got {value!r}')
        return {fitted(k, inner[0], f'a key of {name}'): fitted(v, inner[1], f'{name}: {k}')
                for k, v in value.items()}
    return _single(value, wanted, name)


def as_mapping(value: Any, name: str) -> Mapping[str, Any]:
    """Return a YAML value that must be a mapping; None where all its lines are comments.

    :raises SpecError: when it is none.
    """
    if not isinstance(value, Mapping):
        raise SpecError(f'{name} must be a mapping of names to values, got {value!r}')
    return value


def _tuple(value: Any, inner: list[str], name: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f'{name} must be a list, got {value!r}')
    kinds = [inner[0]] * len(value) if inner[-1] == '...' else inner
    if len(value) != len(kinds):
        raise ValueError(f'{name} must be a list of {len(kinds)}, got {value!r}')
    return tuple(fitted(v, kind, f'{name}[{i}]')
                 for i, (v, kind) in enumerate(zip(value, kinds, strict=True)))


def _single(value: Any, wanted: str, name: str) -> Any:
    if wanted in ('int', 'float'):
        fits = type(value) is int or (wanted == 'float' and type(value) is float)
        if not fits or not math.isfinite(value):
            raise ValueError(f'{name} must be a number ({wanted}), got {value!r}')
        return value
    if wanted == 'bool':
        if type(value) is not bool:
            raise ValueError(f'{name} must be true or false, got {value!r}')
        return value
    if wanted == 'str':
        return value if value == '' else label(value, name)
    if wanted == 'Path':
        if not isinstance(value, str | Path) or not str(value):
            raise ValueError(f'{name} must be a path, got {value!r}')
        return Path(os.path.expanduser(value))  # as a shell would for an option
    raise UnknownKindError(wanted)


@dataclass(frozen=True, kw_only=True)
class RunConfig(ABC):
    """Fields that all trainings share.

    Relative paths are taken from the working directory; a ~ at the start is the user's home.

    :param output: folder of checkpoints and metrics.
    :param spec: of the network; in the file only what differs from the usual numbers.
    :param batch_size: samples of each process in a step.
    :param learning_rate: highest rate, reached after ``warmup`` steps, then half a cosine down.
    :param checkpoint: steps between checkpoints.
    :param seed: of all random choices.
    """

    preset: ClassVar[str] = 'default'

    output: Path
    spec: Spec
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: int
    checkpoint: int
    seed: int = 0

    @classmethod
    @abstractmethod
    def converted(cls, name: str, value: Any, values: Mapping[str, Any]) -> Any:
        """Return a field whose type :func:`fitted` does not handle.

        :param value: of the field in the file.
        :param values: of all fields in the file.
        :raises SpecError: when the field cannot have this value.
        """

    def check(self) -> None:
        """Refuse values that no training can use.

        :raises SpecError: naming the field.
        """
        self.at_least_one('batch_size', 'checkpoint')
        for name in ('warmup', 'seed', 'weight_decay'):
            if getattr(self, name) < 0:
                raise SpecError(f'{name} must not be negative, got {getattr(self, name)}')
        if self.learning_rate <= 0:
            raise SpecError(f'learning_rate must be above 0, got {self.learning_rate}')

    def at_least_one(self, *names: str) -> None:
        """Refuse counts below one.

        :raises SpecError: naming the field.
        """
        for name in names:
            if getattr(self, name) < 1:
                raise SpecError(f'{name} must be at least 1, got {getattr(self, name)}')

    def plain(self) -> dict[str, Any]:
        """Return the fields as plain data, for checkpoints."""
        values: dict[str, Any] = json.loads(json.dumps(vars(self), default=str))
        return values


ConfigT = TypeVar('ConfigT', bound=RunConfig)


def read_config(kind: type[ConfigT], path: Path,
                changes: Mapping[str, Any] | None = None) -> ConfigT:
    """Read a training configuration.

    :param changes: fields that differ from the file; a dot leads into a field that is a mapping,
        as in ``chances.occluded``.
    :raises SpecError: when the file is missing or of another preset, or a field is unknown or
        missing or has a wrong value.
    """
    return config_of(kind, read_values(path), changes or {}, str(path))


def config_of(kind: type[ConfigT], given: Mapping[str, Any], changes: Mapping[str, Any],
              where: str) -> ConfigT:
    """Return a training configuration of fields as they are written.

    :param changes: as in :func:`read_config`; may change mappings of ``given`` too.
    :param where: the fields come from, for messages.
    :raises SpecError: as :func:`read_config`.
    """
    values = dict(given)
    try:
        for name, value in changes.items():
            _change(values, name.split('.'), value)
        preset = values.pop('preset', RunConfig.preset)
        if preset != kind.preset:
            raise SpecError(f'its preset is {preset!r}; expected preset: {kind.preset}')
        config = _built(kind, {'spec': {}, **values})
        config.check()
    except (TypeError, ValueError, IndexError, AttributeError, SpecError) as error:
        raise SpecError(f'{where}: {error}') from error
    return config


def read_values(path: Path) -> dict[str, Any]:
    """Return the fields of a training configuration as they are written.

    :raises SpecError: when the file cannot be read or holds no mapping.
    """
    try:
        values = parse_yaml(Path(path).read_bytes())
    except OSError as error:
        raise SpecError(f'training configuration {path} cannot be read ({error.strerror}); give '
                        'the path of a YAML file such as config/train_demo.yaml') from error
    except ValueError as error:
        raise SpecError(f'training configuration {path} cannot be read: {error}') from error
    if not isinstance(values, Mapping):
        raise SpecError(f'training configuration {path} must be a mapping of names to values')
    return dict(values)


def _change(values: dict[str, Any], name: Sequence[str], value: Any) -> None:
    """Set a field of nested mappings; those that are not there yet, or null, are made."""
    if len(name) == 1:
        values[name[0]] = value
        return
    if values.get(name[0]) is None:
        values[name[0]] = {}
    inner = values[name[0]]
    if not isinstance(inner, dict):
        raise SpecError(f'{name[0]} is {inner!r} and has no field {".".join(name[1:])}')
    _change(inner, name[1:], value)


def _built(kind: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    kinds = {f.name: str(f.type) for f in dataclasses.fields(kind)}
    only_known(values, kinds, 'the configuration')

    def field_value(name: str, value: Any) -> Any:
        try:
            return fitted(value, kinds[name], name)
        except UnknownKindError:
            return kind.converted(name, value, values)

    return kind(**{name: field_value(name, value) for name, value in values.items()})
