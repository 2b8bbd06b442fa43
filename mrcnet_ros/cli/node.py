"""``mrcnet node``: run the ROS 2 node, also where ros2 run is not installed."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument(
        '--ros-args', nargs=argparse.REMAINDER, default=[], metavar='...',
        help='ROS arguments, for instance --params-file config/pose_node.yaml '
             '-p model:=DIR -r image:=/camera/image_raw')


def run(args: argparse.Namespace) -> int:
    """Run the node until it is interrupted."""
    from ..ros.pose_node import main

    return main(['mrcnet', '--ros-args', *args.ros_args])
