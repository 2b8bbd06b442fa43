"""From the start of the node's process to its end."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import Any, NoReturn

from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn

# How long an ending process tries to tell clients that their goals are aborted, and how long it
# goes on when all are: a client may ask for a result only after its goal was accepted.
LAST_WORDS_S, LAST_TURNS_S = 2.0, 0.3


def start(node: Any) -> bool:
    """Configure and activate a lifecycle node, and tell whether both succeeded."""
    return bool(node.trigger_configure() == TransitionCallbackReturn.SUCCESS
                and node.trigger_activate() == TransitionCallbackReturn.SUCCESS)


def spin(node: Any, stop: threading.Event) -> None:
    """Handle what comes until the process is told to end.

    :param node: its ``tally`` counts messages that cannot be handled.
    """
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop.is_set():
        try:
            executor.spin_once(timeout_sec=0.2)
        except Exception as error:  # a damaged message must not end the node
            node.tally.drop('bad_message', f'{type(error).__name__}: {error}')
    answer_who_waits(node, executor)
    executor.shutdown()


def answer_who_waits(node: Any, executor: Any) -> None:
    """Refuse the goals that wait for frames, and see the refusals off.

    :param node: its ``confirm_action`` has the goals.
    :param executor: of the node, which is not spinning any more.
    """
    waiting = node.confirm_action
    waiting.stop()
    if not waiting.owes:
        return
    end_s = time.monotonic() + LAST_WORDS_S
    while time.monotonic() < end_s:
        with contextlib.suppress(Exception):  # a damaged message is no reason to hold up the end
            executor.spin_once(timeout_sec=0.05)
        if not waiting.owes:  # a result is sent in the turns after the one that makes it
            end_s = min(end_s, time.monotonic() + LAST_TURNS_S)


def leave_now() -> NoReturn:
    """End the process though a worker is in the middle of loading; it would be waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
