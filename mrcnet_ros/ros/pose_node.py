"""The ROS 2 node: images, camera and detections in, object poses out."""

from __future__ import annotations

import math
import sys
import threading
import time
import traceback
import weakref
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from ..errors import MrcnetError, SpecError
from ..geometry.se3 import Array
from .confirm_action import ConfirmAction
from .drop_counters import DropCounters
from .estimator_loading import (
    EstimatorLoader,
    check_label_map,
    load_estimator,
    load_handler,
)
from .frame_handler import FrameHandler
from .frame_names import FrameNames
from .listening import Listening
from .message_types import HeaderMessage
from .node_process import run_node
from .package_log import PackageLog
from .parameter_changes import changed_parameters
from .parameter_node import ParameterNode
from .params import NodeParameters
from .publishers import Publishers
from .reporter import Reporter
from .services import ModelService
from .timings import Timings
from .transforms import CameraTransforms, MotionError, SupportFrame, Tree
from .worker import FrameServices, Worker

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
# Drops are logged at most this often; /diagnostics comes once a second, as usual in ROS.
REPORT_PERIOD_S, DIAGNOSTICS_PERIOD_S = 5.0, 1.0
# A new peer connects to one topic after the other; it is reported once for all of them.
PEERS_DELAY_S = 0.1
# How often the end of the process is looked for while a worker is waited for; and how long that
# goes on then: a frame takes less, and ros2 launch waits five seconds.
WAIT_S, PATIENCE_S = 0.2, 2.0


class InterruptedLoading(MrcnetError):
    """The process was told to end before the node was configured."""


