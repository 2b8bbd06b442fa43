"""What may change in a configured node: single parameters, or its model."""

from __future__ import annotations

import dataclasses
from typing import Any

from rclpy.parameter import Parameter

from ..errors import SpecError
from .parameter_values import kind, problem, value_of
from .params import FIELDS, NodeParameters

# What ~/set_model may change.
RELOADABLE = tuple(name for name, declared in FIELDS.items() if declared.metadata['reloads'])


def changed_parameters(current: NodeParameters, changes: list[Parameter], *, configured: bool
                       ) -> NodeParameters:
    """Return all values after a change.

    :param changes: may name parameters that are not the node's own; those are left out. A value
        that a parameter has already is no change.
    :param configured: whether the node has been configured; most values are used only then.
    :raises SpecError: when a change must be refused.
    """
    for change in changes:
        if change.name in FIELDS and change.value is None:
            raise SpecError(f'parameter {change.name} cannot be removed; give it a value')
    given = {p.name: value_of(FIELDS[p.name], p.value) for p in changes if p.name in FIELDS}
    changed = {name: value for name, value in given.items() if value != getattr(current, name)}
    for name, value in changed.items():
        if wrong := problem(FIELDS[name], value):
            raise SpecError(wrong)
        if configured and not FIELDS[name].metadata['live']:
            way = 'call ~/set_model' if name in RELOADABLE else 'run the transition cleanup first'
            raise SpecError(f'parameter {name} is only read when the node is configured; {way}')
    return dataclasses.replace(current, **changed)


def reloaded_parameters(current: NodeParameters, changes: list[Parameter]) -> NodeParameters:
    """Return all values after a change of the model.

    :param changes: of ``RELOADABLE`` parameters.
    :raises SpecError: when there is another among them, or a value cannot be used.
    """
    if not changes:
        raise SpecError(f'no parameters; give some of {", ".join(RELOADABLE)}')
    changed: dict[str, Any] = {}
    for change in changes:
        name = change.name
        if name not in RELOADABLE:
            raise SpecError(f'parameter {name} does not belong to the model; '
                            f'give some of {", ".join(RELOADABLE)}')
        declared = FIELDS[name]
        value, bounds = value_of(declared, change.value), declared.metadata['bounds']
        if type(value) is not type(declared.default):
            raise SpecError(f'parameter {name} is {value!r}; expected {kind(declared)}')
        if bounds and not bounds[0] <= value <= bounds[1]:
            raise SpecError(f'parameter {name} is {value}; expected {bounds[0]} to {bounds[1]}')
        if wrong := problem(declared, value):
            raise SpecError(wrong)
        changed[name] = value
    if bool(changed.get('detector', current.detector)) != bool(current.detector):
        raise SpecError('parameter detector cannot become empty, nor get a value when it is '
                        'empty, while the node is configured: it decides which topics the node '
                        'listens to; run the transition cleanup first')
    return dataclasses.replace(current, **changed)
