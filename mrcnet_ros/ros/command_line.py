"""The words after ``pose_node`` that are none of ROS's own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rclpy.utilities import remove_ros_args

from .params import is_parameter, parameter_list

_EXAMPLE = '''\
pose_node --ros-args --params-file config/pose_node.yaml -p model:=DIR -p meshes:=DIR \\
    -r image:=/camera/image_raw -r camera_info:=/camera/camera_info
'''


def check_command_line(args: Sequence[str] | None) -> None:
    """Print help and end when that is asked for; refuse words that would count for nothing.

    :param args: command line, program name first; that of the process by default.
    :raises SystemExit: 0 after help, 2 for words that mean nothing.
    """
    parser = argparse.ArgumentParser(
        prog='pose_node', usage='pose_node [--help] [--ros-args -p NAME:=VALUE ...]',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='The ROS 2 node: images, camera and detections in, object poses out.',
        epilog=f'for instance:\n  {_EXAMPLE}\nparameters, a star where they may change while the '
               f'node runs:\n{parameter_list()}')
    words = list(sys.argv if args is None else args)
    _, unknown = parser.parse_known_args(remove_ros_args(words)[1:])
    # rcl takes NAME:=VALUE in front of --ros-args for a topic's new name
    before = words[:words.index('--ros-args')] if '--ros-args' in words else words
    unknown += [word for word in before if is_parameter(word.partition(':=')[0])]
    if unknown:
        parser.error(f'{" ".join(unknown)}: no such argument; parameters are given as '
                     '--ros-args -p NAME:=VALUE, topics as --ros-args -r NAME:=TOPIC')
