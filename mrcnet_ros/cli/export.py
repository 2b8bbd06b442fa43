"""``mrcnet export``: turn a checkpoint into a model directory that the node can load."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('config', type=Path, help='the training configuration')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR',
                        help='the model directory, made when needed')
    parser.add_argument('--checkpoint', type=Path, default=None, metavar='FILE',
                        help='default: checkpoint.pt in the output folder of the configuration')


def run(args: argparse.Namespace) -> int:
    """Write the model directory.

    :raises MrcnetError: when configuration or checkpoint cannot be used.
    """
    from ..export.directory import export_checkpoint
    from ..training.config import read_config

    config = read_config(args.config)
    checkpoint = args.checkpoint or config.output / 'checkpoint.pt'
    print(export_checkpoint(checkpoint, config, args.output))
    return 0
