"""The process of the node, from its start to its end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn, Protocol

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from ..errors import MrcnetError, SpecError
from .drop_counters import DropCounters
from .parameter_help import check_command_line
from .params import NodeParameters
from .rclpy_types import ExecutorHandle, LifecycleHandle, NodeHandle, TakenHandle
from .remaps import idle_parameters, remap_remarks, unused_files

# How long an ending process tries to tell clients that their goals are aborted, below the five
# seconds that ros2 launch waits for it; and how often it goes on when all are, each time handling
# one thing or waiting TURN_S for one: a client may ask for a result only after its goal was
# accepted. Counted, not timed: on a busy machine a turn takes longer.
LAST_WORDS_S, LAST_TURNS, TURN_S = 4.0, 8, 0.05

# What the executors of rclpy call to take a message, a request or an answer; callbacks are called
# elsewhere. The second is the property of a node with all that is taken so.
TAKE = '_take_subscription'
TAKE_REQUEST = {'_take_service': 'services', '_take_client': 'clients',
                '_take_waitable': 'waitables'}  # a waitable is an action


class RosError(MrcnetError):
    """ROS cannot be started here."""


def start_ros(**options: object) -> None:
    """Do what ``rclpy.init`` does.

    :param options: those of ``rclpy.init``.
    :raises RosError: when ROS cannot keep its log, or refuses an argument.
    """
    try:
        rclpy.init(**options)
    except Exception as error:  # rclpy has several, some without a common base
        raise RosError(_explained(str(error))) from error


def _explained(text: str) -> str:
    if 'logging' in text:
        places = ', '.join(f'{name}={os.environ.get(name, "(unset)")}'
                           for name in ('ROS_LOG_DIR', 'ROS_HOME', 'HOME'))
        return (f'ROS cannot write its log ({text}); set ROS_LOG_DIR to a folder that can be '
                f'written; now {places}')
    return f'ROS cannot be started: {text}'


class Owing(Protocol):
    """What the end of the process uses of :class:`.confirm_action.ConfirmAction`."""

    @property
    def owes(self) -> bool:
        """Whether a client still waits for an answer that is known."""

    def stop(self) -> None:
        """Refuse what waits."""


class RunnableNode(NodeHandle, LifecycleHandle, Protocol):
    """What the process uses of :class:`.pose_node.PoseNode`."""

    drop_counters: DropCounters
    parameters: NodeParameters

    @property
    def confirm_action(self) -> Owing:
        """What may owe answers in the end."""

    @property
    def is_at_work(self) -> bool:
        """Whether a thread still works, such as one that loads a model or hangs in a frame."""

    def close(self) -> None:
        """Free everything."""


def run_node(args: list[str] | None, make: Callable[[threading.Event], RunnableNode]) -> int:
    """Run a node until SIGINT or SIGTERM.

    :param args: ROS arguments, those of the command line by default.
    :param make: makes the node from the event that is set when the process is to end.
    :return: 0 after a signal, 2 when ROS cannot be started or a parameter cannot be used. A
        node that cannot be configured goes on, and /diagnostics tells why.
    """
    check_command_line(args)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        start_ros(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = make(stop)
    except (RosError, SpecError) as error:
        print(f'pose_node: {error}', file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    words, name = sys.argv if args is None else args, node.get_fully_qualified_name()
    for remark in (*unused_files(words, name), *remap_remarks(words, name, node.parameters),
                   *idle_parameters(node.parameters), *node.parameters.doubts()):
        node.get_logger().warning(remark)
    try:
        if node.get_parameter('autostart').value and not start(node) and not stop.is_set():
            node.get_logger().error('the node has not started; fix the cause or set parameters, '
                                    'then configure and activate it')
        spin(node, stop, node.drop_counters, node.confirm_action)
        return 0
    finally:
        stop.set()
        node.close()
        at_work = node.is_at_work
        node.destroy_node()
        rclpy.try_shutdown()
        if at_work:
            leave_now()


def start(node: LifecycleHandle) -> bool:
    """Configure and activate a lifecycle node, and tell whether both succeeded."""
    return bool(node.trigger_configure() == TransitionCallbackReturn.SUCCESS
                and node.trigger_activate() == TransitionCallbackReturn.SUCCESS)


def spin(node: NodeHandle, stop: threading.Event, drop_counters: DropCounters,
         confirm_action: Owing) -> None:
    """Handle events until the process is to end, or others shut its context down.

    :param stop: set when the process is to end.
    :param drop_counters: of messages that cannot be read, and of faults of our own.
    :param confirm_action: that may owe answers in the end.
    """
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    told: set[str] = set()
    while not stop.is_set() and node.context.ok():
        try:
            executor.spin_once(timeout_sec=0.2)
        except ExternalShutdownException:
            break
        except Exception as error:  # neither a damaged message nor a fault may end the node
            if node.context.ok():
                _note(node, drop_counters, error, told)
    if node.context.ok():
        answer_who_waits(confirm_action, executor)
    executor.shutdown()


def _note(node: NodeHandle, drop_counters: DropCounters, error: Exception, told: set[str]) -> None:
    """Count an error by its kind; the traceback of a fault is logged once for each place.

    :param told: places whose tracebacks have been logged.
    """
    text = f'{type(error).__name__}: {error}'
    frames = traceback.extract_tb(error.__traceback__)
    names = [frame.name for frame in frames]
    if TAKE in names:
        drop_counters.drop('bad_message', text)
        _release(node.subscriptions)
        return
    if takes := [kind for name, kind in TAKE_REQUEST.items() if name in names]:
        node.get_logger().warning(f'a request to a service or an action could not be read: {text}',
                                  throttle_duration_sec=60.0)
        _release(getattr(node, takes[0]))
        return
    drop_counters.fault(text)
    place = f'{frames[-1].filename}:{frames[-1].lineno}' if frames else ''
    if place not in told:
        told.add(place)
        where = ''.join(traceback.format_list(frames))
        node.get_logger().error(f'a bug in the node, please report it ({text}) at\n'
                                f'{where}')


def _release(entities: Iterable[TakenHandle]) -> None:
    """Let rclpy take from a subscription or service again, and from its callback group.

    After a message that it could not read, rclpy treats both as busy for ever.

    :param entities: those of a node of one kind; only what could not be read is marked.
    """
    for entity in entities:
        if entity._executor_event:
            entity._executor_event = False
            with contextlib.suppress(AssertionError):  # its group is not busy with it
                entity.callback_group.ending_execution(entity)


def answer_who_waits(waiting: Owing, executor: ExecutorHandle) -> None:
    """Refuse the goals that wait for frames, and send the refusals.

    :param executor: of the node, which is not spinning any more.
    """
    waiting.stop()
    end_s, left = time.monotonic() + LAST_WORDS_S, LAST_TURNS if waiting.owes else 0
    while time.monotonic() < end_s and left:
        with contextlib.suppress(Exception):  # a damaged message is no reason to hold up the end
            executor.spin_once(timeout_sec=TURN_S)
        left -= not waiting.owes  # a result is sent in the turns after the one that makes it


def leave_now() -> NoReturn:
    """End the process without waiting for a worker that loads a model or hangs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
