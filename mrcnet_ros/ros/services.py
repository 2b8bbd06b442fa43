"""The services of the node: ~/set_model, and an answer to every request of any service.

``~/set_model`` takes another model while the node runs, all or nothing.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.parameter import Parameter

from ..errors import MrcnetError
from .frame_handler import FrameHandler
from .parameter_changes import reloaded_parameters
from .params import NodeParameters
from .rclpy_types import NodeHandle
from .worker import Worker


class ModelService:
    """Loads a model beside the one in use, then swaps them between two frames.

    :param parameters: returns those of the node as they are now, which a request changes.
    :param load: begins to load a model.
    :param swap: puts a loaded worker in place; raises SpecError when it cannot.

    ``busy`` tells whether a model is being loaded.
    """

    def __init__(self, node: NodeHandle, parameters: Callable[[], NodeParameters],
                 load: Callable[[NodeParameters], Worker],
                 swap: Callable[[Worker, list[Parameter]], None]) -> None:
        """Offer the service; while it waits, the node goes on, and other requests wait."""
        self._parameters, self._load, self._swap = parameters, load, swap
        self._logger = node.get_logger()
        self.busy = False
        node.create_service(SetParametersAtomically, '~/set_model', self._called,
                            callback_group=MutuallyExclusiveCallbackGroup())

    async def _called(self, request: SetParametersAtomically.Request,
                      response: SetParametersAtomically.Response
                      ) -> SetParametersAtomically.Response:
        try:
            await self._reload([Parameter.from_parameter_msg(p) for p in request.parameters])
            response.result = SetParametersResult(successful=True)
        except Exception as error:  # the answer, whatever request or model provoke
            known = isinstance(error, MrcnetError)
            reason = str(error) if known else f'{type(error).__name__}: {error}'
            self._logger.error(f'set_model: {reason}; the current model stays in use')
            response.result = SetParametersResult(successful=False, reason=reason)
        return response

    async def _reload(self, changes: list[Parameter]) -> None:
        parameters = reloaded_parameters(self._parameters(), changes)
        self.busy = True
        try:
            worker = self._load(parameters)
            try:
                await _Done(worker.loaded)
                self._swap(worker, changes)
            except BaseException:
                worker.close()
                raise
        finally:
            self.busy = False


class _Done:
    """Lets the executor do other things until a future is done."""

    def __init__(self, future: Future[FrameHandler]) -> None:
        self._future = future

    def __await__(self) -> Generator[None, None, FrameHandler]:
        while not self._future.done():
            yield
        return self._future.result()


def answer_always(node: NodeHandle) -> None:
    """Have the services that a node offers by now answered also where their handler raises.

    rclpy's own handlers raise for some requests (Jazzy: a transition that the state forbids; a
    parameter of a type that does not exist). The request then stays without an answer, and the
    error reaches the executor, which cannot tell it from a damaged message.
    """
    for service in node.services:
        if not inspect.iscoroutinefunction(service.callback):
            service.callback = _answering(node, service.srv_name, service.callback)


def _answering(node: NodeHandle, name: str, handle: Callable[..., object]
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
