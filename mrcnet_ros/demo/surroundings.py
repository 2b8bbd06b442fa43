"""The rooms around the demo's table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DatasetError
from ..reading.picture import read_rgb
from ..synth.surroundings import Image

TABLE_SIDE_M = 1.1


def load_environments(folder: Path) -> list[Image]:
    """Read all equirectangular environment maps of a folder.

    :return: (H, W, 3) float32 RGB in 0..255 each.
    :raises DatasetError: when there are none.
    :raises ImageError: when one cannot be read.
    """
    paths = sorted(folder.glob('*_env.jpg'))
    if not paths:
        raise DatasetError(f'{folder} holds no environment maps named *_env.jpg')
    found = []
    for path in paths:
        found.append(read_rgb(path).astype(np.float32))
    return found
