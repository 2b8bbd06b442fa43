"""``mrcnet demo``: synthetic camera, the real node, errors against the truth, a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from .argument_types import count, positive, positive_float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--output', type=Path, default=Path('out/demo.png'), metavar='PNG',
                        help='picture to write; logs go beside it (default: %(default)s)')
    parser.add_argument('--scenes', type=positive, default=24,
                        help='different scenes to show (default: %(default)s)')
    parser.add_argument('--seed', type=count, default=20260,
                        help='seed of scenes and detections (default: %(default)s)')
    parser.add_argument('--rate', type=positive_float, default=30.0, metavar='HZ',
                        help='camera rate while speed is measured (default: %(default)g)')
    parser.add_argument('--frames', type=positive, default=150, metavar='N',
                        help='frames sent at that rate (default: %(default)s)')
    parser.add_argument('--model', type=Path, default=None, metavar='DIR',
                        help='model directory with objects.yaml, meshes and backgrounds '
                             '(default: the one that comes with the package)')


def run(args: argparse.Namespace) -> int:
    """Run the demo; 1 when poses are missing or too far from the truth."""
    from ..demo.program import DemoOptions, run_demo
    from ..store.shared_files import shared_file

    return run_demo(DemoOptions(
        output=args.output, scenes=args.scenes, seed=args.seed, rate_hz=args.rate,
        frames=args.frames, model=args.model or shared_file('models/demo')))
