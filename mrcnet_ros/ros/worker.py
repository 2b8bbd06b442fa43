"""The thread that answers frames."""

from __future__ import annotations

import itertools
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from rclpy.impl.rcutils_logger import RcutilsLogger

from .drop_counters import DropCounters
from .frame_handler import FrameHandler
from .frame_queue import FrameQueue
from .frames import Answer, Frame, FrameError
from .messages import stamp_ns
from .params import NodeParameters
from .publishers import Pictures, Publishers
from .timings import Timings


@dataclass(kw_only=True)
class FrameServices:
    """Services that workers get from the node, and state that they share with it.

    :param parameters: returns them as they are at each frame.
    :param see: is shown each answer and the parameters it was given with.
    :param now_ns: returns the time of the node's clock [ns].
    :param last_answered: moment of the frame that was answered last.
    :param eras: numbers of eras; time may go back while the node is inactive, so each activation
        begins one.
    """

    parameters: Callable[[], NodeParameters]
    drop_counters: DropCounters
    timings: Timings
    see: Callable[[Answer, NodeParameters], object]
    now_ns: Callable[[], int]
    logger: RcutilsLogger
    last_answered: tuple[int, int] = (0, 0)
    eras: Iterator[int] = field(default_factory=itertools.count)


class Worker:
    """Owns an estimator, and with it a renderer's context, from loading to the last frame.

    :param load: makes the handler, in the worker's thread.

    ``frozen`` are parameters to use instead of the node's, when another worker replaces this one:
    they also belong to the model.
    """

    def __init__(self, services: FrameServices, publishers: Publishers,
                 load: Callable[[], FrameHandler]) -> None:
        """Begin to load; ``loaded`` tells how it went."""
        self._services, self._publishers, self._load = services, publishers, load
        self._pictures: Pictures | None = None
        self._thread = ThreadPoolExecutor(1, 'estimator')
        self.loaded: Future[FrameHandler] = self._thread.submit(self._make)
        self._last: Future[Any] = self.loaded
        self.answering: Future[None] | None = None
        self.frozen: NodeParameters | None = None
        self._since_s: float | None = None

    def start(self, queue: FrameQueue[Frame], before: Worker | None = None) -> None:
        """Answer the frames of a queue until it is closed or handed to another worker.

        :param before: worker that had the queue; it finishes its last frame first.
        """
        queue.hand_to(self)
        earlier = before.answering if before is not None else None
        self._last = self.answering = self._thread.submit(self._answer_frames, queue, earlier)

    @property
    def busy_s(self) -> float:
        """How long it has worked on one frame, or waited for another worker's last one [s]."""
        since_s = self._since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    @property
    def is_at_work(self) -> bool:
        """Whether its thread has something to do, be it for a model that hangs."""
        return not self._last.done()

    def close(self) -> Future[None]:
        """Begin to let go of everything, after the last frame; the future is done then."""
        self._last = freed = self._thread.submit(self._free)
        self._thread.shutdown(wait=False)
        return freed

    def _make(self) -> FrameHandler:
        handler = self._load()
        try:
            self._pictures = Pictures(
                self._publishers, handler.objects, self._services.timings, self._cannot_draw)
        except BaseException:
            handler.close()
            raise
        return handler

    def _free(self) -> None:
        if self._pictures is not None:
            self._pictures.close()
            self._pictures = None
        if self.loaded.exception() is None:
            self.loaded.result().close()

    def _answer_frames(self, queue: FrameQueue[Frame], earlier: Future[None] | None) -> None:
        self._since_s = time.monotonic()
        if earlier is not None:
            wait([earlier])
        self._since_s = None
        handler = self.loaded.result()
        while (frame := queue.get(self)) is not None:
            self._since_s = time.monotonic()
            try:
                self._answer_frame(handler, frame)
            except FrameError as error:
                self._services.drop_counters.drop(error.reason, str(error))
            except Exception as error:  # one frame must not end the node
                self._services.drop_counters.drop('failed', f'{type(error).__name__}: {error}')
                where = ''.join(traceback.format_tb(error.__traceback__))
                self._services.logger.error(
                    f'a frame failed ({type(error).__name__}: {error}) at\n{where}',
                    throttle_duration_sec=60.0)
            self._since_s = None
        self._services.drop_counters.followed_now = 0  # nothing is, until the next one follows
        assert self._pictures is not None
        try:
            self._pictures.take_back()
        except Exception as error:  # the end of the node must not fail because of markers
            self._cannot_draw(error)

    def _answer_frame(self, handler: FrameHandler, frame: Frame) -> None:
        services, start = self._services, time.perf_counter()
        parameters, last = self.frozen or services.parameters(), services.last_answered
        check_order(frame, last, corrects=parameters.track)
        answer = handler.answer_if_wanted(frame, parameters, last)
        if answer is None:
            return
        if frame.moment < last:  # it corrects what is followed; poses never go back in time
            services.drop_counters.answer(0, answer.scene.detections, frames=0)
            services.see(answer, parameters)
            return
        services.last_answered = frame.moment
        estimated = time.perf_counter()
        self._publishers.publish(answer, with_covariance=parameters.publish_pose_with_covariance)
        published, now_ns = time.perf_counter(), services.now_ns()
        result = answer.result
        services.drop_counters.answer(
            len(answer.poses), answer.scene.detections, frames=int(frame.moment != last),
            hits=result.cache_hits, misses=result.cache_misses)
        services.timings.add({
            'age': (now_ns - stamp_ns(answer.header)) * 1e-9,
            'waiting': start - frame.complete_s, 'answering': estimated - start,
            'publishing': published - estimated, **result.stage_seconds})
        if answer.detected or answer.scene.detections or not parameters.track:
            services.see(answer, parameters)
        self._show(answer, parameters)

    def _show(self, answer: Answer, parameters: NodeParameters) -> None:
        """Publish markers and overlay; the frame is answered even when they fail."""
        assert self._pictures is not None
        try:
            self._pictures.publish(answer, parameters)
        except Exception as error:
            self._cannot_draw(error)

    def _cannot_draw(self, error: Exception) -> None:
        self._services.logger.error(
            f'no markers or overlay: {type(error).__name__}: {error}',
            throttle_duration_sec=60.0)


def check_order(frame: Frame, last_answered: tuple[int, int], *, corrects: bool = False) -> None:
    """Make sure that poses never go back in time.

    :param last_answered: moment of the last answered frame.
    :param corrects: detections of an earlier image correct what is followed.
    :raises FrameError: when the frame is older.
    """
    if corrects and frame.has_detections and frame.era == last_answered[0]:
        return
    if frame.moment < last_answered:
        age_s = (last_answered[1] - frame.moment[1]) * 1e-9
        raise FrameError('late', f'its stamp is {age_s:.3g} s before that of the last answered '
                                 'frame' if frame.era == last_answered[0] else
                         'its stamp is from before the stamps jumped back')
