"""Values of a configuration's fields: each must be what the field's annotation says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..reading.fields import label


class UnknownKindError(Exception):
    """An annotation is none of the plain ones."""


def fitted(value: Any, wanted: str, name: str) -> Any:
    """Return a value of YAML as what a field takes.

    :param wanted: annotation of the field: int, float, bool, str, Path, a tuple or dict of them,
        or one of these or None.
    :param name: of the field, for messages.
    :raises ValueError: when the value is something else.
    :raises UnknownKindError: when the annotation is of another kind.
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
        return Path(value)
    raise UnknownKindError(wanted)
