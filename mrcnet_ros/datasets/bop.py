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

from ..errors import DatasetError, SpecError
from ..geometry.camera import Camera
from ..geometry.se3 import POSE_TOLERANCE, Array, checked_rotation, make_transform
from ..objects.object_files import MODELS_INFO, SYMMETRY_FIELDS
from .bop_frame import BopFrame, GroundTruth
from .bop_results import ResultRow, ResultsWriter, read_results_csv, write_results_csv
from .bop_scene import MM, BopScene, json_number, json_whole, numbers, read_json
from .bop_targets import (
    MIN_VISIBLE_FRACTION,
    Targets,
    all_visible,
    read_targets,
    targets_path,
    visible_targets,
)
from .bop_units import check_places, check_units
from .catalogue import facts_of
from .model_sizes import EVALUATION_MODELS, model_diameters_m, model_extents_m, models_info_of
from .same_objects import KnownObject, require_same_objects

__all__ = [
    'MIN_VISIBLE_FRACTION', 'BopDataset', 'BopFrame', 'GroundTruth',
    'ResultRow', 'ResultsWriter', 'read_results_csv', 'write_results_csv',
]

# File in a split that mrcnet synth rendered, and parts of the names of BOP's rendered splits.
RENDERED_FILE, RENDERED_SPLITS = 'rendered.json', {'pbr', 'render', 'synt'}


class BopDataset:
    """A split of a BOP dataset: the images that have targets and are on disk.

    :param root: folder of datasets, the one that holds ``dataset``.
    :param dataset: name of the dataset's folder, such as ``lmo``.
    :param split: name of the split's folder; the dataset's test images by default, which are in
        ``test``, or ``test_primesense`` of T-LESS and HomebrewedDB.
    :param empty: whether also to take annotated images in which nothing is visible by a tenth;
        they have no targets.

    ``images_without_file`` counts the images that have targets and are not on disk. The log warns
    of them, because scores then cover a part of the split.

    :raises DatasetError: when a folder or file is missing or cannot be used.
    """

    def __init__(self, root: Path | str, dataset: str, split: str | None = None, *,
                 empty: bool = False) -> None:
        """Read all annotations of the images to be evaluated, but no pixels.

        A split without any scene_gt.json is one whose ground truth is not public, as ITODD's
        test images.
        """
        # a shell that completes names adds a slash, and other files have the names without
        dataset = dataset.rstrip('/')
        self.path = Path(root) / dataset
        self.name, self.split = dataset, (split or facts_of(dataset).test_split).rstrip('/')
        self._require_folders()
        folders = self._scene_folders()
        self.annotated = any((folder / name).exists() for folder in folders.values()
                             for name in ('scene_gt.json', 'scene_gt_info.json'))
        wanted = read_targets(self._targets_path) if self._targets_path.is_file() else {}
        if not wanted and not self.annotated:
            raise DatasetError(f'{self.split_path}: has neither scene_gt.json nor '
                               f'{self._targets_path.name}; extract one of them')
        scene_ids, size = {scene_id for scene_id, _ in wanted}, self._image_size()
        scenes = {number_: BopScene(folder, size, annotated=self.annotated,
                                    depth_scale=self._depth_scale())
                  for number_, folder in folders.items() if not wanted or number_ in scene_ids}
        targets = wanted or all_visible(scenes.values())
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
        if empty:
            on_disk |= {(scene.scene_id, i): {} for scene in scenes.values()
                        for i in scene.image_ids if scene.image_path(i) is not None
                        and (scene.scene_id, i) not in targets and not visible_targets(scene, i)}
        self.frames = tuple(
            read_frame(scenes[scene_id], image_id, on_disk[scene_id, image_id])
            for scene_id, image_id in sorted(on_disk))
        check_units(self.frames, model_diameters_m(self.path), self.split_path)
        check_places(self.frames, model_extents_m(self.path), self.split_path)

    @property
    def split_path(self) -> Path:
        """Return the folder of the split's scenes."""
        return self.path / self.split

    @property
    def rendered(self) -> bool:
        """Return whether the images are rendered, so that objects are as large as their meshes."""
        return (self.split_path / RENDERED_FILE).is_file() or any(
            part in self.split for part in RENDERED_SPLITS)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Return the objects that are targets in some image, sorted; all if that is unknown."""
        if any(frame.targets_unknown for frame in self.frames):
            return tuple(sorted(model_diameters_m(self.path)))
        return tuple(sorted({i for frame in self.frames for i in frame.targets}))

    @property
    def known_object_ids(self) -> tuple[int, ...]:
        """Return all objects that have a model or are in an image, sorted."""
        seen = {truth.object_id for frame in self.frames for truth in frame.ground_truth}
        return tuple(sorted({*self.object_ids, *models_info_of(self.path)[1], *seen}))

    def require_objects(self, known: Iterable[KnownObject], who: str = 'the model', *,
                        poses: bool = True) -> None:
        """Make sure that some of the targets are known, and as the same objects.

        :param who: knows the objects, for the message.
        :param poses: whether poses are compared with the ground truth.
        :raises DatasetError: when none is known, or one is of another size, or, with ``poses``,
            in another frame.
        """
        extents_m = model_extents_m(self.path)
        shown = {i: KnownObject(i, self.name_of(i), diameter_m, extents_m.get(i))
                 for i, diameter_m in model_diameters_m(self.path).items()}
        require_same_objects(known, shown, self.object_ids, self.path, who, poses=poses)

    def name_of(self, object_id: int) -> str:
        """Return what an object of this dataset is called."""
        names = facts_of(self.name).names
        return names[object_id - 1] if 0 < object_id <= len(names) else f'obj_{object_id:06d}'

    @property
    def symmetric_ids(self) -> tuple[int, ...]:
        """Return the objects whose models_info.json states symmetries, sorted."""
        return tuple(sorted(i for i, entry in models_info_of(self.path)[1].items()
                            if any(entry.get(name) for name in SYMMETRY_FIELDS)))

    @property
    def models_dir(self) -> Path:
        """Return the folder of the meshes to score with, the first of models_eval, models, _cad.

        :raises DatasetError: when none has a models_info.json.
        """
        for name in EVALUATION_MODELS:
            if (self.path / name / MODELS_INFO).is_file():
                return self.path / name
        raise DatasetError(
            f'{self.path}: none of {", ".join(EVALUATION_MODELS)} holds a models_info.json; '
            f'extract the models of the dataset there'
        )

    @property
    def training_models_dir(self) -> Path:
        """Return the folder of the meshes that networks are trained with: T-LESS's models_cad."""
        return self.path / facts_of(self.name).training_models

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

    def _scene_folders(self) -> dict[int, Path]:
        folders: dict[int, Path] = {}
        for path in sorted(self.split_path.iterdir()):
            if not path.is_dir() or not path.name.isdigit():
                continue
            if int(path.name) in folders:
                raise DatasetError(f'{self.split_path}: {folders[int(path.name)].name} and '
                                   f'{path.name} are both scene {int(path.name)}; remove one')
            folders[int(path.name)] = path
        if not folders:
            raise DatasetError(
                f'{self.split_path}: no scene folder such as 000001; extract the split there'
            )
        for path in folders.values():
            several = sorted(p.name for p in path.glob('scene_camera_*.json'))
            if several and not (path / 'scene_camera.json').exists():
                raise DatasetError(
                    f'{path}: has {", ".join(several)}; scenes of several cameras are not read: '
                    'make a scene folder for each camera, with scene_camera.json, scene_gt.json, '
                    'scene_gt_info.json and rgb')
        return folders

    def _image_size(self) -> tuple[int, int] | None:
        """Return width and height of all images; None where the dataset has several cameras."""
        path = self.path / 'camera.json'
        if not path.is_file():
            return None
        camera = read_json(path)
        return json_whole(camera, 'width', path), json_whole(camera, 'height', path)

    def _depth_scale(self) -> float:
        """Return the millimetres of one step of depth images, 1 when not stated."""
        path = self.path / 'camera.json'
        camera = read_json(path) if path.is_file() else {}
        return (json_number(camera, 'depth_scale', path, low=1e-9) if 'depth_scale' in camera
                else 1.0)

    @property
    def _targets_path(self) -> Path:
        return targets_path(self.path, self.split)


