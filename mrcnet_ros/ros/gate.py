"""Subscriptions that leave their messages with the middleware for a time."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.callback_groups import CallbackGroup


class Gate(CallbackGroup):
    """Leaves messages with the middleware while it is shut; everything else goes on.

    :param is_open: asked before each message is taken.
    """

    def __init__(self, is_open: Callable[[], bool]) -> None:
        super().__init__()
        self._is_open = is_open

    def can_execute(self, entity: object) -> bool:
        """Tell whether a message may be taken."""
        return self._is_open()

    def beginning_execution(self, entity: object) -> bool:
        """Agree: one thread executes everything."""
        return True

    def ending_execution(self, entity: object) -> None:
        """Take note of nothing."""
