"""``~/set_model``: another model while the node runs, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.parameter import Parameter

from ..errors import MrcnetError
from .frame_handler import FrameHandler
from .message_types import NodeHandle
from .params import NodeParameters, reloaded_parameters
from .worker import Worker


class ModelService:
    """Loads a model beside the one in use, then swaps them between two frames.

    :param node: that offers the service.
    :param parameters: returns those of the node as they are now, which a request changes.
    :param load: begins to load a model.
    :param swap: puts a loaded worker in place; raises SpecError when it cannot.

    ``busy`` tells whether a model is being loaded.
    """

    def __init__(
        self, node: NodeHandle, parameters: Callable[[], NodeParameters],
        load: Callable[[NodeParameters], Worker],
        swap: Callable[[Worker, list[Parameter]], None],
    ) -> None:
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
            self._logger.error(f'set_model: {reason}; the model in use stays')
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
                worker.close(patient=False)
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
