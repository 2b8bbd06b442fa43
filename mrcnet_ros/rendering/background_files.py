"""Photographs and environment maps on disk, for backgrounds and light."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..reading.picture import STORED, decoded_pixels

ENVIRONMENT_SUFFIXES = ('.hdr', '.exr')
PHOTO_SUFFIXES = ('.jpg', '.jpeg', '.png')
# of photographs that are not taken
OTHER_SUFFIXES = ('.avif', '.bmp', '.heic', '.jfif', '.jp2', '.tif', '.tiff', '.webp')


def find_images(folders: Sequence[Path]) -> list[Path]:
    """List photographs and environment maps in folders, sorted by name, but no hidden files.

    The log warns of a folder with images of other kinds, or in folders of its own.

    :raises DatasetError: when no folder is given, or one is missing or holds no image.
    """
    if not folders:
        raise DatasetError('no background folders are given; name folders of photographs or '
                           'environment maps')
    found: list[Path] = []
    for folder in folders:
        here = sorted(p for p in Path(folder).glob('*')
                      if p.suffix.lower() in ENVIRONMENT_SUFFIXES + PHOTO_SUFFIXES
                      and not p.name.startswith('.'))  # as macOS puts beside each file
        if not here:
            problem = 'holds no .hdr, .exr, .jpg or .png' if Path(folder).is_dir() else \
                'does not exist'
            raise DatasetError(f'background folder {folder} {problem}; name a folder of '
                               'photographs or environment maps')
        _tell_left_out(Path(folder), len(here))
        found.extend(here)
    return found


@functools.lru_cache(maxsize=64)  # a command asks several times
def _tell_left_out(folder: Path, taken: int) -> None:
    """Warn of images that are not taken: few backgrounds teach little.

    :param taken: number of images that are.
    """
    others = [p for p in folder.iterdir() if not p.name.startswith('.')]
    kinds = sorted({p.suffix.lower() for p in others} & set(OTHER_SUFFIXES))
    inner = sorted(p.name for p in others if p.is_dir() and any(
        q.suffix.lower() in ENVIRONMENT_SUFFIXES + PHOTO_SUFFIXES for q in p.iterdir()))
    told = [*([f'files {", ".join(kinds)}'] if kinds else []),
            *([f'images in its {len(inner)} folders, such as {inner[0]}'] if inner else [])]
    if told:
        logging.getLogger(__name__).warning(
            'background folder %s: %d images are taken and %s left out; convert them to .jpg or '
            '.png, or name their folders, too', folder, taken, ' and '.join(told))


def check_images(paths: Sequence[Path]) -> None:
    """Make sure that no hours are spent before the first image that cannot be read.

    One of each kind is read, of all others the first bytes.

    :raises DatasetError: when one cannot be read.
    """
    for path in {p.suffix.lower(): p for p in paths}.values():
        read_linear(path)
    bad = [path for path in paths if not cv2.haveImageReader(str(path))]
    if bad:
        raise DatasetError(f'{len(bad)} of {len(paths)} background images cannot be read, such as '
                           f'{bad[0]}; remove them or copy them again')


def read_linear(path: Path) -> NDArray[np.float32]:
    """Read an image as linear RGB whose mean is 0.5; a grey one has three equal channels.

    :return: (H, W, 3) float32.
    :raises DatasetError: when it cannot be read.
    """
    try:  # None as well for a format that this OpenCV was built without
        pixels = decoded_pixels(path.read_bytes(), STORED)
    except OSError as error:
        raise DatasetError(f'{path} cannot be read ({error.strerror})') from error
    if pixels is None:
        raise DatasetError(f'{path} cannot be read by this OpenCV; is it damaged? Convert .exr '
                           'files to .hdr')
    bgr = pixels[..., None] if pixels.ndim == 2 else pixels
    grey = bgr.shape[2] < 3  # with or without opacity
    rgb = np.repeat(bgr[..., :1], 3, 2) if grey else np.ascontiguousarray(bgr[..., 2::-1])
    if np.issubdtype(rgb.dtype, np.integer):
        rgb = (rgb.astype(np.float32) / np.iinfo(rgb.dtype).max) ** 2.2
    rgb = rgb.astype(np.float32)
    if not np.isfinite(rgb).all():
        raise DatasetError(f'{path} has pixels that are not finite; remove it or save it again')
    return np.asarray(np.minimum(rgb * (0.5 / max(float(rgb.mean()), 1e-6)), 200.0), np.float32)


def named_environment(path: Path) -> bool:
    """Tell by the name whether a file may be an environment map."""
    return path.suffix.lower() in ENVIRONMENT_SUFFIXES or 'env' in path.stem


def is_environment(path: Path, image: NDArray[np.float32]) -> bool:
    """Tell an equirectangular environment map by its suffix, or its name and 2:1 shape."""
    return named_environment(path) and image.shape[1] == 2 * image.shape[0]
