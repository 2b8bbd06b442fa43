"""Options of commands that send the node frames as a camera does, and the frames they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .argument_types import count, positive, positive_float

if TYPE_CHECKING:
    from ..testbench.bag import BagFrame


def add_traffic_arguments(parser: argparse.ArgumentParser, *, objects: int | None,
                          scenes: int | None = 8) -> None:
    """Declare which frames to send, and how often.

    :param objects: default of the most detections in a frame, None for all of them.
    :param scenes: default of how many scenes or frames, None for one scene or all frames.
    """
    parser.add_argument('--rate', type=positive_float, default=30.0, metavar='HZ',
                        help='frames a second (default: 30)')
    parser.add_argument('--objects', type=positive, default=objects, metavar='N',
                        help='largest number of detections in a frame (default: '
                             f'{"all there are" if objects is None else objects})')
    parser.add_argument('--bag', type=Path, metavar='BAG',
                        help='rosbag of the frames, as mrcnet bag from-bop writes it (default: '
                             'scenes drawn of the objects of the model, 640x480)')
    parser.add_argument('--scenes', type=positive, default=scenes, metavar='N',
                        help='how many scenes are drawn, or frames taken from the bag, and sent '
                             'in turn (default: '
                             f'{"one scene, or the whole bag" if scenes is None else scenes})')
    parser.add_argument('--seed', type=count, default=0, metavar='N',
                        help='seed of the drawn scenes (default: %(default)s)')
    parser.add_argument('--timeout', type=positive_float, default=600.0, metavar='S',
                        help='time limit for the start of the node, which may render templates '
                             '(default: %(default)g)')


def traffic_frames(args: argparse.Namespace) -> list[BagFrame]:
    """Return the frames that the options name.

    :raises DatasetError: when the bag cannot be read or the model has nothing to draw.
    """
    from ..testbench.bag import read_bag
    from ..testbench.drawn_scenes import drawn_frames
    from ..testbench.traffic import first_detections

    frames = (list(read_bag(args.bag))[:args.scenes] if args.bag
              else drawn_frames(args.model, args.scenes or 1, args.seed))
    return [first_detections(f, args.objects) for f in frames] if args.objects else frames
