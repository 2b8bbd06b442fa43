"""One image of a BOP dataset with its annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError, ImageError
from ..geometry.camera import Camera
from ..geometry.se3 import Array
from ..reading.picture import read_depth, read_mask, read_rgb

# Of depth over the truth, for the middle of objects that are hardly hidden. The surface is in
# front of the origin and a ring shows what is behind it, but units differ by factors of ten.
DEPTH_RATIO, PLAIN_SIGHT, ENOUGH_PIXELS = 4.0, 0.7, 10


@dataclass(frozen=True)
class GroundTruth:
    """One annotated object instance in one image.

    :param object_id: BOP object number.
    :param instance: position in the image's list of annotations.
    :param T_camera_object: (4, 4) float64 [m], rotation projected onto SO(3).
    :param box_visib_xyxy: (4,) [px] around the visible pixels, None when none is visible.
    :param box_amodal_xyxy: (4,) [px] around the whole object, also outside the image.
    :param visible_fraction: visible pixels over all pixels of the object, 0..1.
    """

    object_id: int
    instance: int
    T_camera_object: Array
    box_visib_xyxy: Array | None
    box_amodal_xyxy: Array | None
    visible_fraction: float


@dataclass(frozen=True)
class BopFrame:
    """One image with its annotations; pixels are read on demand.

    :param ground_truth: empty when ``annotated`` is false.
    :param targets: how many instances of which object_id are to be found in the image.
    :param depth_unit_m: metres of one step of the depth image.
    :param annotated: whether its ground truth is public.
    :param targets_unknown: whether any object may be in the image; ``targets`` is empty then.
    """

    scene_id: int
    image_id: int
    image_path: Path
    camera: Camera
    ground_truth: tuple[GroundTruth, ...]
    targets: Mapping[int, int]
    depth_path: Path | None
    depth_unit_m: float
    annotated: bool = True
    targets_unknown: bool = False

    @property
    def has_depth(self) -> bool:
        """Whether there is a depth image."""
        return self.depth_path is not None

    def load_image(self) -> NDArray[np.uint8]:
        """Return the photograph, (H, W, 3) uint8 RGB; grey images are repeated.

        :raises ImageError: when the file cannot be decoded, or has more than 8 bits a channel.
        :raises DatasetError: when its size is not the camera's.
        """
        image = read_rgb(self.image_path)
        height, width = image.shape[:2]
        if (width, height) != (self.camera.width, self.camera.height):
            raise DatasetError(
                f'image {self.image_path}: is {width}x{height}, the camera is '
                f'{self.camera.width}x{self.camera.height}; check camera.json of the dataset'
            )
        return image

    def load_depth_m(self) -> NDArray[np.float32] | None:
        """Return the sensor's depth, (H, W) float32 [m], 0 where missing; None without a file.

        :raises ImageError: when the file cannot be decoded or is of another size than the image.
        """
        if self.depth_path is None:
            return None
        depth = read_depth(self.depth_path)
        self._require_size(f'depth image {self.depth_path}', depth.shape,
                           'register it to the image, or remove the depth folder')
        depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0)
        depth_m = np.asarray(depth * np.float64(self.depth_unit_m), dtype=np.float32)
        self._check_depth_unit(depth_m)
        return depth_m

    def _check_depth_unit(self, depth_m: NDArray[np.float32]) -> None:
        """Compare the depth of objects in plain sight with their distance.

        :raises ImageError: when the depth has another unit.
        """
        ratios = []
        for truth in self.ground_truth:
            if truth.box_visib_xyxy is None or truth.visible_fraction < PLAIN_SIGHT:
                continue
            x1, y1, x2, y2 = truth.box_visib_xyxy
            w, h = (x2 - x1) / 4, (y2 - y1) / 4
            (u1, v1), (u2, v2) = np.maximum([[x1 + w, y1 + h], [x2 - w, y2 - h]], 0).astype(int)
            inner = depth_m[v1:v2 + 1, u1:u2 + 1]
            if (inner > 0).sum() >= ENOUGH_PIXELS:
                ratios.append(np.median(inner[inner > 0]) / truth.T_camera_object[2, 3])
        ratio = float(np.median(ratios)) if ratios else 1.0
        if not 1 / DEPTH_RATIO <= ratio <= DEPTH_RATIO:
            raise ImageError(
                f'depth image {self.depth_path}: at the objects it is {ratio:.3g} times as far '
                'as in scene_gt.json; depth_scale of scene_camera.json must be the millimetres '
                f'of one step, and is {1e3 * self.depth_unit_m:g}')

    def load_mask(self, instance: int, *, visible: bool) -> NDArray[np.bool_] | None:
        """Return where an annotated object is, (H, W) bool; None without a file.

        :param instance: position in the image's list of annotations.
        :param visible: only where nothing is in front of it.
        :raises ImageError: when the file cannot be decoded or is of another size than the image.
        """
        path = self.image_path.parents[1] / ('mask_visib' if visible else 'mask') / (
            f'{self.image_id:06d}_{instance:06d}.png')
        if not path.is_file():
            return None
        mask = read_mask(path)
        self._require_size(f'mask {path}', mask.shape, 'extract the masks of the split again')
        return mask

    def _require_size(self, name: str, shape: tuple[int, ...], remedy: str) -> None:
        if shape != (self.camera.height, self.camera.width):
            raise ImageError(f'{name}: is {shape[1]}x{shape[0]}, its image is '
                             f'{self.camera.width}x{self.camera.height}; {remedy}')

    def target_ground_truth(self, advice: str = 'use a split with ground truth'
                            ) -> tuple[GroundTruth, ...]:
        """Return the instances that count: of each target object the most visible ones.

        Source: BOP'19 rules; as many instances as the targets file asks for.

        :param advice: what to do where there is none, for the message.
        :raises DatasetError: when the ground truth is not public.
        """
        if not self.annotated:
            raise DatasetError(
                f'{self.image_path.parents[1]}: has no scene_gt.json, so there are no boxes and '
                f'no scores; {advice}'
            )
        chosen: list[GroundTruth] = []
        for object_id, count in self.targets.items():
            candidates = [g for g in self.ground_truth if g.object_id == object_id]
            chosen += sorted(candidates, key=lambda g: -g.visible_fraction)[:count]
        return tuple(sorted(chosen, key=lambda g: g.instance))
