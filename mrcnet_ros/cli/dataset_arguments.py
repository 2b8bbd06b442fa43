"""Options that several commands share: which dataset, which model, which boxes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which images to use."""
    parser.add_argument('--bop-dir', type=Path, required=True, metavar='DIR',
                        help='folder that contains BOP datasets')
    parser.add_argument('--dataset', required=True, help='name of the dataset, such as lmo')
    parser.add_argument('--split', help='split of the dataset (default: its test images, in test, '
                                        'or test_primesense of tless and hb)')
    parser.add_argument('--limit', type=positive, metavar='N', help='only the first N images')


def add_box_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which boxes take the place of a detector's."""
    parser.add_argument('--boxes', choices=('visib', 'amodal'), default='visib',
                        help='boxes around the visible or around all of the object '
                             '(default: visib)')
    parser.add_argument('--box-jitter', type=float, default=0.0, metavar='F',
                        help='shift and scale boxes at random by up to F of their side')
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='of the jitter')


def add_model_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Declare which model to run, and on what.

    :param required: otherwise the model of the demo is the default.
    """
    parser.add_argument('--model', type=Path, required=required, metavar='DIR',
                        help='model directory, with model.json'
                             + ('' if required else ' (default: the model of the demo)'))
    parser.add_argument('--meshes', type=Path, metavar='DIR',
                        help='folder of the mesh files (default: meshes/ in the model directory)')
    parser.add_argument('--backend', default='onnxruntime', metavar='NAME',
                        help='what runs the network (default: onnxruntime)')
    parser.add_argument('--threads', type=positive, default=os.cpu_count() or 1, metavar='N',
                        help='threads of the backend (default: one for each CPU)')
    parser.add_argument('--hypotheses', type=positive, default=1, metavar='N',
                        help='rotation bins that stage 2 tries (default: 1)')


def positive(text: str) -> int:
    """Return a whole number of at least one, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, got {number}')
    return number
