"""``mrcnet import-checkpoint``: turn a published checkpoint into a model directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..specs import PAPER_DATASETS, paper_spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument('checkpoint', type=Path, metavar='FILE',
                        help='a published checkpoint; read without executing anything in it')
    parser.add_argument('--dataset', required=True, choices=sorted(PAPER_DATASETS),
                        help='that it was trained for')
    parser.add_argument('--meshes', type=Path, required=True, metavar='DIR',
                        help='BOP models folder of the dataset (models_cad for tless)')
    parser.add_argument('--output', type=Path, required=True, metavar='DIR',
                        help='the model directory, made when needed')
    parser.add_argument('--view-origin', choices=('principal_point', 'box_centre'),
                        default='principal_point',
                        help='from where viewing directions are measured: as in the paper and '
                             'its training (default), or as in the published test script')


def run(args: argparse.Namespace) -> int:
    """Write the model directory.

    :raises MrcnetError: when checkpoint or meshes cannot be used.
    """
    from ..export.published import import_published

    spec = paper_spec(args.dataset, view_origin=args.view_origin)
    folder, left_out = import_published(
        args.checkpoint, spec, PAPER_DATASETS[args.dataset].object_ids, args.meshes, args.output)
    if left_out:
        print(f'left out, no mesh in {args.meshes}: objects {left_out}', file=sys.stderr)
    print(folder)
    return 0
