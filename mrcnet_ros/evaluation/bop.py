"""BOP datasets on disk: frames with their camera, ground truth and targets.

Convention: BOP files are in millimetres, everything that leaves this module is in metres.
Source: the BOP dataset format, bop.felk.cvut.cz.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError
from ..geometry.camera import Camera
from ..geometry.se3 import Array, make_transform, nearest_rotation
from ..specs import PAPER_DATASETS
from .bop_frame import BopFrame, GroundTruth
from .bop_results import ResultRow, ResultsWriter, read_results_csv, write_results_csv
from .bop_scene import MM, Scene, read_json, value

__all__ = [
    'BopDataset', 'BopFrame', 'GroundTruth',
    'ResultRow', 'ResultsWriter', 'read_results_csv', 'write_results_csv',
]

MIN_VISIBLE_FRACTION = 0.1
# where the images of the test set are, when not in ``test``
TEST_SPLITS = {'tless': 'test_primesense', 'hb': 'test_primesense'}
EVALUATION_MODELS = ('models_eval', 'models', 'models_cad')


class BopDataset:
    """A split of a BOP dataset: the images that have targets and are on disk.

    :param root: folder of datasets, the one that holds ``dataset``.
    :param dataset: name of the dataset's folder, such as ``lmo``.
    :param split: name of the split's folder; the dataset's test images by default, which are in
        ``test``, or ``test_primesense`` of T-LESS and HomebrewedDB.

    ``images_without_file`` counts the images that have targets and are not on disk; the log says
    so, because scores are then of a part of the split.

    :raises DatasetError: when a folder or file is missing or cannot be used.
    """

    def __init__(self, root: Path | str, dataset: str, split: str | None = None) -> None:
        """Read all annotations of the images to be evaluated, but no pixels.

        A split without any scene_gt.json is one whose ground truth is not public, as ITODD's
        test images.
        """
        self.path = Path(root) / dataset
        self.name, self.split = dataset, split or TEST_SPLITS.get(dataset, 'test')
        self._require_folders()
        folders = self._scene_folders()
        self.annotated = any((folder / name).exists() for folder in folders
                             for name in ('scene_gt.json', 'scene_gt_info.json'))
        targets = self._read_targets()
        if not targets and not self.annotated:
            raise DatasetError(f'{self.split_path}: has neither scene_gt.json nor '
                               f'{self._targets_path.name}; extract one of them')
        wanted = {scene_id for scene_id, _ in targets}
        size = self._image_size()
        scenes = {int(folder.name): Scene(folder, size, annotated=self.annotated)
                  for folder in folders if not wanted or int(folder.name) in wanted}
        targets = targets or _visible_targets(scenes.values())
        on_disk = {key: counts for key, counts in targets.items()
                   if key[0] in scenes and scenes[key[0]].image_path(key[1]) is not None}
        if not on_disk:
            raise DatasetError(
                f'{self.split_path}: none of the {len(targets)} images with targets is on disk; '
                f'extract the images of split {self.split!r} there'
            )
        self.images_without_file = len(targets) - len(on_disk)
        if self.images_without_file:
            logging.getLogger(__name__).warning(
                '%s: %d of %d images with targets are not on disk and are left out',
                self.split_path, self.images_without_file, len(targets))
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
        """Return the folder of the meshes to score with, the first of models_eval, models, _cad.

        :raises DatasetError: when none has a models_info.json.
        """
        for name in EVALUATION_MODELS:
            if (self.path / name / 'models_info.json').is_file():
                return self.path / name
        raise DatasetError(
            f'{self.path}: none of {", ".join(EVALUATION_MODELS)} holds a models_info.json; '
            f'extract the models of the dataset there'
        )

    @property
    def training_models_dir(self) -> Path:
        """Return the folder of the meshes that networks are trained with: T-LESS's models_cad."""
        known = PAPER_DATASETS.get(self.name)
        return self.path / ('models' if known is None else known.models)

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

    def _scene_folders(self) -> list[Path]:
        folders = sorted(p for p in self.split_path.iterdir() if p.is_dir() and p.name.isdigit())
        if not folders:
            raise DatasetError(
                f'{self.split_path}: no scene folder such as 000001; extract the split there'
            )
        return folders

    def _image_size(self) -> tuple[int, int] | None:
        """Return width and height of all images; None where the dataset has several cameras."""
        path = self.path / 'camera.json'
        if not path.is_file():
            return None
        camera = read_json(path)
        return int(value(camera, 'width', path)), int(value(camera, 'height', path))

    @property
    def _targets_path(self) -> Path:
        return self.path / f'{self.split.split("_")[0]}_targets_bop19.json'

    def _read_targets(self) -> dict[tuple[int, int], dict[int, int]]:
        path = self._targets_path
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
        if scene.annotated and present.count(object_id) < count:
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
        depth_unit_m=scene.depth_scale(image_id) * MM, annotated=scene.annotated,
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
