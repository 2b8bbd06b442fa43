"""``mrcnet parity``: compare the paper preset with reference values, array by array."""

from __future__ import annotations

import argparse
from pathlib import Path

DIFFERENT = 1  # exit code: a difference is above its tolerance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('folder', type=Path, metavar='DIR',
                        help='reference values: network.npz, crop.npz and losses.npz')


def run(args: argparse.Namespace) -> int:
    """Print one line per array.

    :return: 0 when all are within their tolerance, else 1.
    """
    from ..presets.paper.parity.network import parity_rows

    count, wrong = 0, []
    for row in parity_rows(args.folder):
        print(row, flush=True)
        count += 1
        if not row.passed:
            wrong.append(row.name)
    verdict = 'all within tolerance' if not wrong else f'DIFFERENT: {", ".join(wrong)}'
    print(f'{count} comparisons, {verdict}')
    return DIFFERENT if wrong else 0
