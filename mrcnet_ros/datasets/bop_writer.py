"""Writes scenes and models in the format of BOP datasets.

Convention: in memory everything is in metres, in the files in millimetres.
Source: the BOP dataset format; boxes as its toolkit computes them, ``calc_2d_bbox``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..meshes import copy_ply, measure_diameter, write_ply
from ..objects import ObjectModel
from ..objects.object_files import MODELS_INFO
from .bop_scene import MM
from .boxes import mask_box

# Millimetres of one step of a depth image, the finest that reaches to the farthest point: 16 bits
# hold 65535 steps, of a tenth of a millimetre 6.5 m.
DEPTH_STEPS_MM = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
MOST_STEPS = 65535  # the largest number of 16 bits
INVISIBLE = (-1, -1, -1, -1)  # BOP's box of an object that is not seen
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Instance:
    """An object in an image, and its visible part.

    :param T_camera_object: (4, 4) [m].
    :param mask: (H, W) bool, its silhouette as if nothing were in front of it.
    :param visible: (H, W) bool, where it is seen.
    :param pixels: of the silhouette, also outside the image.
    :param box_xywh: around the silhouette, also outside the image; of :func:`box_xywh`.
    """

    object_id: int
    T_camera_object: Array
    mask: Mask
    visible: Mask
    pixels: int
    box_xywh: tuple[int, int, int, int]

    @property
    def visible_fraction(self) -> float:
        """Return the visible part of the silhouette, 0..1."""
        return float(self.visible.sum()) / self.pixels if self.pixels else 0.0


def box_xywh(mask: Mask, corner_uv: tuple[int, int] = (0, 0)) -> tuple[int, int, int, int]:
    """Return BOP's box around a mask.

    Convention: x, y are the first column and row; x + w, y + h the last, so that one pixel has
    no width.

    :param corner_uv: pixel coordinates of the mask's first column and row.
    :return: -1 four times for an empty mask.
    """
    box = mask_box(mask)
    if box is None:
        return INVISIBLE
    x1, y1, x2, y2 = map(int, box)
    return x1 + corner_uv[0], y1 + corner_uv[1], x2 - x1 - 1, y2 - y1 - 1


def depth_step_mm(depth_m: NDArray[np.float32]) -> float:
    """Return the finest step of a depth image that reaches as far as the image does [mm]."""
    farthest_mm = float(depth_m.max()) / MM
    return next((step for step in DEPTH_STEPS_MM if farthest_mm <= step * MOST_STEPS),
                DEPTH_STEPS_MM[-1])


class SceneWriter:
    """Writes the images of one scene, and in :meth:`close` their annotations.

    :param folder: of the scene, named by its number; made with its parents.
    :param grey: write ``gray/*.tif`` of one channel instead of ``rgb/*.png``.
    """

    def __init__(self, folder: Path, camera: Camera, *, grey: bool = False) -> None:
        """Make the folders."""
        self.folder, self._camera, self._grey = folder, camera, grey
        self._images = folder / ('gray' if grey else 'rgb')
        for path in (self._images, *(folder / n for n in ('depth', 'mask', 'mask_visib'))):
            path.mkdir(parents=True)
        self._gt: dict[str, Any] = {}
        self._info: dict[str, Any] = {}
        self._cameras: dict[str, Any] = {}

    def write(self, image_id: int, image_rgb: NDArray[np.uint8], depth_m: NDArray[np.float32],
              T_camera_world: Array, instances: Sequence[Instance],
              timestamp_s: float | None = None) -> None:
        """Write one image.

        :param image_rgb: (H, W, 3) uint8.
        :param depth_m: (H, W) float32 [m], 0 where unknown.
        :param timestamp_s: of an image of a sequence; the entry ``timestamp`` of scene_camera,
            in seconds.
        :raises DatasetError: when a file cannot be written.
        """
        name = f'{image_id:06d}'
        code = cv2.COLOR_RGB2GRAY if self._grey else cv2.COLOR_RGB2BGR
        _save(self._images / (name + ('.tif' if self._grey else '.png')),
              cv2.cvtColor(image_rgb, code))
        step_mm = depth_step_mm(depth_m)
        # distances beyond the coarsest step are unknown, as beyond the range of a sensor
        steps = np.rint(depth_m / (step_mm * MM))
        steps = np.where(steps <= MOST_STEPS, steps, 0).astype(np.uint16)
        _save(self.folder / 'depth' / f'{name}.png', steps)
        for number, instance in enumerate(instances):
            file = f'{name}_{number:06d}.png'
            _save(self.folder / 'mask' / file, 255 * instance.mask.astype(np.uint8))
            _save(self.folder / 'mask_visib' / file, 255 * instance.visible.astype(np.uint8))
        key = str(image_id)
        self._gt[key] = [_pose_entry(i.T_camera_object, 'm2c') | {'obj_id': i.object_id}
                         for i in instances]
        self._info[key] = [_info_entry(i, steps > 0) for i in instances]
        self._cameras[key] = {'cam_K': self._camera.K.ravel().tolist(),
                              'depth_scale': step_mm, **_pose_entry(T_camera_world, 'w2c')}
        if timestamp_s is not None:
            self._cameras[key]['timestamp'] = timestamp_s

    def close(self) -> None:
        """Write the annotations of all images written so far."""
        for name, values in (('gt', self._gt), ('gt_info', self._info),
                             ('camera', self._cameras)):
            write_bop_json(self.folder / f'scene_{name}.json', values)


def write_models(folder: Path, objects: Mapping[int, ObjectModel],
                 symmetries: Mapping[int, Mapping[str, Any]]) -> None:
    """Write a models folder: meshes in millimetres and models_info.json with measured sizes.

    A PLY in millimetres is copied; anything else becomes one. Textures are beside it, each under
    a name of its own. An object that has a ``middle`` keeps it; BOP has no such entry.

    :param symmetries: entries of models_info.json by object id, in millimetres.
    :raises MeshError: when a mesh cannot be used.
    """
    folder.mkdir(parents=True)
    info = {}
    for object_id, model in objects.items():
        mesh = model.load_mesh()
        vertices = mesh.vertices / MM
        low, size = vertices.min(axis=0), np.ptp(vertices, axis=0)
        info[str(object_id)] = {
            'diameter': measure_diameter(vertices),
            **{f'min_{a}': float(v) for a, v in zip('xyz', low, strict=True)},
            **{f'size_{a}': float(v) for a, v in zip('xyz', size, strict=True)},
            **({'middle': (model.middle_m / MM).tolist()} if model.middle_m.any() else {}),
            **symmetries.get(object_id, {})}
        path = folder / f'obj_{object_id:06d}.ply'
        if model.mesh_path.suffix.lower() == '.ply' and model.unit_m == MM:
            copy_ply(model.mesh_path, path)
        else:
            write_ply(path, mesh, MM)
    write_bop_json(folder / MODELS_INFO, info)


def camera_entry(camera: Camera) -> dict[str, float]:
    """Return the content of a dataset's camera.json.

    The step of depth images is in scene_camera.json, because it differs between images.
    """
    K = camera.K
    return {'cx': float(K[0, 2]), 'cy': float(K[1, 2]),
            'fx': float(K[0, 0]), 'fy': float(K[1, 1]), 'height': camera.height,
            'width': camera.width}


def write_bop_json(path: Path, values: Any) -> None:
    """Write plain data as JSON."""
    path.write_text(json.dumps(values, indent=1, allow_nan=False) + '\n', encoding='utf-8')


def _pose_entry(T: Array, names: str) -> dict[str, list[float]]:
    return {f'cam_R_{names}': T[:3, :3].ravel().tolist(),
            f'cam_t_{names}': (T[:3, 3] / MM).tolist()}


def _info_entry(instance: Instance, known_depth: Mask) -> dict[str, Any]:
    seen = bool(instance.visible.any())
    return {
        'bbox_obj': list(instance.box_xywh if seen else INVISIBLE),
        'bbox_visib': list(box_xywh(instance.visible)),
        'px_count_all': instance.pixels,
        'px_count_valid': int((instance.mask & known_depth).sum()),
        'px_count_visib': int(instance.visible.sum()),
        'visib_fract': instance.visible_fraction,
    }


def _save(path: Path, pixels: NDArray[Any]) -> None:
    """Write an image file.

    :raises OSError: when it cannot be written; OpenCV itself does not tell when a disk is full.
    """
    done, data = cv2.imencode(path.suffix, pixels)
    if not done:
        raise DatasetError(f'{path}: {pixels.dtype} pixels cannot be written as {path.suffix}')
    path.write_bytes(data.tobytes())
