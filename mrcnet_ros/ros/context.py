"""The start of ROS in this process, whose errors say what to do."""

from __future__ import annotations

import os

import rclpy

from ..errors import MrcnetError


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
