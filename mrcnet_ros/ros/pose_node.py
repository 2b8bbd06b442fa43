"""The ROS 2 node: images, camera and detections in, object poses out."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from ..errors import MrcnetError, SpecError
from . import qos
from .frame_handler import Answer, Estimator, Frame, FrameError, FrameHandler
from .frame_queue import FrameQueue
from .input_watch import InputWatch
from .messages import stamp_ns
from .outputs import Outputs, Pictures
from .pairing import PairedInputs
from .params import NodeParameters, changed_parameters, declare_parameters, read_parameters
from .reporter import Reporter
from .tally import Tally
from .timings import Timings

EstimatorLoader = Callable[[NodeParameters], Estimator]
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
REPORT_PERIOD_S, DIAGNOSTICS_PERIOD_S = 5.0, 1.0


def load_estimator(parameters: NodeParameters) -> Estimator:
    """Load the model that the parameters name.

    :raises MrcnetError: when model, meshes or backend cannot be used.
    """
    from ..inference.loading import load_any_estimator

    if not parameters.model:
        raise SpecError('parameter model is empty; give the directory of a model')
    return load_any_estimator(
        Path(parameters.model), Path(parameters.meshes) if parameters.meshes else None,
        backend=parameters.backend, threads=parameters.threads or None,
        cache_bytes=parameters.cache_mb << 20,
        store_root=Path(parameters.store) if parameters.store else None,
    )


class InterruptedLoading(MrcnetError):
    """The process was told to end before the node was configured."""


class PoseNode(LifecycleNode):
    """Wires topics to a :class:`FrameHandler`.

    Two threads: the executor's receives and pairs messages; one worker owns the estimator (and
    with it the renderer's context), from loading to the last frame, and publishes.

    :param load: makes the estimator, called by the worker when the node is configured.
    :param stop: set when the process is to end, which may be while the model is being loaded.
    """

    def __init__(
        self, load: EstimatorLoader = load_estimator, stop: threading.Event | None = None,
    ) -> None:
        """Declare parameters and topics.

        :raises SpecError: when a parameter has a value that cannot be used.
        """
        super().__init__('pose_node')
        declare_parameters(self)
        self._load, self._stop_asked = load, stop or threading.Event()
        self.parameters = read_parameters(self)
        self.tally, self.timings = Tally(self._warn_of_drop), Timings()
        self._worker: ThreadPoolExecutor | None = None
        self._handler: FrameHandler | None = None
        self._pictures: Pictures | None = None
        self._inputs: PairedInputs | None = None
        self._queue: FrameQueue[Frame] | None = None
        self._running: Future[None] | None = None
        self._watch: InputWatch | None = None
        self._outputs = Outputs(self)
        self._reporter = Reporter(self, self.tally, self.timings)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(REPORT_PERIOD_S, self._log_drops, clock=steady)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._diagnose, clock=steady)
        self.add_on_set_parameters_callback(self._on_parameters)

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check everything that can be wrong."""
        worker = ThreadPoolExecutor(1, 'estimator')
        try:
            self._handler = self._wait_for(worker.submit(self._make_handler, self.parameters))
        except Exception as error:  # rclpy would swallow it
            known = isinstance(error, MrcnetError)
            self._reporter.error = str(error) if known else traceback.format_exc()
            self.get_logger().error(self._reporter.error)
            worker.shutdown(wait=False)
            return FAILURE
        self._worker = worker
        self._pictures = Pictures(self._outputs, self._handler.objects)
        self._reporter.error, self._reporter.facts = '', self._handler.facts
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to listen and to answer."""
        assert self._worker is not None
        latest = self.parameters.policy == 'latest'
        self._queue = FrameQueue(1 if latest else self.parameters.queue, replace=latest)
        self._running = self._worker.submit(self._answer_frames, self._queue)
        self._watch = InputWatch(lambda: int(self.get_clock().now().nanoseconds))
        self._inputs = PairedInputs(
            self, self.parameters, qos.inputs(self.parameters), self._on_frame,
            lambda: self.tally.drop('unpaired', 'no camera_info or detections with its stamp'),
            self._watch)
        self.get_logger().info('ready')
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the frame being answered is answered first."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model."""
        self._release()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and let go of the model, from any state."""
        self.close()
        return SUCCESS

    def close(self) -> None:
        """Stop and let go of the model; does nothing the second time."""
        self._stop()
        self._release()

    def _stop(self) -> None:
        if self._inputs is None or self._queue is None or self._running is None:
            return
        self._inputs.close()
        waiting = self._queue.close()
        self._running.result()
        self._inputs = self._queue = self._running = self._watch = None
        self.tally.drop('stopped', 'the node was deactivated', waiting)
        self.get_logger().info(self.tally.summary())

    def _release(self) -> None:
        if self._worker is not None:
            if self._pictures is not None:
                self._worker.submit(self._pictures.close)
            self._worker.shutdown()
        self._handler = self._pictures = self._worker = None

    def _wait_for(self, handler: Future[FrameHandler]) -> FrameHandler:
        """Wait for the worker, which may have to render templates for minutes."""
        while not handler.done():
            wait([handler], timeout=0.2)
            if self._stop_asked.is_set() and not handler.done():
                raise InterruptedLoading('interrupted while the model was being loaded')
        return handler.result()

    # Executor thread

    def _on_frame(self, frame: Frame) -> None:
        assert self._queue is not None
        self.tally.drop('busy', 'a newer frame came first', self._queue.put(frame))

    def _on_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        try:
            self.parameters = changed_parameters(
                self.parameters, changed, configured=self._handler is not None)
        except SpecError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _log_drops(self) -> None:
        if news := self.tally.news():
            self.get_logger().warning(news)

    def _diagnose(self) -> None:
        state = 'unconfigured' if self._handler is None else 'inactive'
        self._reporter.report(
            state if self._watch is None else 'active', self.parameters, self._watch)

    # Worker thread

    def _make_handler(self, parameters: NodeParameters) -> FrameHandler:
        estimator = self._load(parameters)
        bounds = {label: model.bounds() for label, model in estimator.objects.items()}
        return FrameHandler(estimator, bounds, self.tally,
                            compressed=parameters.image_transport == 'compressed')

    def _answer_frames(self, queue: FrameQueue[Frame]) -> None:
        while (frame := queue.get()) is not None:
            try:
                self._answer_frame(frame)
            except FrameError as error:
                self.tally.drop(error.reason, str(error))
            except Exception as error:  # one frame must not end the node
                self.tally.drop('failed', f'{type(error).__name__}: {error}')

    def _answer_frame(self, frame: Frame) -> None:
        assert self._handler is not None and self._pictures is not None
        parameters, start = self.parameters, time.perf_counter()
        answer = self._handler.answer(frame, parameters)
        estimated = time.perf_counter()
        self._outputs.publish(answer, parameters)
        published, now_ns = time.perf_counter(), int(self.get_clock().now().nanoseconds)
        result = answer.result
        self.tally.answer(len(answer.poses), answer.scene.detections,
                          hits=result.cache_hits, misses=result.cache_misses)
        self.timings.add({
            'age': (now_ns - stamp_ns(answer.header)) * 1e-9,
            'waiting': start - frame.complete_s, 'answering': estimated - start,
            'publishing': published - estimated, **result.stage_seconds})
        self._show(answer, parameters)

    def _show(self, answer: Answer, parameters: NodeParameters) -> None:
        """Publish markers and overlay; the frame is answered even when they fail."""
        assert self._pictures is not None
        try:
            self.timings.add(self._pictures.publish(answer, parameters))
        except Exception as error:
            self.get_logger().error(
                f'no markers or overlay: {type(error).__name__}: {error}',
                throttle_duration_sec=60.0)

    def _warn_of_drop(self, reason: str, message: str) -> None:
        self.get_logger().warning(f'dropped ({reason}): {message}')


def main(args: list[str] | None = None, load: EstimatorLoader = load_estimator) -> int:
    """Run the node until SIGINT or SIGTERM.

    :param args: ROS arguments, those of the command line by default.
    :return: 0 after a signal, 2 when the node cannot start.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = PoseNode(load, stop)
    except SpecError as error:
        print(f'pose_node: {error}', file=sys.stderr)
        rclpy.shutdown()
        return 2
    try:
        if node.get_parameter('autostart').value and not _start(node):
            return _give_up(stop)
        _spin(node, stop)
        return 0
    finally:
        node.close()
        node.destroy_node()
        rclpy.shutdown()


def _start(node: PoseNode) -> bool:
    return bool(node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS)


def _give_up(stop: threading.Event) -> int:
    """Return the exit code of a node that could not start, or end at once when told to."""
    if not stop.is_set():
        return 2
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the worker is in the middle of loading and would be waited for


def _spin(node: Any, stop: threading.Event) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop.is_set():
        try:
            executor.spin_once(timeout_sec=0.2)
        except Exception as error:  # a damaged message must not end the node
            node.tally.drop('bad_message', f'{type(error).__name__}: {error}')
    executor.shutdown()


if __name__ == '__main__':
    sys.exit(main())
