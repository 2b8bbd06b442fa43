"""The instances of a dataset that the paper preset is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....datasets.bop import read_frame
from ....datasets.bop_frame import BopFrame
from ....datasets.bop_scene import BopScene, json_whole, numbers
from ....datasets.bop_scene import json_number as number_of
from ....datasets.bop_units import check_places, check_units
from ....datasets.model_sizes import model_diameters_m, model_extents_m
from ....errors import DatasetError, SpecError
from ....geometry.se3 import POSE_TOLERANCE, Array, checked_rotation

# As published: smaller boxes and more hidden objects are not trained on.
MIN_BOX_PX = 10
MIN_VISIBLE_FRACTION = 0.1
CHECKED = 20  # images of each scene that tell units and conventions of its poses and boxes


@dataclass(frozen=True, eq=False)
class PaperIndex:
    """Annotated instances, as arrays: a dataset has a million of them.

    :param K: (images, 3, 3) intrinsics [px].
    :param image: (N,) int32 row of the instance's image.
    :param instance: (N,) int32 position in the image's list of annotations.
    :param class_index: (N,) int32.
    :param R: (N, 3, 3) float32 R_camera_object.
    :param t_mm: (N, 3) float32 t_camera_object.
    :param box_xywh: (N, 4) float32 around the visible pixels, as BOP has it [px].
    :param alike: (N,) int32 usable instances of the same object in the image.
    """

    image_paths: Sequence[Path]
    K: Array
    image: NDArray[np.int32]
    instance: NDArray[np.int32]
    class_index: NDArray[np.int32]
    R: NDArray[np.float32]
    t_mm: NDArray[np.float32]
    box_xywh: NDArray[np.float32]
    alike: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.image)

    def image_path(self, row: int) -> Path:
        """Return the file of an instance's image."""
        return self.image_paths[int(self.image[row])]

    def mask_path(self, row: int) -> Path:
        """Return the file of an instance's visible pixels."""
        image = self.image_path(row)
        name = f'{image.stem}_{self.instance[row]:06d}.png'
        return image.parents[1] / 'mask_visib' / name


class _Rows:
    """Gathers an index."""

    def __init__(self, object_ids: Sequence[int]) -> None:
        self.classes = {object_id: c for c, object_id in enumerate(object_ids)}
        self.image_paths: list[Path] = []
        self.K: list[Array] = []
        self.numbers: list[tuple[int, int, int, int]] = []
        self.R: list[Array] = []
        self.t_mm: list[Array] = []
        self.boxes: list[tuple[float, ...]] = []

    def add(self, scene: BopScene, image_id: int) -> None:
        """Take the usable instances of an image."""
        path = scene.image_path(image_id)
        if path is None:
            return
        usable = []
        for number, (entry, info) in enumerate(scene.annotations(image_id)):
            object_id = json_whole(entry, 'obj_id', scene.gt_path)
            box = tuple(float(x) for x in numbers(info, 'bbox_visib', 4, scene.info_path))
            seen = number_of(info, 'visib_fract', scene.info_path)
            if object_id in self.classes and min(box[2:]) > MIN_BOX_PX \
                    and seen >= MIN_VISIBLE_FRACTION:
                usable.append((number, entry, object_id, box))
        if not usable:
            return
        alike, matrices = Counter(object_id for _, _, object_id, _ in usable), []
        for number, entry, object_id, box in usable:
            self.numbers.append((len(self.image_paths), number, self.classes[object_id],
                                 alike[object_id]))
            matrices.append(scene.matrix(entry, 'cam_R_m2c', 9).reshape(3, 3))
            self.t_mm.append(scene.matrix(entry, 'cam_t_m2c', 3).astype(np.float32))
            self.boxes.append(box)
        try:
            self.R += list(checked_rotation(matrices, POSE_TOLERANCE, 'cam_R_m2c'))
        except SpecError as error:
            raise DatasetError(f'{scene.gt_path}: image {image_id}: {error}') from error
        self.image_paths.append(path)
        self.K.append(scene.intrinsics(image_id))

    def index(self) -> PaperIndex:
        """Return what was gathered."""
        image, instance, classes, alike = np.array(self.numbers, np.int32).T.copy()
        return PaperIndex(self.image_paths, np.array(self.K), image, instance, classes,
                          np.array(self.R, np.float32), np.array(self.t_mm),
                          np.array(self.boxes, np.float32), alike)


def read_index(dataset: Path, splits: Sequence[str], object_ids: Sequence[int]) -> PaperIndex:
    """List the instances that can be trained on: boxes over 10 px, a tenth visible or more.

    :param dataset: BOP dataset folder.
    :param object_ids: of the classes, in class order; other objects are left out.
    :raises DatasetError: when a folder or file is missing or damaged, poses and boxes of the
        first images do not fit together, or nothing can be used.
    """
    rows = _Rows(object_ids)
    diameters_m, extents_m = model_diameters_m(dataset), model_extents_m(dataset)
    for split in splits:
        frames: list[BopFrame] = []
        folders = sorted(p for p in (dataset / split).glob('*') if p.is_dir() and p.name.isdigit())
        if not folders:
            raise DatasetError(f'{dataset / split}: no scene folder such as 000000; extract the '
                               'split there, or correct splits in the training configuration')
        for folder in folders:
            scene = BopScene(folder, None)
            for image_id in scene.image_ids:
                rows.add(scene, image_id)
            shown = [i for i in scene.image_ids if scene.image_path(i) is not None]
            frames += [read_frame(scene, image_id, {}) for image_id in shown[:CHECKED]]
        check_units(frames, diameters_m, dataset / split)
        check_places(frames, extents_m, dataset / split)
    if not rows.numbers:
        raise DatasetError(
            f'{dataset}: none of the objects {list(object_ids)} can be trained on in '
            f'{list(splits)}: no image on disk shows one with a box over {MIN_BOX_PX} px, '
            f'{MIN_VISIBLE_FRACTION:.0%} visible')
    return rows.index()
