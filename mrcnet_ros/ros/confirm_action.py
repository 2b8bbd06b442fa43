"""``~/confirm_pose``: one pose that can be relied on, for those who plan a grasp.

The action is tf2_msgs/LookupTransform, so that ``tf2_ros::BufferClient`` is a client of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from geometry_msgs.msg import TransformStamped
from rclpy.action import ActionServer, CancelResponse
from rclpy.clock import Clock, ClockType
from tf2_msgs.action import LookupTransform
from tf2_msgs.msg import TF2Error
from vision_msgs.msg import Detection3DArray

from ..errors import UnknownLabelError
from . import messages, qos
from .confirmation import Confirmation, Confirmed, label_of
from .frame_handler import FrameHandler
from .frames import Answer
from .message_types import LookupRequest
from .params import NodeParameters
from .rclpy_types import GoalHandle, NodeHandle
from .remembered_ids import RememberedIds
from .tracks import object_frame

# How often time limits and cancellations are looked at: the longest that these are late. Confirmed
# goals are answered at once.
CHECK_PERIOD_S = 0.1


class _RefusedError(Exception):
    """A request cannot be answered.

    :param code: of tf2_msgs/TF2Error.
    """

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


@dataclass(eq=False)
class _Request:
    """A goal that waits for frames.

    :param deadline_s: time.monotonic() when it is given up.
    :param outcome: the answer, once it is known.
    """

    goal: GoalHandle
    handler: FrameHandler
    confirmation: Confirmation
    deadline_s: float
    outcome: TransformStamped | _RefusedError | None = field(default=None)


@dataclass(eq=False)
class _Seen:
    """What answered frames have told so far.

    :param frame_id: of the last, '' before the first.
    """

    frame_id: str = ''
    _named: RememberedIds[str, str] = field(default_factory=RememberedIds)

    def note(self, answer: Answer) -> None:
        """Take in a frame with detections."""
        self.frame_id = answer.header.frame_id
        ids = [e.detection_id for e in answer.scene.estimates]
        # an id that several have in a frame tells nothing
        self._named.see({
            identity: name if ids.count(identity) == 1 else '' for identity, name, estimate
            in zip(ids, answer.scene.names, answer.scene.estimates, strict=True)
            if identity not in ('', estimate.label)})  # no id, or the class

    def instance(self, identity: str) -> str | None:
        """Return the name of the instance that has an id of the detector.

        :return: '' when several have it, None when none has.
        """
        return self._named.get(identity)


class ConfirmAction:
    """Answers each goal when enough frames agree, when its time is up, or when it is cancelled.

    :meth:`see` is used by the worker's thread, all else by the executor's.

    :param parameters: returns those of the node as they are now.

    ``publisher`` is that of confirmed_detections.
    """

    def __init__(self, node: NodeHandle, parameters: Callable[[], NodeParameters]) -> None:
        """Offer the action; until :meth:`start` every goal is refused."""
        self._parameters = parameters
        self._handler: FrameHandler | None = None
        self._lock = threading.Lock()
        self._waiting: list[_Request] = []
        self._outcomes: dict[bytes, TransformStamped | _RefusedError] = {}
        self._seen = _Seen()
        self.publisher = node.create_publisher(
            Detection3DArray, 'confirmed_detections', qos.OUTPUT)
        self._timer = node.create_timer(
            CHECK_PERIOD_S, self._check, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()
        self._wake = node.create_guard_condition(self._check)
        self._server = ActionServer(
            node, LookupTransform, '~/confirm_pose', self._finish,
            handle_accepted_callback=self._accepted,
            cancel_callback=lambda goal: CancelResponse.ACCEPT)

    def start(self, handler: FrameHandler) -> None:
        """Answer goals from now on; those that wait for frames of another handler are refused."""
        self._handler, self._seen = handler, _Seen()
        self._check()

    def stop(self) -> None:
        """Refuse goals from now on, those that wait included."""
        self._handler = None
        self._check()

    @property
    def owes(self) -> bool:
        """Whether an outcome is known that the executor has not yet handed to its client."""
        return bool(self._outcomes)

    def see(self, answer: Answer, parameters: NodeParameters) -> None:
        """Take in an answered frame."""
        with self._lock:
            if answer.handler is self._handler:
                self._seen.note(answer)
            waiting = [r for r in self._waiting
                       if r.outcome is None and r.handler is answer.handler]
        for request in waiting:
            if refused := _wrong_frame(request.goal.request, answer.header.frame_id):
                self._settle(request, refused)
                self._wake.trigger()
                continue
            with self._lock:  # the executor's thread asks what was seen when time is up
                confirmed = request.confirmation.see(
                    messages.stamp_ns(answer.header), answer.scene.names[:answer.detected],
                    answer.measured[:answer.detected], parameters)
            if confirmed is not None:
                self._settle(request, messages.transform_stamped(
                    answer.header, object_frame(parameters.frame_prefix, confirmed.name),
                    confirmed.estimate),
                    partial(self._publish, request, answer, confirmed))
                self._wake.trigger()

    def _settle(self, request: _Request, outcome: TransformStamped | _RefusedError,
                first: Callable[[], object] = lambda: None) -> None:
        """Answer a request, unless that has been done.

        :param first: called before the executor's thread can send the answer.
        """
        with self._lock:
            if request.outcome is None:
                first()
                request.outcome = outcome

    def _publish(self, request: _Request, answer: Answer, confirmed: Confirmed) -> None:
        """Publish a confirmed pose as a detection with its covariance."""
        estimate = confirmed.estimate
        detection = messages.detection_3d(
            answer.header, confirmed.name, estimate, request.handler.bounds[estimate.label])
        self.publisher.publish(Detection3DArray(header=answer.header, detections=[detection]))

    # Executor thread

    def _accepted(self, goal: GoalHandle) -> None:
        try:
            request = self._request(goal)
        except _RefusedError as error:
            self._outcomes[bytes(goal.goal_id.uuid)] = error
            goal.execute()
            return
        with self._lock:
            self._waiting.append(request)
        self._timer.reset()

    def _request(self, goal: GoalHandle) -> _Request:
        """Check what is asked for.

        :raises _RefusedError: when that cannot be answered.
        """
        asked = goal.request
        timeout_s = messages.seconds(messages.time_ns(asked.timeout))
        if asked.advanced or asked.fixed_frame:
            raise _RefusedError(TF2Error.INVALID_ARGUMENT_ERROR,
                                'fixed_frame is not supported; leave advanced false')
        if timeout_s <= 0.0:
            raise _RefusedError(
                TF2Error.INVALID_ARGUMENT_ERROR,
                f'timeout is {timeout_s:g} s; give a time in which several frames arrive')
        if self._handler is None:
            raise _inactive()
        with self._lock:
            frame_id, named = self._seen.frame_id, self._seen.instance(asked.source_frame)
        if frame_id and (refused := _wrong_frame(asked, frame_id)):
            raise refused
        objects, asked_for = self._handler.objects, asked.source_frame.lstrip('/')
        unprefixed = asked_for.removeprefix(self._parameters().frame_prefix.lstrip('/'))
        names = {name for name in (asked_for, unprefixed) if label_of(name, objects)}
        meant = names | ({named} if named else set())
        if not meant and named == '':
            raise _RefusedError(
                TF2Error.LOOKUP_ERROR, f'several objects of one image have the id '
                f'{asked.source_frame!r}; ask by label or by a name in /tf')
        if not meant:
            raise _RefusedError(TF2Error.LOOKUP_ERROR, f'{UnknownLabelError(asked_for, objects)}; '
                                'it is also not the id of a recent detection')
        if len(meant) > 1:
            raise _RefusedError(
                TF2Error.LOOKUP_ERROR, f'{asked.source_frame!r} is ambiguous: by '
                'labels, names in /tf and ids of recent detections, it may mean '
                f'{" or ".join(map(repr, sorted(meant)))}; use another name from /tf')
        not_before_ns = messages.time_ns(asked.source_time) or -2**63
        confirmation = Confirmation(meant.pop(), not_before_ns, objects, exactly=not names)
        return _Request(goal, self._handler, confirmation, time.monotonic() + timeout_s)

    def _check(self) -> None:
        """Finish the goals whose outcome is known or will not be."""
        now_s = time.monotonic()
        with self._lock:
            for request in self._waiting:
                if request.goal.is_cancel_requested:
                    request.outcome = _RefusedError(TF2Error.TRANSFORM_ERROR, 'cancelled')
                elif request.outcome is None and self._handler is None:
                    request.outcome = _inactive()
                elif request.outcome is None and request.handler is not self._handler:
                    request.outcome = _RefusedError(
                        TF2Error.TRANSFORM_ERROR, 'the node got another model; ask again')
                elif request.outcome is None and now_s > request.deadline_s:
                    request.outcome = _late(request)
            done = [r for r in self._waiting if r.outcome is not None]
            self._waiting = [r for r in self._waiting if r.outcome is None]
        for request in done:
            assert request.outcome is not None
            self._outcomes[bytes(request.goal.goal_id.uuid)] = request.outcome
            request.goal.execute()
        if not self._waiting:
            self._timer.cancel()

    def _finish(self, goal: GoalHandle) -> LookupTransform.Result:
        outcome = self._outcomes.pop(bytes(goal.goal_id.uuid))
        result = LookupTransform.Result()
        if isinstance(outcome, _RefusedError):
            result.error = TF2Error(error=outcome.code, error_string=str(outcome))
            goal.canceled() if goal.is_cancel_requested else goal.abort()
        else:
            result.transform = outcome
            result.error.error_string = (  # tf2's clients only read it beside an error
                f'covariance: {self.publisher.topic_name}, the message with this stamp')
            goal.succeed()
        return result


def _wrong_frame(asked: LookupRequest, frame_id: str) -> _RefusedError | None:
    """Return why a request cannot be answered in the frame it asks for, None when it can."""
    if asked.target_frame.lstrip('/') in ('', frame_id):
        return None
    return _RefusedError(
        TF2Error.CONNECTIVITY_ERROR,
        f'target_frame is {asked.target_frame!r} but poses are in {frame_id!r}; leave it empty '
        'and transform the answer with tf2')


def _inactive() -> _RefusedError:
    return _RefusedError(TF2Error.TRANSFORM_ERROR, 'the node is not active; activate it first')


def _late(request: _Request) -> _RefusedError:
    return _RefusedError(
        TF2Error.TIMEOUT_ERROR,
        f'{request.goal.request.source_frame!r} was not confirmed in time: '
        f'{request.confirmation.account()}')
