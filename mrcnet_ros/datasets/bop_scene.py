"""The JSON files and image folders of one BOP scene."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CameraError, DatasetError, SpecError
from ..geometry.camera import Camera
from ..geometry.se3 import POSE_TOLERANCE, Array, checked_rotation, make_transform
from ..reading import fields
from ..reading.picture import image_size
from ..reading.text import parse_json

# metres of BOP's unit of length
MM = 1e-3

# where a dataset has both, colour is used: networks are trained with it
_IMAGE_FOLDERS = ('rgb', 'gray')
_IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')
_DEPTH_SUFFIXES = ('.png', '.tif', '.tiff')


class BopScene:
    """One scene folder, read once.

    :param folder: such as ``lmo/test/000002``.
    :param size: width and height [px] of all images; None asks each image.
    :param annotated: whether there is ground truth.
    :param depth_scale: millimetres of one step of depth images without an entry of their own.
    :raises DatasetError: when a JSON file is missing or damaged, or two files are of one image.
    """

    def __init__(self, folder: Path, size: tuple[int, int] | None, *,
                 annotated: bool = True, depth_scale: float = 1.0) -> None:
        self.folder, self._size, self.annotated = folder, size, annotated
        self._depth_scale = depth_scale
        self.scene_id = int(folder.name)
        self.gt_path = folder / 'scene_gt.json'
        self.info_path = folder / 'scene_gt_info.json'
        self.camera_path = folder / 'scene_camera.json'
        self._gt = _by_image(self.gt_path) if annotated else {}
        self._info = _by_image(self.info_path) if annotated else {}
        self._camera = _by_image(self.camera_path)
        self._images = _list_images(folder)
        self._depths = _numbered(folder / 'depth', _DEPTH_SUFFIXES)

    @property
    def image_ids(self) -> tuple[int, ...]:
        """Return the annotated images, sorted."""
        try:
            return tuple(sorted(fields.whole_text(key, 'the number of an image')
                                for key in self._gt))
        except ValueError as error:
            raise DatasetError(f'{self.gt_path}: {error}') from error

    def image_path(self, image_id: int) -> Path | None:
        """Return the image file, None when it is not on disk."""
        return self._images.get(image_id)

    def depth_path(self, image_id: int) -> Path | None:
        """Return the depth image's file, None when it is not on disk."""
        return self._depths.get(image_id)

    def annotations(self, image_id: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return the image's entries of scene_gt and scene_gt_info, one pair an instance."""
        if not self.annotated:
            return []
        entries = value(self._gt, str(image_id), self.gt_path)
        infos = value(self._info, str(image_id), self.info_path)
        for path, found in ((self.gt_path, entries), (self.info_path, infos)):
            if not isinstance(found, list):
                raise DatasetError(f'{path}: image {image_id} must be a list of instances, found '
                                   f'{type(found).__name__}')
        if len(entries) != len(infos):
            raise DatasetError(
                f'{self.info_path}: image {image_id} has {len(infos)} entries and '
                f'{self.gt_path.name} has {len(entries)}; the files are of different releases'
            )
        return list(zip(entries, infos, strict=True))

    def intrinsics(self, image_id: int) -> Array:
        """Return K, (3, 3) [px].

        :raises DatasetError: when it is none.
        """
        K = numbers(self._camera_of(image_id), 'cam_K', 9, self.camera_path).reshape(3, 3)
        try:
            return Camera(K, 1, 1).K  # the size of the image does not matter to its check
        except CameraError as error:
            raise DatasetError(f'{self.camera_path}: cam_K of image {image_id}: {error}; it must '
                               'be fx, 0, cx, 0, fy, cy, 0, 0, 1') from error

    def depth_scale(self, image_id: int) -> float:
        """Return the millimetres of one step of the depth image, the dataset's if not stated."""
        camera = self._camera_of(image_id)
        if 'depth_scale' not in camera:
            return self._depth_scale
        return json_number(camera, 'depth_scale', self.camera_path, low=1e-9)

    def timestamp_s(self, image_id: int) -> float | None:
        """Return when an image of a sequence was taken [s], None when not stated."""
        camera = self._camera_of(image_id)
        return (json_number(camera, 'timestamp', self.camera_path) if 'timestamp' in camera
                else None)

    def T_camera_world(self, image_id: int) -> Array | None:
        """Return T_camera_world of an image, (4, 4) [m], None when not stated."""
        camera = self._camera_of(image_id)
        if 'cam_R_w2c' not in camera or 'cam_t_w2c' not in camera:
            return None
        try:
            R = checked_rotation(numbers(camera, 'cam_R_w2c', 9, self.camera_path).reshape(3, 3),
                                 POSE_TOLERANCE, 'cam_R_w2c')
        except SpecError as error:
            raise DatasetError(f'{self.camera_path}: image {image_id}: {error}') from error
        return make_transform(R, MM * numbers(camera, 'cam_t_w2c', 3, self.camera_path))

    def _camera_of(self, image_id: int) -> Any:
        return value(self._camera, str(image_id), self.camera_path)

    def matrix(self, entry: Mapping[str, Any], key: str, count: int) -> Array:
        """Return ``count`` numbers of an annotation."""
        return numbers(entry, key, count, self.gt_path)

    def image_size(self, image_path: Path) -> tuple[int, int]:
        """Return width and height [px] of an image.

        :raises ImageError: when the image must be read for its size and cannot be.
        """
        return image_size(image_path) if self._size is None else self._size


def _by_image(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise DatasetError(f'{path}: expected an object of images by number, found '
                           f'{type(values).__name__}')
    return values


def _list_images(folder: Path) -> dict[int, Path]:
    """Return the files of the images by number.

    :raises DatasetError: when two files of a folder are of one image.
    """
    images: dict[int, Path] = {}
    for name in _IMAGE_FOLDERS:
        images = {**_numbered(folder / name, _IMAGE_SUFFIXES), **images}
    return images


def _numbered(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Return the files of a folder whose names are numbers, by number.

    :raises DatasetError: when two are of one image.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.glob('*')):
        if path.suffix.lower() not in suffixes or not path.stem.isdigit():
            continue
        number_ = int(path.stem)
        if number_ in found:
            raise DatasetError(f'{folder}: {found[number_].name} and {path.name} are both image '
                               f'{number_}; remove one of them')
        found[number_] = path
    return found


def read_json(path: Path) -> Any:
    """Read a JSON file of the dataset.

    :raises DatasetError: when it is missing or no JSON, or names a key twice, or a number of it
        is not finite.
    """
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise DatasetError(
            f'{path}: missing; extract it from the archives of the dataset'
        ) from None
    except OSError as error:
        raise DatasetError(f'{path}: cannot be read ({error.strerror})') from error
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


def json_whole(entry: Mapping[str, Any], key: str, path: Path) -> int:
    """Return a whole number of a JSON object, not negative.

    :raises DatasetError: when it is absent or something else.
    """
    try:
        return fields.whole(value(entry, key, path), key)
    except ValueError as error:
        raise DatasetError(f'{path}: {error}') from error


def json_number(entry: Mapping[str, Any], key: str, path: Path, low: float = -np.inf,
                high: float = np.inf) -> float:
    """Return a finite number of a JSON object.

    :raises DatasetError: when it is absent, something else, or out of bounds.
    """
    try:
        return fields.number(value(entry, key, path), key, low, high)
    except ValueError as error:
        raise DatasetError(f'{path}: {error}') from error


def numbers(entry: Mapping[str, Any], key: str, count: int, path: Path) -> Array:
    """Return ``count`` finite numbers of a JSON object.

    :raises DatasetError: when they are not that many or not finite.
    """
    try:
        array = np.asarray(value(entry, key, path))
        array = array.astype(np.float64) if array.dtype.kind in 'iuf' else np.empty(0)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise DatasetError(
            f'{path}: {key} must be {count} finite numbers, found {entry[key]!r}; '
            f'extract the file again'
        )
    return array
