"""Photographs and environment maps on disk, for backgrounds and light."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError

ENVIRONMENT_SUFFIXES = ('.hdr', '.exr')
PHOTO_SUFFIXES = ('.jpg', '.jpeg', '.png')


def find_images(folders: Sequence[Path]) -> list[Path]:
    """List photographs and environment maps in folders, sorted by name.

    :raises DatasetError: when no folder is given, or one is missing or holds no image.
    """
    if not folders:
        raise DatasetError('no background folders are given; name folders of photographs or '
                           'environment maps')
    found: list[Path] = []
    for folder in folders:
        here = sorted(p for p in Path(folder).glob('*')
                      if p.suffix.lower() in ENVIRONMENT_SUFFIXES + PHOTO_SUFFIXES)
        if not here:
            problem = 'holds no .hdr, .exr, .jpg or .png' if Path(folder).is_dir() else \
                'does not exist'
            raise DatasetError(f'background folder {folder} {problem}; name a folder of '
                               'photographs or environment maps')
        found.extend(here)
    return found


def read_linear(path: Path) -> NDArray[np.float32]:
    """Read an image as linear RGB whose mean is 0.5.

    :return: (H, W, 3) float32.
    :raises DatasetError: when it cannot be read.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if bgr is None or bgr.ndim != 3:
        raise DatasetError(f'{path} is not a readable colour image')
    rgb = np.ascontiguousarray(bgr[..., 2::-1])
    if rgb.dtype == np.uint8:
        rgb = (rgb.astype(np.float32) / 255.0) ** 2.2
    rgb = rgb.astype(np.float32)
    return np.asarray(np.minimum(rgb * (0.5 / max(float(rgb.mean()), 1e-6)), 200.0), np.float32)


def is_environment(path: Path, image: NDArray[np.float32]) -> bool:
    """Tell an equirectangular environment map by its suffix, or its name and 2:1 shape."""
    named = path.suffix.lower() in ENVIRONMENT_SUFFIXES or 'env' in path.stem
    return named and image.shape[1] == 2 * image.shape[0]
