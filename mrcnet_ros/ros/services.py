"""Services that rclpy offers for a node: every request is answered, also one that fails."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult

from .message_types import NodeHandle


def answer_always(node: NodeHandle) -> None:
    """Have the services that a node offers by now answered also where their handler raises.

    rclpy's own handlers raise for some requests (Jazzy: a transition that the state forbids; a
    parameter of a type that does not exist). The request then stays without an answer, and the
    error reaches the executor, which cannot tell it from a damaged message.

    :param node: of rclpy.
    """
    for service in node.services:
        if not inspect.iscoroutinefunction(service.callback):
            service.callback = _answering(node, service.srv_name, service.callback)


def _answering(
    node: NodeHandle, name: str, handle: Callable[..., object],
) -> Callable[[object, object], object]:
    def answer(request: object, response: object) -> object:
        try:
            return handle(request, response)
        except Exception as error:  # whatever a request provokes
            reason = f'{type(error).__name__}: {error}'
            node.get_logger().error(f'{name}: a request failed: {reason}')
            node.get_logger().debug(traceback.format_exc())
            return _refusal(request, type(response)(), reason)

    return answer


def _refusal(request: Any, response: Any, reason: str) -> Any:
    """Return a response that says no, where its type can; its fields are false or empty."""
    result = SetParametersResult(successful=False, reason=reason)
    if hasattr(response, 'results'):
        response.results = [result] * len(request.parameters)
    elif hasattr(response, 'result') and isinstance(response.result, SetParametersResult):
        response.result = result
    elif hasattr(response, 'failure_reason'):
        response.failure_reason = reason
    return response
