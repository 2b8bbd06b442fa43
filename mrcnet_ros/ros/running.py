"""From the start of the node's process to its end."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, NoReturn

from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn


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
    executor.shutdown()


def leave_now() -> NoReturn:
    """End the process though a worker is in the middle of loading; it would be waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
