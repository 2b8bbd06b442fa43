"""The table and the room around objects."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry.camera import Camera
from ..geometry.se3 import Array, inverse

Image = NDArray[np.float32]

TABLE_PX = 1024  # side of the texture of a table; larger is sharper and takes longer


def draw_table(shadows: Iterable[Array], rng: np.random.Generator, side_m: float) -> Image:
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
        pixels = np.rint((points / side_m + 0.5) * TABLE_PX).astype(np.int32)
        dark = np.zeros_like(light)
        cv2.fillConvexPoly(dark, cv2.convexHull(pixels), 0.45)
        light *= 1.0 - cv2.GaussianBlur(dark, (0, 0), rng.uniform(3, 8))
    wood = (1.0 + 0.12 * grain) * planks[:, None].astype(np.float32) * light
    rgb = wood[:, :, None] * colour.clip(30, 225).astype(np.float32)
    return np.asarray(rgb.clip(0, 255), dtype=np.float32)


def draw_surroundings(camera: Camera, T_camera_world: Array, table: Image, side_m: float,
                      room: Image) -> Image:
    """Return what a camera sees of table and room.

    :param T_camera_world: (4, 4) [m]; z of the world points up, the table is z = 0.
    :param table: of :func:`draw_table`.
    :param room: (camera.height, camera.width, 3) float32, what is behind the table.
    :return: (camera.height, camera.width, 3) float32 RGB in 0..255.
    """
    on_table, _, inside = _meet_table(camera, T_camera_world, side_m)
    pixel = ((on_table / side_m + 0.5) * TABLE_PX - 0.5).astype(np.float32)
    top = cv2.remap(table, pixel[..., 0], pixel[..., 1], cv2.INTER_LINEAR)
    cover = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.7)[..., None]
    return np.asarray(cover * top + (1.0 - cover) * room, dtype=np.float32)


def table_depth_m(camera: Camera, T_camera_world: Array, side_m: float) -> NDArray[np.float32]:
    """Return the depth of the table, (H, W) float32 [m], 0 beside it."""
    _, depth_m, inside = _meet_table(camera, T_camera_world, side_m)
    return np.where(inside, depth_m, 0.0).astype(np.float32)


def look_around(camera: Camera, T_camera_world: Array, environment: Image) -> Image:
    """Return what a camera sees of a room, infinitely far away.

    :param environment: (H, W, 3) equirectangular map, up in its first row.
    :return: (camera.height, camera.width, 3) float32.
    """
    rays = _rays(camera, T_camera_world)
    height, width = environment.shape[:2]
    directions = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    column = (np.arctan2(directions[..., 1], directions[..., 0]) / (2 * np.pi) + 0.5) * width - 0.5
    row = np.arccos(np.clip(directions[..., 2], -1.0, 1.0)) / np.pi * height - 0.5
    return np.asarray(cv2.remap(environment, column.astype(np.float32), row.astype(np.float32),
                                cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP), dtype=np.float32)


def _meet_table(camera: Camera, T_camera_world: Array,
                side_m: float) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return where viewing rays meet the table's plane, their depth, and which are on the table.

    :return: (H, W, 2) [m], (H, W) [m], (H, W).
    """
    rays = _rays(camera, T_camera_world)
    eye = inverse(T_camera_world)[:3, 3]
    down = rays[..., 2] < -1e-6
    reach = np.where(down, -eye[2] / np.where(down, rays[..., 2], -1.0), 0.0)
    on_table = eye[:2] + reach[..., None] * rays[..., :2]
    return on_table, reach, down & (np.abs(on_table) < side_m / 2).all(axis=-1)


def _rays(camera: Camera, T_camera_world: Array) -> Array:
    """Return the rays of all pixels in the world frame, (H, W, 3), of depth 1."""
    R_world_camera = inverse(T_camera_world)[:3, :3]
    return np.asarray(_camera_rays(camera) @ R_world_camera.T)


@functools.lru_cache(maxsize=1)  # all pictures of a dataset are of one camera
def _camera_rays(camera: Camera) -> Array:
    """Return the rays of all pixels in the camera's frame, (H, W, 3), of depth 1."""
    v, u = np.mgrid[:camera.height, :camera.width]
    rays = camera.unproject(np.stack([u, v], axis=-1))
    rays.setflags(write=False)
    return rays
