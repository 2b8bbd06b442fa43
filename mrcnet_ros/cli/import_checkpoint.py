"""``mrcnet import-checkpoint``: turn a published checkpoint into a model directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..datasets.catalogue import facts_of
from ..errors import SpecError
from ..presets.paper.spec import PUBLISHED, PaperSpec, paper_spec
from .dataset_arguments import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('checkpoint', type=Path, metavar='FILE',
                        help='a published checkpoint, or one of mrcnet train; read without '
                             'executing anything in it')
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--dataset', choices=PUBLISHED, help='dataset of the training')
    what.add_argument('--config', type=Path, metavar='FILE', help='configuration of the training')
    parser.add_argument('--meshes', type=Path, metavar='DIR',
                        help='BOP models folder of the dataset (models_cad for tless); with '
                             '--config its own by default')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR',
                        help='the model directory; it is created if missing')
    parser.add_argument('--view-origin', choices=('principal_point', 'box_centre'),
                        help='from where viewing directions are measured: as in the paper and '
                             'its training (default, unless --config says otherwise), or as in '
                             'the published test script')


def run(args: argparse.Namespace) -> int:
    """Write the model directory."""
    from ..presets.paper.export.published import import_published

    spec, object_ids, meshes = _of_run(args) if args.config else _of_dataset(args)
    folder, left_out = import_published(args.checkpoint, spec, object_ids, meshes, args.output,
                                        view_origin=args.view_origin, say=say)
    if left_out:
        print(f'left out, no mesh in {meshes}: objects {left_out}', file=sys.stderr)
    print(folder)
    return 0


def _of_dataset(args: argparse.Namespace) -> tuple[PaperSpec, tuple[int, ...], Path]:
    """Return spec, objects in class order and meshes of a published checkpoint."""
    if args.meshes is None:
        raise SpecError('--dataset needs --meshes, the BOP models folder of the dataset')
    return paper_spec(args.dataset), facts_of(args.dataset).network_object_ids, args.meshes


def _of_run(args: argparse.Namespace) -> tuple[PaperSpec, tuple[int, ...], Path]:
    """Return spec, objects in class order and meshes of a training run."""
    from ..presets.paper.training.config import PaperTrainConfig
    from ..training.run_config import read_config

    config = read_config(PaperTrainConfig, args.config)
    meshes = args.meshes or config.models_dir  # the dataset may be on another machine
    return config.spec, config.class_ids(meshes), meshes