class PoseNode(ParameterNode):
    """Wires topics to a :class:`Worker`.

    Two threads: the executor's receives and pairs messages; the worker's estimates and publishes.

    :param load: makes the estimator, called by the worker when the node is configured.
    :param stop: set when the process is to end, which may be while the model is being loaded or
        a frame is being answered.
    """

    def __init__(self, load: EstimatorLoader = load_estimator, stop: threading.Event | None = None
                 ) -> None:
        """Declare parameters and topics.

        :raises SpecError: when a parameter has a value that cannot be used.
        """
        super().__init__('pose_node')
        self._package_log = PackageLog(self.get_logger())
        self._load, self._stop_asked = load, stop or threading.Event()
        self.drop_counters, self.timings = DropCounters(self._warn_of_drop), Timings()
        self._worker: Worker | None = None
        self._wake = self.create_guard_condition(lambda: None)
        self._workers: weakref.WeakSet[Worker] = weakref.WeakSet()
        self._patience_ends_s = math.inf  # when the process waits no longer for a worker
        self._listening: Listening | None = None
        self._camera_motion: CameraTransforms | None = None
        self._support: SupportFrame | None = None
        self._frame_names = FrameNames()
        self._frame_publishers = Publishers(self, self._on_peers)
        self.confirm_action = ConfirmAction(self, lambda: self.parameters)
        self._frame_services = FrameServices(
            parameters=lambda: self.parameters, drop_counters=self.drop_counters,
            timings=self.timings, see=self.confirm_action.see, now_ns=self._now_ns,
            logger=self.get_logger())
        self._reporter = Reporter(self, self.drop_counters, self.timings, (
            *self._frame_publishers.publishers, self.confirm_action.publisher))
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(REPORT_PERIOD_S, self._log_drops, clock=steady)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._diagnose, clock=steady)
        self._peers_timer = self.create_timer(PEERS_DELAY_S, self._report_peers, clock=steady)
        self._peers_timer.cancel()
        self._configured = self._loading_for = 0  # how often
        self._swapping = False
        self._idle_state = 'unconfigured'
        self.take_changes(self._change)
        self.model_service = ModelService(
            self, lambda: self.parameters, self._load_beside, self._swap)

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check everything that can be wrong."""
        if self.parameters.support_plane:
            self._support = SupportFrame(self, self.parameters.support_plane)
        worker = self._make_worker(self.parameters)
        try:
            self._report('configuring')
            if not self._wait_for(worker.loaded, 'configuring', patience_s=0.0):
                raise InterruptedLoading('interrupted while the model was being loaded')
            handler = worker.loaded.result()
        except Exception as error:  # rclpy would swallow it
            self._release()
            known = isinstance(error, MrcnetError)
            self._reporter.error = str(error) if known else traceback.format_exc()
            self.get_logger().error(self._reporter.error)
            worker.close()
            self._diagnose()
            return FAILURE
        self._worker, self._configured = worker, self._configured + 1
        self._reporter.error, self._reporter.facts = '', handler.facts
        self._diagnose()
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to listen and to answer."""
        try:
            self._listen()
        except Exception as error:  # rclpy would swallow it
            self._reporter.error = f'it could not be activated: {type(error).__name__}: {error}'
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        self.get_logger().info('ready')
        self._diagnose()
        return super().on_activate(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of everything after a transition that failed half way; configure begins anew."""
        self._stop()
        self._release()
        self._diagnose()
        return SUCCESS

    def _listen(self) -> None:
        assert self._worker is not None
        self._listening = Listening(self.parameters, self._frame_services, self._wake.trigger)
        if self.parameters.track_frame:
            self._watch_camera()
        self._frame_names.listen(self)
        self._worker.start(self._listening.queue)
        self._frame_publishers.publish_symmetries(self._worker.loaded.result().objects)
        self._listening.subscribe(self, self._on_peers)
        self.confirm_action.start(self._worker.loaded.result())

    def _watch_camera(self) -> None:
        if self._camera_motion is None:
            self._camera_motion = CameraTransforms(self)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the frame being answered is answered first."""
        self._stop()
        self._diagnose()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model."""
        self._release()
        self._diagnose()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and let go of the model, from any state."""
        self.close()
        self._idle_state = 'finalized'
        self._diagnose()
        return SUCCESS

    def close(self) -> None:
        """Stop and let go of the model; does nothing the second time."""
        self._stop()
        self._release()
        self._package_log.close()

    def _stop(self) -> None:
        if self._listening is not None and self._worker is not None:
            self._listening.close()
            if self._worker.answering is not None:
                self._wait_for(self._worker.answering, 'stopping')
            self.get_logger().info(self.drop_counters.summary())
        self._listening = None
        self._frame_names.close()
        self.confirm_action.stop()

    def _release(self) -> None:
        if self._support is not None:
            self._support.close()
            self._support = None
        if self._worker is not None:
            self._wait_for(self._worker.close(), 'stopping')
            self._worker, self._reporter.facts = None, {}
        if self._camera_motion is not None:  # the worker asks it no more
            self._camera_motion.close()
            self._camera_motion = None

    def _make_worker(self, parameters: NodeParameters) -> Worker:
        self._package_log.last = f'model {parameters.model}'
        worker = Worker(self._frame_services, self._frame_publishers,
                        partial(self._make_handler, parameters))
        self._workers.add(worker)
        return worker

    @property
    def is_at_work(self) -> bool:
        """Whether a worker has something to do, be it one that the node wants no more."""
        return any(worker.is_at_work for worker in self._workers)

    def _load_beside(self, parameters: NodeParameters) -> Worker:
        """Begin to load another model while one is in use.

        :raises SpecError: when none is.
        """
        if self._worker is None:
            raise SpecError('the node is not configured; set its parameters and configure it')
        self._loading_for = self._configured
        return self._make_worker(parameters)

    def _swap(self, worker: Worker, changes: list[Parameter]) -> None:
        """Put a worker with another model in place of the one in use.

        :param changes: the parameters that differ.
        :raises SpecError: when the node has been cleaned up, be it configured again with other
            parameters since, or a parameter is refused.
        """
        old = self._worker
        if old is None or self._loading_for != self._configured:
            raise SpecError('the node was cleaned up while the model was being loaded')
        check_label_map(changed_parameters(self.parameters, changes, configured=False),
                        worker.loaded.result().objects)
        old.frozen, self._swapping = self.parameters, True
        try:
            result = self.set_parameters_atomically(changes)
        finally:
            self._swapping = False
        if not result.successful:
            old.frozen = None
            raise SpecError(result.reason)
        self._worker, self._reporter.facts = worker, worker.loaded.result().facts
        if self._listening is not None:
            worker.start(self._listening.queue, old)
            self._frame_publishers.publish_symmetries(worker.loaded.result().objects)
            self.confirm_action.start(worker.loaded.result())
        old.close()
        self.get_logger().info(f'the model is now {self.parameters.model}')

    def _wait_for(self, work: Future[Any], state: str, patience_s: float = PATIENCE_S) -> bool:
        """Wait for a worker, which may render templates for minutes or hang for ever.

        :param state: that /diagnostics tells meanwhile.
        :param patience_s: for how long it goes on when the process is to end.
        :return: whether the work is done.
        """
        due_s = time.monotonic() + DIAGNOSTICS_PERIOD_S
        while not work.done() and time.monotonic() < self._patience_ends_s:
            wait([work], timeout=WAIT_S)
            if self._stop_asked.is_set():
                self._patience_ends_s = min(self._patience_ends_s, time.monotonic() + patience_s)
            elif time.monotonic() >= due_s:  # no timer is called meanwhile
                self._report(state)
                due_s += DIAGNOSTICS_PERIOD_S
        return work.done()

    # Executor thread

    def _change(self, changed: list[Parameter]) -> NodeParameters:
        handled = self._worker if not self._swapping else None
        parameters = changed_parameters(self.parameters, changed, configured=handled is not None)
        if handled is not None and parameters.label_map != self.parameters.label_map:
            check_label_map(parameters, handled.loaded.result().objects)
        if self._listening is not None and parameters.track_frame:
            self._watch_camera()
        return parameters

    def _log_drops(self) -> None:
        if news := self.drop_counters.news():
            self.get_logger().warning(news)

    def _diagnose(self) -> None:
        state = self._idle_state if self._worker is None else 'inactive'
        self._report(state if self._listening is None else 'active')

    def _on_peers(self) -> None:
        self._peers_timer.reset()

    def _report_peers(self) -> None:
        self._peers_timer.cancel()
        self._diagnose()

    def _report(self, state: str) -> None:
        loading = state == 'configuring' or self.model_service.busy
        self._reporter.loading = self._package_log.last if loading else ''
        self._reporter.busy_s = self._worker.busy_s if self._worker is not None else 0.0
        self._reporter.doubts = (
            self._worker.loaded.result().doubts() if self._worker is not None else [])
        self._reporter.sent_by_others = self._frame_names.others()
        watch = None if self._listening is None or state == 'stopping' else self._listening.watch
        self._reporter.optical_frame = (
            self._frame_names.optical_of(watch.camera_frame) if watch is not None else '')
        self._reporter.report(state, self.parameters, watch)

    # Worker thread

    def _make_handler(self, parameters: NodeParameters) -> FrameHandler:
        support = self._support
        tree = Tree(support.plane if support is not None else None, self._camera_in,
                    self._frame_names.refusal, self._frame_names.sent, self._begin_moment)
        handler = load_handler(self._load, parameters, self.drop_counters, tree)
        self.get_logger().info(
            f'the model knows {handler.facts["objects"]}; {handler.facts["views"]}')
        return handler

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _camera_in(self, header: HeaderMessage, fixed_frame: str) -> Array:
        motion = self._camera_motion
        if motion is None:
            raise MotionError('the node does not listen to /tf yet')
        return motion.look_up(header, fixed_frame)

    def _begin_moment(self, moment: tuple[int, int]) -> None:
        for listener in (self._support, self._camera_motion):
            if listener is not None:
                listener.begin(moment)

    def _warn_of_drop(self, reason: str, message: str) -> None:
        self.get_logger().warning(f'dropped ({reason}): {message}')


def main(args: list[str] | None = None, load: EstimatorLoader = load_estimator) -> int:
    """Run the node until SIGINT or SIGTERM.

    :param args: ROS arguments, those of the command line by default.
    :return: 0 after a signal, 2 when ROS cannot be started or a parameter cannot be used. A
        node that cannot be configured goes on, and /diagnostics tells why.
    """
    return run_node(args, lambda stop: PoseNode(load, stop))


if __name__ == '__main__':
    sys.exit(main())
