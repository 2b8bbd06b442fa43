"""The JSON files and image folders of one BOP scene."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DatasetError, ImageError
from ..geometry.se3 import Array

# metres of BOP's unit of length
MM = 1e-3

_IMAGE_FOLDERS = ('rgb', 'gray')
_IMAGE_SUFFIXES = ('.png', '.jpg', '.tif')


class Scene:
    """One scene folder, read once.

    :param folder: such as ``lmo/test/000002``.
    :param size: width and height [px] of all images; None asks each image.
    :param annotated: whether there is ground truth.
    :raises DatasetError: when a JSON file is missing or damaged.
    """

    def __init__(self, folder: Path, size: tuple[int, int] | None, *,
                 annotated: bool = True) -> None:
        """Read the JSON files and list the images."""
        self.folder, self._size, self.annotated = folder, size, annotated
        self.scene_id = int(folder.name)
        self.gt_path = folder / 'scene_gt.json'
        self.info_path = folder / 'scene_gt_info.json'
        self.camera_path = folder / 'scene_camera.json'
        self._gt: dict[str, Any] = read_json(self.gt_path) if annotated else {}
        self._info: dict[str, Any] = read_json(self.info_path) if annotated else {}
        self._camera: dict[str, Any] = read_json(self.camera_path)
        self._images = {int(path.stem): path for name in _IMAGE_FOLDERS
                        for path in sorted((folder / name).glob('*'))
                        if path.suffix.lower() in _IMAGE_SUFFIXES and path.stem.isdigit()}

    @property
    def image_ids(self) -> tuple[int, ...]:
        """Return the annotated images, sorted."""
        return tuple(sorted(int(key) for key in self._gt))

    def image_path(self, image_id: int) -> Path | None:
        """Return the image file, None when it is not on disk."""
        return self._images.get(image_id)

    def depth_path(self, image_id: int) -> Path | None:
        """Return the depth image's file, None when it is not on disk."""
        for suffix in ('.png', '.tif'):
            path = self.folder / 'depth' / f'{image_id:06d}{suffix}'
            if path.is_file():
                return path
        return None

    def annotations(self, image_id: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the image's entries of scene_gt and scene_gt_info, one pair an instance."""
        if not self.annotated:
            return []
        entries = value(self._gt, str(image_id), self.gt_path)
        infos = value(self._info, str(image_id), self.info_path)
        if len(entries) != len(infos):
            raise DatasetError(
                f'{self.info_path}: image {image_id} has {len(infos)} entries and '
                f'{self.gt_path.name} has {len(entries)}; the files are of different releases'
            )
        return list(zip(entries, infos, strict=True))

    def intrinsics(self, image_id: int) -> Array:
        """Return K, (3, 3) [px]."""
        camera = value(self._camera, str(image_id), self.camera_path)
        return numbers(camera, 'cam_K', 9, self.camera_path).reshape(3, 3)

    def depth_scale(self, image_id: int) -> float:
        """Return the millimetres of one step of the depth image, 1 when not stated."""
        camera = value(self._camera, str(image_id), self.camera_path)
        return float(camera.get('depth_scale', 1.0))

    def matrix(self, entry: Mapping[str, Any], key: str, count: int) -> Array:
        """Return ``count`` numbers of an annotation."""
        return numbers(entry, key, count, self.gt_path)

    def image_size(self, image_path: Path) -> tuple[int, int]:
        """Return width and height [px] of an image."""
        if self._size is not None:
            return self._size
        try:
            with Image.open(image_path) as image:  # reads no pixels
                return image.size
        except OSError as error:
            raise ImageError(
                f'image {image_path}: cannot be decoded; copy it again from the dataset'
            ) from error


def read_json(path: Path) -> Any:
    """Read a JSON file of the dataset.

    :raises DatasetError: when it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise DatasetError(
            f'{path}: missing; extract it from the archives of the dataset'
        ) from None
    except ValueError as error:
        raise DatasetError(f'{path}: no valid JSON ({error}); extract it again') from error


def value(entry: Mapping[str, Any], key: str, path: Path) -> Any:
    """Return one value of a JSON object.

    :raises DatasetError: when it is absent.
    """
    try:
        return entry[key]
    except (KeyError, TypeError):
        raise DatasetError(
            f'{path}: an entry {key!r} is missing; the file is incomplete or of another format'
        ) from None


def numbers(entry: Mapping[str, Any], key: str, count: int, path: Path) -> Array:
    """Return ``count`` finite numbers of a JSON object.

    :raises DatasetError: when they are not that many or not finite.
    """
    try:
        array = np.asarray(value(entry, key, path), dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise DatasetError(
            f'{path}: {key} must be {count} finite numbers, found {entry[key]!r}; '
            f'extract the file again'
        )
    return array
