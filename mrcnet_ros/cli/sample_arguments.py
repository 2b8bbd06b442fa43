"""Options of the commands that compose training images to measure with or to look at."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .dataset_arguments import positive

if TYPE_CHECKING:
    from ..training.config import TrainConfig


def add_sample_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which training images to compose."""
    parser.add_argument('--config', type=Path, required=True, metavar='FILE',
                        help='of the training whose images are composed, such as '
                             'config/train_lmo.yaml; needs the extra train')
    parser.add_argument('--views', type=positive, default=150, metavar='N',
                        help='rendered views of each object (default: %(default)s, rendered in '
                             'seconds and kept)')
    parser.add_argument('--cache', type=Path, metavar='DIR',
                        help="folder of rendered views (default: the configuration's)")


def sample_config(args: argparse.Namespace) -> TrainConfig:
    """Return the configuration of images that training does not draw.

    :raises SpecError: when the file cannot be used.
    """
    from ..training.config import read_config
    from ..training.held_out import held_out

    return held_out(read_config(args.config), views=args.views, cache=args.cache)


def chosen(labels: Iterable[str], wanted: Iterable[str] | None) -> list[str]:
    """Return the labels that are asked for, all by default.

    :raises SpecError: when one is unknown.
    """
    from ..errors import SpecError

    known = list(labels)
    unknown = sorted(set(wanted or ()) - set(known))
    if unknown:
        raise SpecError(f'--objects: {unknown} are not in the configuration; it has {known}')
    return [label for label in known if wanted is None or label in wanted]
