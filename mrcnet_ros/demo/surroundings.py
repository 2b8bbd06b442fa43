"""The table and the room around the objects of a demo scene."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..geometry.camera import Camera
from ..geometry.se3 import Array, inverse

Image = NDArray[np.float32]

TABLE_SIDE_M = 1.1
TABLE_PX = 1024


def load_environments(folder: Path) -> list[Image]:
    """Read all equirectangular environment maps of a folder.

    :return: (H, W, 3) float32 RGB in 0..255 each.
    :raises DatasetError: when there are none or one cannot be read.
    """
    paths = sorted(folder.glob('*_env.jpg'))
    if not paths:
        raise DatasetError(f'{folder} holds no environment maps named *_env.jpg')
    found = []
    for path in paths:
        bgr = cv2.imread(str(path))
        if bgr is None:
            raise DatasetError(f'{path} is not a readable image')
        found.append(bgr[:, :, ::-1].astype(np.float32))
    return found


def draw_table(shadows: Iterable[Array], rng: np.random.Generator) -> Image:
    """Return a wooden table top with shadows, seen from above.

    :param shadows: (P, 2) points [m] of the table each; their hull is in shadow.
    :return: (TABLE_PX, TABLE_PX, 3) float32 RGB in 0..255, x along the columns, y along the rows.
    """
    colour = np.array([150.0, 118.0, 88.0]) * rng.uniform(0.6, 1.4) + rng.normal(0, 6, 3)
    grain = np.zeros((TABLE_PX, TABLE_PX), np.float32)
    for along, across, weight in ((512, 6, 0.5), (256, 2, 0.3), (32, 32, 0.2)):
        noise = rng.normal(size=(TABLE_PX // across, TABLE_PX // along)).astype(np.float32)
        grain += weight * cv2.resize(noise, (TABLE_PX, TABLE_PX), interpolation=cv2.INTER_CUBIC)
    planks = 1.0 - 0.35 * (np.arange(TABLE_PX) % 171 < 2)
    light = np.ones((TABLE_PX, TABLE_PX), np.float32)
    for points in shadows:
        pixels = np.rint((points / TABLE_SIDE_M + 0.5) * TABLE_PX).astype(np.int32)
        dark = np.zeros_like(light)
        cv2.fillConvexPoly(dark, cv2.convexHull(pixels), 0.45)
        light *= 1.0 - cv2.GaussianBlur(dark, (0, 0), rng.uniform(3, 8))
    wood = (1.0 + 0.12 * grain) * planks[:, None].astype(np.float32) * light
    rgb = wood[:, :, None] * colour.clip(30, 225).astype(np.float32)
    return np.asarray(rgb.clip(0, 255), dtype=np.float32)


def draw_surroundings(camera: Camera, T_camera_world: Array, table: Image,
                      environment: Image) -> Image:
    """Return what a camera sees of table and room.

    :param T_camera_world: (4, 4) [m]; z of the world points up, the table is z = 0.
    :param table: of :func:`draw_table`.
    :param environment: (H, W, 3) equirectangular map, up in its first row.
    :return: (camera.height, camera.width, 3) float32 RGB in 0..255.
    """
    v, u = np.mgrid[:camera.height, :camera.width]
    T_world_camera = inverse(T_camera_world)
    rays = camera.unproject(np.stack([u, v], axis=-1)) @ T_world_camera[:3, :3].T
    room = _look_up(environment, rays)
    eye = T_world_camera[:3, 3]
    down = rays[..., 2] < -1e-6
    reach = np.where(down, -eye[2] / np.where(down, rays[..., 2], -1.0), 0.0)
    on_table = eye[:2] + reach[..., None] * rays[..., :2]
    pixel = ((on_table / TABLE_SIDE_M + 0.5) * TABLE_PX - 0.5).astype(np.float32)
    top = cv2.remap(table, pixel[..., 0], pixel[..., 1], cv2.INTER_LINEAR)
    inside = (down & (np.abs(on_table) < TABLE_SIDE_M / 2).all(axis=-1)).astype(np.float32)
    cover = cv2.GaussianBlur(inside, (0, 0), 0.7)[..., None]
    return np.asarray(cover * top + (1.0 - cover) * room, dtype=np.float32)


def _look_up(environment: Image, rays: Array) -> Image:
    height, width = environment.shape[:2]
    directions = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    column = (np.arctan2(directions[..., 1], directions[..., 0]) / (2 * np.pi) + 0.5) * width - 0.5
    row = np.arccos(np.clip(directions[..., 2], -1.0, 1.0)) / np.pi * height - 0.5
    return np.asarray(cv2.remap(environment, column.astype(np.float32), row.astype(np.float32),
                                cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP), dtype=np.float32)
