"""What a user is told of the parameters: the table of the docs, help on the command line."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence

from rclpy.utilities import remove_ros_args

from .parameter_values import for_ros, kind
from .params import FIELDS, is_parameter

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


def parameter_table() -> str:
    """Return all parameters as the table of docs/ros_api.md."""
    rows = ['| parameter | default | values | meaning |', '|---|---|---|---|']
    for name, declared in FIELDS.items():
        meta, default = declared.metadata, declared.default
        values = ', '.join(f'`{c}`' for c in meta['choices']) or kind(declared)
        if meta['bounds']:
            values += ' {:g} to {:g}'.format(*meta['bounds'])
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        if default == ():
            shown = ''
        star = '*' if meta['live'] else ''
        rows.append(f"| `{name}`{star} | {shown or '(empty)'} | {values} | "
                    f"{meta['description']} |")
    return '\n'.join(rows)


def parameter_list() -> str:
    """Return all parameters with defaults and meanings, for a terminal."""
    lines = []
    for name, declared in FIELDS.items():
        star = '*' if declared.metadata['live'] else ''
        lines += [f'  {name}{star} ({for_ros(declared.default)!r})',
                  *textwrap.wrap(declared.metadata['description'], 90,
                                 initial_indent=6 * ' ', subsequent_indent=6 * ' ')]
    return '\n'.join(lines)
