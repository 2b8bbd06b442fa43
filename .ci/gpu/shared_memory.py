"""Makes room in shared memory for a training, or tells how many views fit.

The processes of a training share views, templates and batches in /dev/shm. Where that is full,
they die of SIGBUS without a word.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

from mrcnet_ros.cli.train import changes
from mrcnet_ros.training.config import TrainConfig
from mrcnet_ros.training.disturbers import count_disturbers
from mrcnet_ros.training.feed import AHEAD
from mrcnet_ros.training.run_config import read_config
from mrcnet_ros.training.view_bank import VIEW_BYTES

SHARED_MEMORY = Path('/dev/shm')
RESERVE = 1.1  # times what is counted: the sizes of templates and batches are estimates
LESS = 0.95  # times as many views are tried until they fit


def needed_bytes(config: TrainConfig, disturbers: int) -> int:
    """Return what a training shares, with a reserve.

    :param disturbers: number of objects and bodies that only hide others.
    """
    spec, objects = config.spec, len(config.load_objects())
    views = objects * config.views + disturbers * config.views_of_disturbers
    side = spec.crop.size_px
    maps = zip((*spec.network.embedding, 4), (4, 8, 16, 4), strict=True)  # with coordinates
    template = 3 * spec.template.size_px**2 + 2 * sum(c * (side // s)**2 for c, s in maps)
    sample = 3 * side**2 + 4 * 4 * (side // 4)**2  # image, coordinates and mask
    batches = AHEAD * config.composers * config.batch_size
    return int(RESERVE * (VIEW_BYTES * views + template * objects * spec.bins.rotations
                          + sample * batches))


def fitting_views(config: TrainConfig, disturbers: int, free: int) -> int:
    """Return the configuration's views of each object, or as many as fit.

    :param free: bytes of shared memory.
    """
    while config.views > 1 and needed_bytes(config, disturbers) > free:
        config = dataclasses.replace(config, views=int(LESS * config.views))
    return config.views


def enlarge(size: int) -> None:
    """Try to give shared memory another size in bytes, which root may do in a container."""
    told = subprocess.run(['mount', '-o', f'remount,size={size}', str(SHARED_MEMORY)],
                          capture_output=True, text=True, check=False)
    print('enlarged' if told.returncode == 0 else f'cannot be enlarged: {told.stderr.strip()}')


def main() -> int:
    """Look, enlarge if there is too little and the training is on a GPU, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', type=Path, help='of the training')
    parser.add_argument('--set', action='append', default=[], metavar='NAME=VALUE')
    parser.add_argument('--json', type=Path, required=True)
    args = parser.parse_args()
    config = read_config(TrainConfig, args.config, changes(args))
    disturbers = count_disturbers(config)
    needed, usage = needed_bytes(config, disturbers), shutil.disk_usage(SHARED_MEMORY)
    free = usage.free
    print(f'{SHARED_MEMORY} has {free / 2**30:.2f} GiB free, the training needs '
          f'{needed / 2**30:.2f}')
    if free < needed and config.device.startswith('cuda'):
        enlarge(usage.used + needed)
        free = shutil.disk_usage(SHARED_MEMORY).free
    views = fitting_views(config, disturbers, free)
    if views < config.views:
        print(f'{views} views of each object fit, not {config.views}')
    args.json.write_text(json.dumps({
        'free_gib': usage.free / 2**30, 'needed_gib': needed / 2**30, 'views': views}))
    return 0


if __name__ == '__main__':
    sys.exit(main())
