"""BOP datasets on disk: frames with their camera, ground truth and targets.

Convention: BOP files are in millimetres, everything that leaves this module is in metres.
Source: the BOP dataset format, bop.felk.cvut.cz.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError, ImageError
from ..geometry.camera import Camera
from ..geometry.se3 import Array, make_transform, nearest_rotation
from .bop_results import ResultRow, ResultsWriter, read_results_csv, write_results_csv
from .bop_scene import MM, Scene, read_json, value

__all__ = [
    'BopDataset', 'BopFrame', 'GroundTruth',
    'ResultRow', 'ResultsWriter', 'read_results_csv', 'write_results_csv',
]

MIN_VISIBLE_FRACTION = 0.1


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

    :param targets: how many instances of which object_id are to be found in the image.
    :param depth_unit_m: metres of one step of the depth image.
    """

    scene_id: int
    image_id: int
    image_path: Path
    camera: Camera
    ground_truth: tuple[GroundTruth, ...]
    targets: Mapping[int, int]
    depth_path: Path | None
    depth_unit_m: float

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

    def target_ground_truth(self) -> tuple[GroundTruth, ...]:
        """Return the instances that count: of each target object the most visible ones.

        Source: BOP'19 rules; as many instances as the targets file asks for.
        """
        chosen: list[GroundTruth] = []
        for object_id, count in self.targets.items():
            candidates = [g for g in self.ground_truth if g.object_id == object_id]
            chosen += sorted(candidates, key=lambda g: -g.visible_fraction)[:count]
        return tuple(sorted(chosen, key=lambda g: g.instance))


