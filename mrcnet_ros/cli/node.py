"""``mrcnet node``: run the ROS 2 node, also where ros2 run is not installed."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .dataset_arguments import estimator_options, take_fixed_numbers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--ros-args', nargs=argparse.REMAINDER, default=[], metavar='...',
        help='ROS arguments, for instance -p model:=DIR -p detector:=DIR '
             '-r image:=/camera/image_raw -r camera_info:=/camera/camera_info')


def run(args: argparse.Namespace) -> int:
    """Run the node until it is interrupted."""
    from ..ros.pose_node import main

    return main(['mrcnet', '--ros-args', *args.ros_args])


def node_command(args: argparse.Namespace, **parameters: Any) -> list[str]:
    """Return the Python arguments that start the node in a process of its own.

    :param args: with the options of :func:`.dataset_arguments.add_model_arguments`.
    :param parameters: more ROS parameters of the node.
    """
    return ['-m', 'mrcnet_ros.cli.main', 'node', '--ros-args',
            *model_parameters(args, **parameters)]


def model_parameters(args: argparse.Namespace, **parameters: Any) -> list[str]:
    """Return the ROS arguments that say which model the node runs, and on what.

    :param args: with the options of :func:`.dataset_arguments.add_model_arguments`.
    :param parameters: more ROS parameters of the node.
    :raises SpecError: when options would have no effect on the model.
    """
    take_fixed_numbers(args)
    values = {'model': args.model.resolve(), 'meshes': args.meshes and args.meshes.resolve(),
              **estimator_options(args), **parameters}
    return [word for name, value in values.items() for word in ('-p', f'{name}:={_yaml(value)}')]


def _yaml(value: Any) -> str:
    """Return a value as ROS reads it, which is as YAML: ` #` in a path would begin a comment."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, list)):
        return str(value)
    return json.dumps('' if value is None else str(value), ensure_ascii=False)
