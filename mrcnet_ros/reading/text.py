"""JSON and YAML, read strictly: what could be meant in two ways is refused; and YAML written.

Both refuse keys that stand twice in one mapping, numbers that are not finite, and text that is not
UTF-8. YAML is read as its version 1.2 has it, so that a label ``on`` or ``08`` or ``2024-01-01``
stays text, and ``2e-3`` is a number.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import yaml


def parse_json(data: bytes | str) -> Any:
    """Return the values of a JSON text.

    :raises ValueError: when it is no JSON, or names a key twice, or has a number that is not
        finite; the error says where.
    """
    not_finite: list[str] = []

    def number(text: str) -> float:
        found = float(text)
        if not math.isfinite(found):
            not_finite.append(text)
        return found

    try:
        values = json.loads(_utf8(data), object_pairs_hook=_mapping, parse_constant=number,
                            parse_float=number)
    except RecursionError:
        raise ValueError('it is nested too deeply') from None
    if not_finite:
        raise ValueError(f'{_place(values)} is {not_finite[0]}; expected a finite number')
    return values


def parse_yaml(data: bytes | str) -> Any:
    """Return the values of a YAML text of one document.

    :raises ValueError: when it is no YAML, or names a key twice, or has a number that is not
        finite; the error tells the line.
    """
    try:
        return yaml.load(_utf8(data), _StrictLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace('"<unicode string>", ', '')) from error
    except RecursionError:
        raise ValueError('it is nested too deeply') from None


def yaml_of(values: Any) -> str:
    """Return plain data as YAML, which :func:`parse_yaml` reads as the same data.

    Text that YAML 1.1 or 1.2 reads as something else, such as on or 7E3, is in quotes.
    """
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False))


def _utf8(data: bytes | str) -> str:
    if isinstance(data, str):
        return data
    try:
        return data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'byte {error.start + 1} is not UTF-8; save the file as UTF-8') from None


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'the key {twice!r} is given twice in one object; keep one of them')
    return values


def _place(values: Any, place: str = '') -> str:
    """Return where the first number is that is not finite, '' when there is none."""
    if isinstance(values, float):
        return '' if math.isfinite(values) else place or 'the value'
    parts = (values.items() if isinstance(values, dict)
             else enumerate(values) if isinstance(values, list) else ())
    for name, part in parts:
        step = f'[{name}]' if isinstance(values, list) else f'.{name}' if place else str(name)
        if found := _place(part, place + step):
            return found
    return ''


class _StrictLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads the core schema of YAML 1.2."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse keys that stand twice; the library keeps the last."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f'the key {key.value!r} is given twice in one mapping; keep one of '
                            'them',
                    problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Knows what both versions of YAML take for something else than text."""


def _finite(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    found = float(loader.construct_yaml_float(node))
    if not math.isfinite(found):
        raise yaml.MarkedYAMLError(problem=f'{node.value} is not a finite number',
                                   problem_mark=node.start_mark)
    return found


_StrictLoader.yaml_implicit_resolvers = {}
# A whole number has one way to be written, so that a label such as 5 is the same as text.
for _tag, _pattern, _first in (
    ('null', r'~|null|Null|NULL|', ['~', 'n', 'N', '']),
    ('bool', r'true|True|TRUE|false|False|FALSE', list('tTfF')),
    ('int', r'0|-?[1-9][0-9]*', list('-0123456789')),
    ('float', r'[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?',
     list('-+.0123456789')),
    ('merge', r'<<', ['<']),
):
    for _kind in (_StrictLoader, _Dumper):
        _kind.add_implicit_resolver(
            f'tag:yaml.org,2002:{_tag}', re.compile(f'^(?:{_pattern})$'), _first)
_StrictLoader.add_constructor('tag:yaml.org,2002:float', _finite)