class BopDataset:
    """A split of a BOP dataset: the images that have targets and are on disk.

    :param root: folder of datasets, the one that holds ``dataset``.
    :param dataset: name of the dataset's folder, such as ``lmo``.
    :param split: name of the split's folder, such as ``test`` or ``test_primesense``.
    :raises DatasetError: when a folder or file is missing or cannot be used.
    """

    def __init__(self, root: Path | str, dataset: str, split: str) -> None:
        """Read all annotations of the images to be evaluated, but no pixels."""
        self.path = Path(root) / dataset
        self.name, self.split = dataset, split
        self._require_folders()
        scenes = self._scenes()
        targets = self._read_targets() or _visible_targets(scenes.values())
        on_disk = {key: counts for key, counts in targets.items()
                   if key[0] in scenes and scenes[key[0]].image_path(key[1]) is not None}
        if not on_disk:
            raise DatasetError(
                f'{self.split_path}: none of the {len(targets)} images with targets is on disk; '
                f'extract the images of split {split!r} there'
            )
        self.images_without_file = len(targets) - len(on_disk)
        self.frames = tuple(_frame(scenes[scene_id], image_id, on_disk[scene_id, image_id])
                            for scene_id, image_id in sorted(on_disk))

    @property
    def split_path(self) -> Path:
        """Return the folder of the split's scenes."""
        return self.path / self.split

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Return the objects that are targets in some image, sorted."""
        return tuple(sorted({i for frame in self.frames for i in frame.targets}))

    @property
    def models_dir(self) -> Path:
        """Return the folder of the meshes to score with: models_eval, or models without it.

        :raises DatasetError: when neither has a models_info.json.
        """
        for name in ('models_eval', 'models'):
            if (self.path / name / 'models_info.json').is_file():
                return self.path / name
        raise DatasetError(
            f'{self.path}: neither models_eval/ nor models/ holds a models_info.json; '
            f'extract the models of the dataset there'
        )

    def _require_folders(self) -> None:
        if not self.path.is_dir():
            raise DatasetError(
                f'{self.path}: no such dataset folder; --bop-dir must be the folder that '
                f'contains {self.name!r}'
            )
        if not self.split_path.is_dir():
            known = sorted(p.name for p in self.path.iterdir() if p.is_dir())
            raise DatasetError(
                f'{self.split_path}: no such split; the dataset has the folders {known}'
            )

    def _scenes(self) -> dict[int, Scene]:
        camera_path = self.path / 'camera.json'
        size: tuple[int, int] | None = None
        if camera_path.is_file():
            camera = read_json(camera_path)
            size = int(value(camera, 'width', camera_path)), int(
                value(camera, 'height', camera_path))
        folders = sorted(p for p in self.split_path.iterdir() if p.is_dir() and p.name.isdigit())
        if not folders:
            raise DatasetError(
                f'{self.split_path}: no scene folder such as 000001; extract the split there'
            )
        return {int(folder.name): Scene(folder, size) for folder in folders}

    def _read_targets(self) -> dict[tuple[int, int], dict[int, int]]:
        path = self.path / f'{self.split.split("_")[0]}_targets_bop19.json'
        if not path.is_file():
            return {}
        targets: dict[tuple[int, int], dict[int, int]] = {}
        for entry in read_json(path):
            key = (int(value(entry, 'scene_id', path)), int(value(entry, 'im_id', path)))
            object_id = int(value(entry, 'obj_id', path))
            targets.setdefault(key, {})[object_id] = int(value(entry, 'inst_count', path))
        return targets


def _visible_targets(scenes: Iterable[Scene]) -> dict[tuple[int, int], dict[int, int]]:
    """Without a targets file every instance that is at least 10 % visible is a target."""
    targets: dict[tuple[int, int], dict[int, int]] = {}
    for scene in scenes:
        for image_id in scene.image_ids:
            for entry, info in scene.annotations(image_id):
                if float(value(info, 'visib_fract', scene.info_path)) < MIN_VISIBLE_FRACTION:
                    continue
                counts = targets.setdefault((scene.scene_id, image_id), {})
                object_id = int(value(entry, 'obj_id', scene.gt_path))
                counts[object_id] = counts.get(object_id, 0) + 1
    return targets


def _frame(scene: Scene, image_id: int, targets: Mapping[int, int]) -> BopFrame:
    image_path = scene.image_path(image_id)
    assert image_path is not None
    annotations = scene.annotations(image_id)
    present = [int(value(entry, 'obj_id', scene.gt_path)) for entry, _ in annotations]
    for object_id, count in targets.items():
        if present.count(object_id) < count:
            raise DatasetError(
                f'{scene.gt_path}: image {image_id} has {present.count(object_id)} instances of '
                f'object {object_id}, the targets file asks for {count}; the files are of '
                f'different releases'
            )
    width, height = scene.image_size(image_path)
    return BopFrame(
        scene_id=scene.scene_id, image_id=image_id, image_path=image_path,
        camera=Camera(scene.intrinsics(image_id), width, height),
        ground_truth=tuple(_ground_truth(scene, i, entry, info)
                           for i, (entry, info) in enumerate(annotations)),
        targets=dict(targets), depth_path=scene.depth_path(image_id),
        depth_unit_m=scene.depth_scale(image_id) * MM,
    )


def _ground_truth(
    scene: Scene, instance: int, entry: Mapping[str, Any], info: Mapping[str, Any],
) -> GroundTruth:
    R = scene.matrix(entry, 'cam_R_m2c', 9).reshape(3, 3)
    return GroundTruth(
        object_id=int(value(entry, 'obj_id', scene.gt_path)), instance=instance,
        T_camera_object=make_transform(
            nearest_rotation(R), scene.matrix(entry, 'cam_t_m2c', 3) * MM),
        box_visib_xyxy=_box_xyxy(value(info, 'bbox_visib', scene.info_path)),
        box_amodal_xyxy=_box_xyxy(value(info, 'bbox_obj', scene.info_path)),
        visible_fraction=float(value(info, 'visib_fract', scene.info_path)),
    )


def _box_xyxy(box_xywh: Iterable[float]) -> Array | None:
    """Return x1, y1, x2, y2; None for BOP's mark of an invisible object (negative width).

    BOP's width is that between the first and the last pixel, one short of the edges around both
    (calc_2d_bbox of the BOP toolkit); on LM-O, the silhouettes of the meshes reach that far.
    """
    x, y, width, height = (float(v) for v in box_xywh)
    if width < 0 or height < 0:
        return None
    return np.array([x, y, x + width + 1, y + height + 1])
