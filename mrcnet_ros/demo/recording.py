"""Scenes as files, through which the demo hands them to the camera process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import DatasetError
from ..geometry.camera import Camera
from ..reading.picture import read_rgb
from ..reading.text import parse_json
from .scenes import DemoScene, TrueObject

INDEX = 'scenes.json'


def save_scenes(folder: Path, scenes: Sequence[DemoScene]) -> None:
    """Write pictures as PNG and everything else as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, scene in enumerate(scenes):
        name = f'{number:04d}.png'
        cv2.imwrite(str(folder / name), scene.image_rgb[:, :, ::-1])
        entries.append({'image': name, 'K': scene.camera.K.tolist(), 'objects': [
            {'label': o.label, 'T_camera_object': o.T_camera_object.tolist(),
             'box_xyxy': o.box_xyxy.tolist(), 'visible_fraction': o.visible_fraction}
            for o in scene.objects]})
    (folder / INDEX).write_text(json.dumps(entries), encoding='utf-8')


def load_scenes(folder: Path) -> list[DemoScene]:
    """Read what :func:`save_scenes` wrote.

    :raises DatasetError: when something is missing.
    """
    try:
        entries = parse_json((folder / INDEX).read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f'{folder / INDEX} cannot be read: {error}') from error
    scenes = []
    for entry in entries:
        image_rgb = read_rgb(folder / entry['image'])
        camera = Camera(np.array(entry['K']), image_rgb.shape[1], image_rgb.shape[0])
        objects = tuple(TrueObject(o['label'], np.array(o['T_camera_object']),
                                   np.array(o['box_xyxy']), float(o['visible_fraction']))
                        for o in entry['objects'])
        scenes.append(DemoScene(image_rgb, camera, objects))
    return scenes
