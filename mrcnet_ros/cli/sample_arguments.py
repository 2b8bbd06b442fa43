"""Options of the commands that compose training images to measure with or to look at."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .argument_types import positive

if TYPE_CHECKING:
    from ..objects import ObjectModel
    from ..specs import ModelSpec
    from ..training.composer import Composer
    from ..training.config import TrainConfig
    from .measuring import MeasuringSetting


def add_sample_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Declare which training images to compose.

    :param required: otherwise none are composed when no configuration is given.
    """
    parser.add_argument('--config', type=Path, required=required, metavar='FILE',
                        help='training configuration to compose images from, such as '
                             'config/train_lmo.yaml; needs the extra train'
                             + ('' if required else ' (default: photographs only)'))
    parser.add_argument('--views', type=positive, default=150, metavar='N',
                        help='rendered views of each object (default: %(default)s, rendered in '
                             'seconds and kept)')
    parser.add_argument('--cache', type=Path, metavar='DIR',
                        help="folder of rendered views (default: the configuration's)")


def sample_config(args: argparse.Namespace, spec: ModelSpec | None = None) -> TrainConfig:
    """Return the configuration of images that training does not draw.

    :param spec: of the model that is to see the images, in place of the configuration's.
    :raises SpecError: when the file cannot be used.
    """
    import dataclasses

    from ..training.config import TrainConfig
    from ..training.held_out import held_out
    from ..training.run_config import read_config

    config = held_out(read_config(TrainConfig, args.config), views=args.views, cache=args.cache)
    return config if spec is None else dataclasses.replace(config, spec=spec)


def open_composer(config: TrainConfig, setting: MeasuringSetting
                  ) -> tuple[Composer, list[ObjectModel]]:
    """Return what composes images, and its objects as the model has them, in class order.

    :param config: of :func:`sample_config`.
    :raises SpecError: when the configuration lacks an object that is to be measured, or has
        another one under its label.
    """
    from ..errors import SpecError
    from ..training.held_out import load_composer

    objects = config.load_objects()
    known = {item.label: item.object_id for item in objects}
    lacking = [label for label in setting.labels
               if known.get(label) != setting.estimator.objects[label].object_id]
    if lacking:
        raise SpecError(f'{config.name}: the configuration has no images of {lacking}, which the '
                        f'model knows and the dataset shows; it has {sorted(known)}')
    return (load_composer(config, objects),
            [setting.estimator.objects.get(item.label, item) for item in objects])


def wanted_labels(labels: Iterable[str], wanted: Iterable[str] | None) -> list[str]:
    """Return the labels that are asked for, all by default.

    :raises SpecError: when one is unknown.
    """
    from ..errors import SpecError

    known = list(labels)
    unknown = sorted(set(wanted or ()) - set(known))
    if unknown:
        raise SpecError(f'--objects: {unknown} are not in the configuration; it has {known}')
    return [label for label in known if wanted is None or label in wanted]
