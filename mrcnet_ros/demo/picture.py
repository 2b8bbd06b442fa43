"""The picture the demo leaves: scenes with outlines of truth and estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..evaluation.overlay import SCALE
from ..geometry.se3 import Array
from ..objects import Mesh
from ..rendering.drawing import draw_label, draw_outline, scaled_intrinsics
from ..rendering.renderer import Renderer
from .scenes import DemoScene

TRUTH_RGB, ESTIMATE_RGB = (40, 255, 40), (255, 40, 255)
COLUMNS = 2

Pixels = NDArray[np.uint8]


def write_picture(path: Path, scenes: Sequence[DemoScene], answers: Sequence[Mapping[str, Array]],
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
    if not cv2.imwrite(str(path), np.ascontiguousarray(grid[:, :, ::-1])):
        raise DatasetError(f'{path}: cannot be written; give another file with --output')


def _tile(scene: DemoScene, answer: Mapping[str, Array], renderer: Renderer) -> Pixels:
    large = np.asarray(cv2.resize(scene.image_rgb, None, fx=SCALE, fy=SCALE), np.uint8)
    K = scaled_intrinsics(scene.camera.K, SCALE)
    masks = {o.label: renderer.render(o.label, o.T_camera_object, K).mask for o in scene.objects}
    for mask in masks.values():
        draw_outline(large, mask, TRUTH_RGB, 6)
    for label in masks.keys() & answer.keys():
        draw_outline(large, renderer.render(label, answer[label], K).mask, ESTIMATE_RGB, 2)
    for label, mask in masks.items():
        draw_label(large, mask, label, (255, 255, 255))
    _legend(large)
    size = (scene.camera.width, scene.camera.height)
    return np.asarray(cv2.resize(large, size, interpolation=cv2.INTER_AREA), np.uint8)


def _legend(image: Pixels) -> None:
    for row, (text, rgb) in enumerate((('truth', TRUTH_RGB), ('estimate', ESTIMATE_RGB))):
        for thickness, color in ((6, (0, 0, 0)), (2, rgb)):
            cv2.putText(image, text, (16, 40 + 36 * row), cv2.FONT_HERSHEY_SIMPLEX, 1.0, color,
                        thickness, cv2.LINE_AA)
