"""Backgrounds behind the table: photographs, environment maps, or soft noise."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import DatasetError
from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..rendering.background_files import is_environment, read_linear
from .painter import tint_of
from .surroundings import Image, look_around

LONGEST_PX = 2048  # of a photograph; sixteen are kept in memory


class Rooms:
    """Draws rooms for pictures.

    :param paths: photographs and environment maps; none for noise.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Keep the paths; each file is read when first needed."""
        self._paths = list(paths)
        self._load = functools.lru_cache(maxsize=16)(_load)

    def check(self, rngs: Iterable[np.random.Generator]) -> None:
        """Read all files that will be drawn, so that none ends the work in the middle.

        :param rngs: each as a later call of :meth:`draw` will get it.
        :raises DatasetError: naming those that cannot be read.
        """
        problems = []
        for path in sorted({path for path in (self._choose(rng)[1] for rng in rngs) if path}):
            try:
                read_linear(path)
            except DatasetError as error:
                problems.append(str(error))
        if problems:
            raise DatasetError('\n'.join(problems))

    def draw(self, camera: Camera, T_camera_world: Array,
             rng: np.random.Generator) -> tuple[Image, Array]:
        """Draw what is behind the table.

        :return: (H, W, 3) float32 RGB in 0..255, and the tint of its light.
        :raises DatasetError: when a file cannot be read.
        """
        exposure, path = self._choose(rng)
        if path is None:
            linear = cv2.resize(rng.uniform(0.0, 1.0, (6, 8, 3)).astype(np.float32),
                                (camera.width, camera.height), interpolation=cv2.INTER_CUBIC)
            room = _tone(np.asarray(linear, np.float32), exposure)
            return room, tint_of(room)
        linear, environment = self._load(path)
        picture = _tone(linear, exposure)
        if environment:
            turned = np.roll(picture, int(rng.integers(picture.shape[1])), axis=1)
            return look_around(camera, T_camera_world, turned), tint_of(picture)
        return _window(picture, camera, rng), tint_of(picture)

    def _choose(self, rng: np.random.Generator) -> tuple[np.float32, Path | None]:
        """Draw the exposure and the file, None for noise."""
        exposure = np.float32(rng.uniform(0.6, 1.6))
        return exposure, (self._paths[int(rng.integers(len(self._paths)))] if self._paths
                          else None)


def _load(path: Path) -> tuple[Image, bool]:
    """Return an image of bounded size, and whether it is an environment map."""
    linear = read_linear(path)
    environment = is_environment(path, linear)
    scale = LONGEST_PX / max(linear.shape[:2])
    if scale < 1:
        linear = np.asarray(cv2.resize(linear, None, fx=scale, fy=scale,
                                       interpolation=cv2.INTER_AREA), np.float32)
    return linear, environment


def _window(photo: Image, camera: Camera, rng: np.random.Generator) -> Image:
    """Return a random window of a photograph, in the shape of the camera's images."""
    height, width = photo.shape[:2]
    widest = min(width, height * camera.width / camera.height)
    w = int(rng.uniform(0.5, 1.0) * widest)
    h = min(int(w * camera.height / camera.width), height)
    x, y = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
    return np.asarray(cv2.resize(photo[y:y + h, x:x + w], (camera.width, camera.height),
                                 interpolation=cv2.INTER_LINEAR), np.float32)


def _tone(linear: Image, exposure: np.float32) -> Image:
    """Return 0..255 as a display shows it."""
    return np.asarray(255.0 * np.clip(linear * exposure, 0, 1) ** (1 / 2.2), np.float32)
