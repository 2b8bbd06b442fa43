"""The picture the demo leaves: scenes with outlines of truth and estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..geometry.se3 import Array
from ..objects import Mesh
from ..rendering.renderer import Renderer
from .scenes import Scene

TRUTH_RGB, ESTIMATE_RGB = (60, 255, 60), (255, 60, 255)
COLUMNS = 2
SCALE = 2

Pixels = NDArray[np.uint8]


def write_picture(path: Path, scenes: Sequence[Scene], answers: Sequence[Mapping[str, Array]],
                  meshes: Mapping[str, Mesh]) -> None:
    """Write a grid of scenes with outlines, truth green and estimate magenta.

    :param path: PNG file; its folder is made.
    :param answers: T_camera_object (4, 4) [m] by label for each scene.
    :param meshes: by label.
    :raises DatasetError: when the file cannot be written.
    """
    camera = scenes[0].camera
    with Renderer(SCALE * camera.width, SCALE * camera.height) as renderer:
        for label, mesh in meshes.items():
            renderer.add_mesh(label, mesh)
        tiles = [_tile(scene, answer, renderer)
                 for scene, answer in zip(scenes, answers, strict=True)]
    while len(tiles) % COLUMNS:
        tiles.append(np.zeros_like(tiles[0]))
    grid = np.vstack([np.hstack(tiles[i:i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)])
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), grid[:, :, ::-1]):
        raise DatasetError(f'{path} cannot be written')


def _tile(scene: Scene, answer: Mapping[str, Array], renderer: Renderer) -> Pixels:
    size = (SCALE * scene.camera.width, SCALE * scene.camera.height)
    large = np.asarray(cv2.resize(scene.image_rgb, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    K = scene.camera.K.copy()
    K[:2] *= SCALE
    K[:2, 2] += (SCALE - 1) / 2
    for truth in scene.objects:
        _outline(large, renderer.render(truth.label, truth.T_camera_object, K).mask, TRUTH_RGB)
        if truth.label in answer:
            mask = renderer.render(truth.label, answer[truth.label], K).mask
            _outline(large, mask, ESTIMATE_RGB)
        x, y = (int(v) for v in SCALE * truth.box_xyxy[[0, 3]])
        cv2.putText(large, truth.label, (x, y + 26), cv2.FONT_HERSHEY_SIMPLEX, 0.8,
                    (255, 255, 255), 2, cv2.LINE_AA)
    small = cv2.resize(large, None, fx=1 / SCALE, fy=1 / SCALE, interpolation=cv2.INTER_AREA)
    return _legend(np.asarray(small, np.uint8))


def _outline(image: Pixels, mask: NDArray[np.bool_], rgb: tuple[int, int, int]) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL,
                                   cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, rgb, 3, cv2.LINE_AA)


def _legend(image: Pixels) -> Pixels:
    for text, rgb, y in (('truth', TRUTH_RGB, 18), ('estimate', ESTIMATE_RGB, 38)):
        cv2.putText(image, text, (8, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(image, text, (8, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, rgb, 1, cv2.LINE_AA)
    return image
