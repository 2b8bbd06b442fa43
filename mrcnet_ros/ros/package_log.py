"""What the package says through Python's logging goes to the node's log as well."""

from __future__ import annotations

import logging

from .rclpy_types import Logger

PACKAGE = __name__.partition('.')[0]


class PackageLog(logging.Handler):
    """Hands messages on to a node's logger, and remembers the last.

    ``last`` is the last message; while a model is loaded it tells what takes so long.
    """

    def __init__(self, logger: Logger) -> None:
        """Listen to the package, informational messages included."""
        super().__init__(logging.INFO)
        self._logger, self.last = logger, ''
        package = logging.getLogger(PACKAGE)
        self._level_before = package.level
        package.addHandler(self)
        package.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one message on; rclpy wants each severity to have a line of its own."""
        self.last = record.getMessage()
        if record.levelno >= logging.ERROR:
            self._logger.error(self.last)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(self.last)
        else:
            self._logger.info(self.last)

    def close(self) -> None:
        """Listen no longer; the package says as much as before. Harmless the second time."""
        package = logging.getLogger(PACKAGE)
        if self in package.handlers:
            package.removeHandler(self)
            package.setLevel(self._level_before)
        super().close()