def read_frame(scene: BopScene, image_id: int, wanted: Targets | None) -> BopFrame:
    """Return an image that is on disk.

    :param wanted: None for all that are visible.
    :raises DatasetError: when its files do not fit together.
    """
    targets = visible_targets(scene, image_id) if wanted is None else wanted
    image_path = scene.image_path(image_id)
    assert image_path is not None
    annotations = scene.annotations(image_id)
    present = [json_whole(entry, 'obj_id', scene.gt_path) for entry, _ in annotations]
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
        targets=dict(targets), targets_unknown=wanted is None and not scene.annotated,
        depth_path=scene.depth_path(image_id),
        depth_unit_m=scene.depth_scale(image_id) * MM, annotated=scene.annotated,
    )


def _ground_truth(scene: BopScene, instance: int, entry: Mapping[str, Any], info: Mapping[str, Any]
                  ) -> GroundTruth:
    try:
        R = checked_rotation(scene.matrix(entry, 'cam_R_m2c', 9).reshape(3, 3), POSE_TOLERANCE,
                             'cam_R_m2c')
    except SpecError as error:
        raise DatasetError(f'{scene.gt_path}: annotation {instance} of object '
                           f'{entry.get("obj_id")}: {error}') from error
    return GroundTruth(
        object_id=json_whole(entry, 'obj_id', scene.gt_path), instance=instance,
        T_camera_object=make_transform(R, scene.matrix(entry, 'cam_t_m2c', 3) * MM),
        box_visib_xyxy=_box_xyxy(numbers(info, 'bbox_visib', 4, scene.info_path)),
        box_amodal_xyxy=_box_xyxy(numbers(info, 'bbox_obj', 4, scene.info_path)),
        # now and then one is a little above 1, where the two counts of pixels differ
        visible_fraction=json_number(info, 'visib_fract', scene.info_path, 0.0, 1.1),
    )


def _box_xyxy(box_xywh: Array) -> Array | None:
    """Return x1, y1, x2, y2; None for BOP's mark of an invisible object (negative width).

    BOP's width is that between the first and the last pixel, one short of the edges around both
    (calc_2d_bbox of the BOP toolkit); on LM-O, the silhouettes of the meshes reach that far.
    """
    x, y, width, height = box_xywh
    if width < 0 or height < 0:
        return None
    return np.array([x, y, x + width + 1, y + height + 1])
