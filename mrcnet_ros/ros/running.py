"""From the start of the node's process to its end."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from typing import NoReturn, Protocol

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn

from .drop_counters import DropCounters
from .message_types import ExecutorHandle, LifecycleHandle, NodeHandle

# How long an ending process tries to tell clients that their goals are aborted, below the five
# seconds that ros2 launch waits for it; and how often it goes on when all are, each time handling
# one thing or waiting TURN_S for one: a client may ask for a result only after its goal was
# accepted. Counted, not timed: on a busy machine a turn takes longer.
LAST_WORDS_S, LAST_TURNS, TURN_S = 4.0, 8, 0.05

# what the executors of rclpy call to take a message; callbacks are called elsewhere
TAKE = '_take_subscription'


class Owing(Protocol):
    """What the end of the process needs of :class:`.confirm_action.ConfirmAction`."""

    @property
    def owes(self) -> bool:
        """Whether an answer is known that its client does not have yet."""

    def stop(self) -> None:
        """Refuse what waits."""


def start(node: LifecycleHandle) -> bool:
    """Configure and activate a lifecycle node, and tell whether both succeeded."""
    return bool(node.trigger_configure() == TransitionCallbackReturn.SUCCESS
                and node.trigger_activate() == TransitionCallbackReturn.SUCCESS)


def spin(node: NodeHandle, stop: threading.Event, drop_counters: DropCounters,
         confirm_action: Owing) -> None:
    """Handle what comes until the process is told to end, or others shut its context down.

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


def _note(node: NodeHandle, drop_counters: DropCounters, error: Exception, told: set[str]
          ) -> None:
    """Count an error as what it is; the traceback of a fault is logged once for each place.

    :param told: places whose tracebacks have been logged.
    """
    text = f'{type(error).__name__}: {error}'
    frames = traceback.extract_tb(error.__traceback__)
    if any(frame.name == TAKE for frame in frames):
        drop_counters.drop('bad_message', text)
        _release(node)
        return
    drop_counters.fault(text)
    place = f'{frames[-1].filename}:{frames[-1].lineno}' if frames else ''
    if place not in told:
        told.add(place)
        where = ''.join(traceback.format_list(frames))
        node.get_logger().error(f'a fault of the node itself, please report it ({text}) at\n'
                                f'{where}')


def _release(node: NodeHandle) -> None:
    """Let subscriptions be asked again: rclpy leaves one aside whose message it could not take."""
    for subscription in node.subscriptions:
        subscription._executor_event = False


def answer_who_waits(waiting: Owing, executor: ExecutorHandle) -> None:
    """Refuse the goals that wait for frames, and see the refusals off.

    :param waiting: has the goals.
    :param executor: of the node, which is not spinning any more.
    """
    waiting.stop()
    end_s, left = time.monotonic() + LAST_WORDS_S, LAST_TURNS if waiting.owes else 0
    while time.monotonic() < end_s and left:
        with contextlib.suppress(Exception):  # a damaged message is no reason to hold up the end
            executor.spin_once(timeout_sec=TURN_S)
        left -= not waiting.owes  # a result is sent in the turns after the one that makes it


def leave_now() -> NoReturn:
    """End the process though a worker is in the middle of loading; it would be waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
