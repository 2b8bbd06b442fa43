"""One parameter of the node: its declaration in ROS, and the values that it takes."""

from __future__ import annotations

import math
from dataclasses import Field, field
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.parameter import Parameter

Value = bool | int | float | str | tuple[str, ...] | tuple[int, ...]
Declared = Field[Any]  # a field of NodeParameters

# Types of ROS of lists, by what Python has for their items.
LISTS = {str: Parameter.Type.STRING_ARRAY, int: Parameter.Type.INTEGER_ARRAY}


def parameter(default: Value, description: str, *, bounds: tuple[float, float] | None = None,
              choices: tuple[str, ...] = (), live: bool = False, reloads: bool = False,
              items: type | None = None) -> Any:
    """Describe a field of :class:`.params.NodeParameters`.

    :param live: it may change while the node is configured.
    :param reloads: it may change together with the model, which is then loaded anew.
    :param items: of what type the items are, when the parameter is a list.
    """
    meta = {'description': description, 'bounds': bounds, 'choices': choices, 'live': live,
            'reloads': reloads, 'items': items}
    return field(default=default, metadata=meta)


def value_of(declared: Declared, value: object) -> Any:
    """Return a value as the field has it: a list as a tuple, even where ROS has no value."""
    if not declared.metadata['items']:
        return value
    if value is None:
        return ()
    return value if isinstance(value, str | bytes) or not hasattr(value, '__iter__') else tuple(
        value)


def for_ros(value: object) -> object:
    """Return a value of a field as ROS takes it."""
    return list(value) if isinstance(value, tuple) else value


def kind(declared: Declared) -> str:
    """Return what a field holds, in words."""
    items = declared.metadata['items']
    return f'list of {items.__name__}' if items else type(declared.default).__name__


def problem(declared: Declared, value: object) -> str:
    """Return what a descriptor cannot refuse, '' when there is nothing."""
    name, choices = declared.name, declared.metadata['choices']
    items = declared.metadata['items']
    if items and not (isinstance(value, tuple) and all(type(v) is items for v in value)):
        return f'parameter {name} is {for_ros(value)!r}; expected a {kind(declared)}'
    if isinstance(value, float) and not math.isfinite(value):
        return f'parameter {name} is {value}; expected a finite number'
    if not choices or value in choices:
        return ''
    return f'parameter {name} is {value!r}; expected one of {", ".join(choices)}'


def descriptor(declared: Declared) -> ParameterDescriptor:
    """Return what ROS shall know of a field."""
    choices, bounds = declared.metadata['choices'], declared.metadata['bounds']
    told = ParameterDescriptor(description=declared.metadata['description'],
                               dynamic_typing=declared.metadata['items'] is not None)
    if choices:
        told.additional_constraints = f'one of {", ".join(choices)}'
    if bounds and isinstance(declared.default, float):
        told.floating_point_range = [
            FloatingPointRange(from_value=float(bounds[0]), to_value=float(bounds[1]))]
    elif bounds:
        told.integer_range = [
            IntegerRange(from_value=int(bounds[0]), to_value=int(bounds[1]), step=1)]
    return told
