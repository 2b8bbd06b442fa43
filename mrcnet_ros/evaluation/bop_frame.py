"""One image of a BOP dataset with its annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError, ImageError
from ..geometry.camera import Camera
from ..geometry.se3 import Array


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

    def load_image(self) -> NDArray[np.uint8]:
        """Return the photograph, (H, W, 3) uint8 RGB; grey images are repeated.

        :raises ImageError: when the file cannot be decoded.
        :raises DatasetError: when its size is not the camera's.
        """
        image = cv2.imread(str(self.image_path), cv2.IMREAD_COLOR)
        if image is None:
            raise ImageError(
                f'image {self.image_path}: cannot be decoded; copy it again from the dataset'
            )
        height, width = image.shape[:2]
        if (width, height) != (self.camera.width, self.camera.height):
            raise DatasetError(
                f'image {self.image_path}: is {width}x{height}, the camera is '
                f'{self.camera.width}x{self.camera.height}; check camera.json of the dataset'
            )
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def load_depth_m(self) -> NDArray[np.float32] | None:
        """Return the sensor's depth, (H, W) float32 [m], 0 where missing; None without a file.

        :raises ImageError: when the file cannot be decoded.
        """
        if self.depth_path is None:
            return None
        depth = cv2.imread(str(self.depth_path), cv2.IMREAD_UNCHANGED)
        if depth is None or depth.ndim != 2:
            raise ImageError(
                f'depth image {self.depth_path}: cannot be decoded as one channel; '
                f'copy it again from the dataset or remove the depth folder'
            )
        return np.asarray(depth * np.float64(self.depth_unit_m), dtype=np.float32)

    def load_mask(self, instance: int, *, visible: bool) -> NDArray[np.bool_] | None:
        """Return where an annotated object is, (H, W) bool; None without a file.

        :param instance: position in the image's list of annotations.
        :param visible: only where nothing is in front of it.
        :raises ImageError: when the file cannot be decoded.
        """
        path = self.image_path.parents[1] / ('mask_visib' if visible else 'mask') / (
            f'{self.image_id:06d}_{instance:06d}.png')
        if not path.is_file():
            return None
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ImageError(f'mask {path}: cannot be decoded; copy it again from the dataset')
        return np.asarray(mask > 0)

    def target_ground_truth(self) -> tuple[GroundTruth, ...]:
        """Return the instances that count: of each target object the most visible ones.

        Source: BOP'19 rules; as many instances as the targets file asks for.

        :raises DatasetError: when the ground truth is not public.
        """
        if not self.annotated:
            raise DatasetError(
                f'{self.image_path.parents[1]}: has no scene_gt.json, so there are no boxes and '
                f'no scores; give the boxes of a detector with --detections, or use a split '
                f'with ground truth'
            )
        chosen: list[GroundTruth] = []
        for object_id, count in self.targets.items():
            candidates = [g for g in self.ground_truth if g.object_id == object_id]
            chosen += sorted(candidates, key=lambda g: -g.visible_fraction)[:count]
        return tuple(sorted(chosen, key=lambda g: g.instance))
