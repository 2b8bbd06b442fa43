"""Which objects of which images of a BOP dataset are to be found.

Source: files of targets of the BOP Challenge. That of 2019 names images, objects and how many of
them there are. That of 2024, of the detection task, names images alone: whatever is visible in
them is to be found.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import DatasetError
from .bop_scene import BopScene, json_number, json_whole, read_json

MIN_VISIBLE_FRACTION = 0.1  # BOP asks for no object of which less is visible
YEARS = ('bop19', 'bop24')
ImageKey = tuple[int, int]
Targets = dict[int, int]


def targets_path(dataset: Path, split: str) -> Path:
    """Return the file of targets of a split: 2019's, else 2024's where there is only that."""
    paths = [dataset / f'{split.split("_")[0]}_targets_{year}.json' for year in YEARS]
    return next((path for path in paths if path.is_file()), paths[0])


def read_targets(path: Path) -> dict[ImageKey, Targets | None]:
    """Read a file of targets.

    :return: by scene and image; objects with their count, or None for all that are visible.
    :raises DatasetError: when it is malformed or empty, or names an object of an image twice.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise DatasetError(f'{path}: expected a list of targets, found {type(entries).__name__}')
    if not entries:
        raise DatasetError(f'{path}: names no targets; extract the file again, or remove it to '
                           f'take all objects of which {MIN_VISIBLE_FRACTION:.0%} are visible')
    targets: dict[ImageKey, Targets | None] = {}
    for entry in entries:
        key = (json_whole(entry, 'scene_id', path), json_whole(entry, 'im_id', path))
        if YEARS[1] in path.name and 'obj_id' not in entry:
            targets[key] = None
            continue
        object_id, counts = json_whole(entry, 'obj_id', path), targets.setdefault(key, {})
        if counts is None or object_id in counts:
            raise DatasetError(f'{path}: object {object_id} of image {key[1]} of scene {key[0]} '
                               'is listed twice; extract the file again')
        counts[object_id] = json_whole(entry, 'inst_count', path)
        if not counts[object_id]:
            raise DatasetError(f'{path}: inst_count of object {object_id} of image {key[1]} of '
                               f'scene {key[0]} is 0; expected at least 1')
    return targets


def all_visible(scenes: Iterable[BopScene]) -> dict[ImageKey, Targets | None]:
    """Return every instance that is at least 10 % visible, where there is no file of targets."""
    found: dict[ImageKey, Targets | None] = {}
    for scene in scenes:
        for image_id in scene.image_ids:
            if counts := visible_targets(scene, image_id):
                found[scene.scene_id, image_id] = counts
    return found


def visible_targets(scene: BopScene, image_id: int) -> Targets:
    """Return how many instances of which object are at least 10 % visible in an image."""
    counts: Targets = {}
    for entry, info in scene.annotations(image_id):
        if json_number(info, 'visib_fract', scene.info_path) >= MIN_VISIBLE_FRACTION:
            object_id = json_whole(entry, 'obj_id', scene.gt_path)
            counts[object_id] = counts.get(object_id, 0) + 1
    return counts
