"""``mrcnet new``: from mesh files to a model that a robot can use."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SpecError
from ..meshes.checks import UNITS_M
from ..specs import DETECTOR_BLOCKS
from .argument_types import positive
from .train import changes, read_stem

if TYPE_CHECKING:
    from ..new_model.request import Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('meshes', type=Path, nargs='*', metavar='MESH',
                        help='STL, OBJ, PLY, OFF or GLB files; their names become the labels')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR',
                        help='the model directory; run the command again to continue in it')
    parser.add_argument('--bop-dir', type=Path, metavar='DIR',
                        help='folder that contains BOP datasets; takes the meshes of --dataset')
    parser.add_argument('--dataset', help='name of the dataset, such as ycbv or itodd')
    parser.add_argument('--ids', type=positive, nargs='+', default=[], metavar='N',
                        help='only these objects of the dataset')
    parser.add_argument('--unit', choices=('auto', *UNITS_M), default='auto',
                        help='unit of the meshes (default: from a comment in the file, '
                             'else from the size)')
    parser.add_argument('--symmetry', action='append', default=[], metavar='NAME=KIND',
                        help='symmetry of an object, instead of the one that is found: none, '
                             'found, z2 (or x3, y18, ...), continuous_z (or _x, _y), or several '
                             'joined by +, such as continuous_z+x2; about the axes of the file, '
                             'through its origin, the middle or the centroid of the object, '
                             'whichever fits best; may be repeated')
    parser.add_argument('--views', choices=('any', 'table'), default='any',
                        help='how objects are seen: from any direction, or standing on a table '
                             'with their z axis up, which is easier to learn (default: any)')
    parser.add_argument('--backgrounds', type=Path, nargs='+', default=[], metavar='DIR',
                        help='folders of photographs and environment maps (default: those of '
                             'the demo)')
    parser.add_argument('--fast', action='store_true',
                        help='train only the weights that belong to single objects, not the '
                             'layers that all objects share')
    parser.add_argument('--detector', action='store_true',
                        help='also train a detector of the objects, in three tenths of the time; '
                             'the node then needs no other detector')
    parser.add_argument('--minutes', type=float, metavar='M',
                        help='time for the whole command (default: 60, with --fast 15)')
    parser.add_argument('--start', '--init', type=Path, metavar='DIR',
                        help='model directory, or its weights.pt, that the training starts from '
                             '(default: models/lmo of the sources)')
    parser.add_argument('--images', type=positive, metavar='N',
                        help='held-out rendered images to measure errors on (default: as the '
                             'time allows)')
    parser.add_argument('--set', action='append', default=[], metavar='NAME=VALUE',
                        help='set a field of the training '
                        'configuration, such as views=500 or device=cuda; may be repeated')
    parser.add_argument('--stem', type=Path, metavar='FILE',
                        help='ImageNet weights of the first layers (default: those installed)')


def run(args: argparse.Namespace) -> int:
    """Make the model and print where its page is.

    :return: 1 when covariances or scores of the model are not calibrated, else 0.
    """
    from tqdm import tqdm

    from ..new_model.steps import Maker

    blocks = max(DETECTOR_BLOCKS) if args.detector else 0
    maker = Maker(_request(args), lambda: read_stem(args.stem, blocks), tqdm.write)
    page = maker.run()
    print(f'{args.output} is ready; open {page}')
    for warning in maker.warnings:
        print(warning)
    if maker.problem:
        print(f'covariances or scores are not calibrated: {maker.problem}; to calibrate on more '
              f'images, run:\n    {maker.calibration}')
    return 1 if maker.problem else 0


def _request(args: argparse.Namespace) -> Request:
    """Return what the options ask for.

    :raises SpecError: when they do not fit together.
    """
    from ..new_model.request import FAST_MINUTES, MINUTES, Request
    from ..new_model.stated_symmetries import parse_symmetries
    from ..store.shared_files import shared_file

    if bool(args.meshes) == (args.bop_dir is not None) or \
            (args.bop_dir is None) != (args.dataset is None):
        raise SpecError('give mesh files, or --bop-dir and --dataset')
    if args.ids and args.bop_dir is None:
        raise SpecError('--ids chooses from a dataset; leave out the meshes that are not wanted')
    usual = FAST_MINUTES if args.fast else MINUTES
    minutes = usual if args.minutes is None else args.minutes
    if not 0 < minutes < float('inf'):
        raise SpecError(f'--minutes must be positive, got {args.minutes}')
    args_without_minutes = argparse.Namespace(set=args.set)
    return Request(
        output=args.output, meshes=tuple(args.meshes), bop_models=_models(args),
        object_ids=tuple(args.ids), unit=args.unit, symmetries=parse_symmetries(args.symmetry),
        views=args.views, start=_start(args.start),
        backgrounds=tuple(args.backgrounds) or (shared_file('models/demo/backgrounds'),),
        fast=args.fast, minutes=minutes, images=args.images,
        changes=changes(args_without_minutes), detector=args.detector)


def _start(given: Path | None) -> Path:
    """Return the model directory to start from; its weights stand for it.

    An installed package has the model without its weights; the sources around have them.
    """
    from ..model_json import WEIGHTS_FILE
    from ..store.shared_files import shared_file

    if given is None:
        here, found = Path('models/lmo'), shared_file('models/lmo')
        return found if (found / WEIGHTS_FILE).exists() or not (
            here / WEIGHTS_FILE).exists() else here
    return given.parent if given.name == WEIGHTS_FILE else given


def _models(args: argparse.Namespace) -> Path | None:
    """Return the folder of the meshes that networks of a dataset are trained with."""
    from ..datasets.catalogue import facts_of

    if args.bop_dir is None:
        return None
    folder: Path = args.bop_dir / args.dataset  # a slash behind the name is no part of it
    return folder / facts_of(folder.name).training_models
