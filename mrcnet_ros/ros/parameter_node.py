"""A lifecycle node with the parameters of this package, some of which can change while it runs."""

from __future__ import annotations

from collections.abc import Callable

import yaml
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter, get_parameter_value

from ..errors import SpecError
from .parameter_values import for_ros
from .params import (
    NodeParameters,
    declare_parameters,
    read_parameters,
    said_off,
    undeclared_parameters,
)
from .services import answer_always


class ParameterNode(LifecycleNode):
    """Declares and reads the parameters, and takes changes of them."""

    def __init__(self, name: str) -> None:
        """Declare and read the parameters.

        :raises SpecError: when a parameter has a value that cannot be used.
        """
        try:
            super().__init__(name)
        except ParameterException as error:  # of one that rclpy itself declares
            raise SpecError(str(error)) from error
        answer_always(self)
        declare_parameters(self)
        self.parameters = read_parameters(self)
        for given, remark in undeclared_parameters(self).items():
            self.get_logger().warning(f'parameter {given} was given but is not declared; {remark}')

    def take_changes(self, changed: Callable[[list[Parameter]], NodeParameters]) -> None:
        """Take changes of parameters from now on.

        :param changed: returns all parameters after a change; raises SpecError to refuse it.
        """
        self._changed = changed
        self.add_on_set_parameters_callback(self._on_parameters)
        self.add_post_set_parameters_callback(self._parameters_accepted)

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """Set parameters; one that has its value already is no change, be it read-only.

        So the node takes its own dump (``ros2 param load``).
        """
        changes = [p for p in map(said_off, parameter_list) if not self._has_value(p)]
        if parameter_list and not changes:
            return SetParametersResult(successful=True)
        return super().set_parameters_atomically(changes)

    def _has_value(self, parameter: Parameter) -> bool:
        if not self.has_parameter(parameter.name):
            return False
        present = self.get_parameter(parameter.name)
        if present.type_ == parameter.type_:
            return bool(present.value == parameter.value)
        # ros2 param reads text without its quotes: a model '2026' as a number, 1e-05 as text
        try:
            as_read = get_parameter_value(str(for_ros(present.value)))
        except yaml.YAMLError:  # no value of YAML at all
            return False
        return bool(as_read == parameter.get_parameter_value())

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            self._changed(changes)
        except SpecError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _parameters_accepted(self, changes: list[Parameter]) -> None:
        """Use values that everybody who was asked has accepted."""
        self.parameters = self._changed(changes)
