"""What an active node has: its inputs, the frames that wait, and the watch over both."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from . import qos
from .frame_queue import FrameQueue
from .frames import Frame, FrameError
from .input_watch import InputWatch
from .params import NodeParameters
from .rclpy_types import NodeHandle
from .synchronizer import InputSynchronizer
from .worker import FrameServices, check_order


class Listening:
    """Puts the frames that come into a queue; used by the executor's thread.

    ``queue`` has the frames that wait for a worker, ``watch`` notes all messages.

    :param services: that the worker has, too.
    :param on_room: told by the worker's thread that the queue is not full any more.
    """

    def __init__(self, parameters: NodeParameters, services: FrameServices,
                 on_room: Callable[[], object]) -> None:
        latest = parameters.policy == 'latest'
        self._parameters, self._services = parameters, services
        self.queue: FrameQueue[Frame] = FrameQueue(
            1 if latest else parameters.queue, replace=latest, order=attrgetter('turn'),
            on_room=on_room, kind=attrgetter('has_detections'))
        self.watch = InputWatch(services.now_ns)
        self._inputs: InputSynchronizer | None = None

    def subscribe(self, node: NodeHandle, on_peers: Callable[[], None]) -> None:
        """Subscribe to the inputs.

        :param on_peers: told that a publisher has come or gone.
        """
        self._inputs = InputSynchronizer(
            node, self._parameters, qos.inputs(self._parameters), self._on_frame,
            self._services.drop_counters.drop, self.watch, on_peers,
            self._has_room, self._services.eras.__next__)

    def _has_room(self) -> bool:
        full = self.queue.full
        if full:
            self.watch.holds()
        return not full

    def close(self) -> None:
        """Unsubscribe, and leave no frame in the queue."""
        if self._inputs is not None:
            self._inputs.close()
        self._services.drop_counters.drop(
            'stopped', 'the node was deactivated', self.queue.close())

    def _on_frame(self, frame: Frame) -> None:
        services = self._services
        try:
            check_order(frame, services.last_answered, corrects=services.parameters().track)
        except FrameError as error:
            services.drop_counters.drop(error.reason, str(error))
            return
        services.drop_counters.drop('busy', 'a newer frame came first', self.queue.put(frame))
