"""Detections from a file in BOP's format, instead of boxes made from ground truth.

Source: BOP Challenge, 2D detection task: a list of entries with ``scene_id``, ``image_id``,
``category_id``, ``score``, ``bbox`` (x, y, width, height), ``time`` and ``segmentation``.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError, SpecError
from ..geometry.crop import outside
from ..geometry.se3 import Array
from .bop_frame import BopFrame
from .bop_scene import json_number, json_whole, numbers, read_json, value
from .box_readings import best_overlaps, find_picture
from .boxes import FoundBox, mask_box
from .rle import decode_mask

DetectionBoxKind = Literal['bbox', 'mask']
_LARGEST_PART = 2.0  # of an image that a box in parts of it reaches to
# Boxes that tell corners from sizes: so many, of which this part ends that far beyond the image.
_ENOUGH, _MANY, _BEYOND = 5, 0.2, 1.05

# The part of boxes that must be within their images: some detectors do not clip theirs.
_NEARLY_ALL = 0.95
# The overlap (intersection over union) with detections that half of the objects reach, and the one
# that half of them reach where a scale and an offset are right that were made to fit.
_OVERLAP, _FITS = 0.4, 0.7
_MASKS = 100  # that are decoded to see whether they lie on the objects; each takes milliseconds

# A score outside 0 to 1 by at most this much is rounded and clipped; others are refused.
SCORE_ROUNDING = 1e-3


@dataclass(frozen=True)
class _Entry:
    """One detection of the file.

    :param time_s: the detector's time for the whole image, 0 when unknown.
    :param box_xyxy: (4,) [px], None where boxes are taken from masks.
    """

    object_id: int
    score: float
    time_s: float
    values: Mapping[str, Any]
    box_xyxy: Array | None


class DetectionFile:
    """Boxes of a detector, of each target object the best-scored ones.

    :param path: JSON file.
    :param kind: take boxes from ``bbox``, or around the mask of ``segmentation``.

    ``empty`` counts the boxes without an area, which are left out with a warning.

    :raises DatasetError: when the file is missing or malformed, or a score or box cannot be one.
    :raises SpecError: when the kind is another.
    """

    def __init__(self, path: Path, kind: DetectionBoxKind = 'bbox') -> None:
        """Read the file; masks are decoded when needed."""
        if kind not in ('bbox', 'mask'):
            raise SpecError(f'detection boxes must be of bbox or mask, got {kind!r}')
        self.path, self.kind = path, kind
        entries = read_json(path)
        if not isinstance(entries, list):
            raise DatasetError(f'{path}: expected a list of detections, found '
                               f'{type(entries).__name__}')
        self._by_image: dict[tuple[int, int], list[_Entry]] = {}
        self.empty = 0
        for position, values in enumerate(entries):
            key, entry = self._read(position, values)
            if entry.box_xyxy is not None and (entry.box_xyxy[2:] <= entry.box_xyxy[:2]).any():
                self.empty += 1
                continue
            self._by_image.setdefault(key, []).append(entry)
        self._check_unit()
        if self.empty:
            logging.getLogger(__name__).warning(
                '%s: %d of %d boxes have no area and are left out', path, self.empty,
                len(entries))

    def check(self, frames: Sequence[BopFrame], object_ids: Collection[int]) -> None:
        """Check that the file belongs to a dataset, and that its boxes follow BOP's convention.

        :raises DatasetError: when no detection is of an image of the dataset, one has category 0,
            none is of an object, boxes are x1, y1, x2, y2, have a centre or are of another
            picture, or masks cannot be used or run along the rows.
        """
        images = {(f.scene_id, f.image_id): f for f in frames}
        here = [(frame, e) for key, frame in images.items() for e in self._by_image.get(key, [])]
        if not here:
            raise DatasetError(
                f'{self.path}: none of its {sum(map(len, self._by_image.values()))} detections is '
                f'of one of the {len(frames)} images, such as image {frames[0].image_id} of scene '
                f'{frames[0].scene_id}; give the file of this dataset and split')
        unknown = Counter(e.object_id for _, e in here if e.object_id not in object_ids)
        if 0 in unknown or sum(unknown.values()) == len(here):
            raise DatasetError(
                f'{self.path}: {sum(unknown.values())} of {len(here)} detections have the '
                f'categories {sorted(unknown)}, but the objects of the dataset are '
                f'{sorted(object_ids)}; category_id is the number of the object in BOP, which '
                'counts from 1')
        if unknown:
            logging.getLogger(__name__).warning(
                '%s: %d of %d detections are of objects %s, which the dataset does not have; they '
                'are left out', self.path, sum(unknown.values()), len(here), sorted(unknown))
        if self.kind == 'mask':
            self._check_masks(here)
            return
        boxes = [(frame, e, e.box_xyxy) for frame, e in here if e.box_xyxy is not None]
        if len(boxes) >= _ENOUGH:
            self._check_convention(boxes)

    def _check_masks(self, here: Sequence[tuple[BopFrame, _Entry]]) -> None:
        """Refuse masks whose runs go along the rows. Masks that lie on no object are told.

        All masks of targets count, of images from the whole split.
        """
        wanted = [(f, e) for f, e in here if f.ground_truth and e.object_id in f.targets]
        images = list(dict.fromkeys((f.scene_id, f.image_id) for f, _ in wanted))
        step = max(1, len(wanted) // _MASKS)
        chosen = set(images[::step])
        found, boxes = [], []
        for frame, entry in wanted:
            if (frame.scene_id, frame.image_id) in chosen:
                mask = self._mask(entry, frame)
                readings = [mask_box(m) for m in (mask, mask.T.reshape(mask.shape))]
                if readings[0] is not None:
                    found.append((frame, entry.object_id))
                    boxes.append(readings)
        if len(found) < _ENOUGH:
            return
        overlaps = best_overlaps(found, np.array(boxes))
        if not len(overlaps):  # nothing of these objects is visible
            return
        given, rows = np.median(overlaps, axis=0)
        if given < _OVERLAP <= rows:
            raise DatasetError(
                f'{self.path}: counts of a segmentation must run down the columns, as those of '
                'COCO do; here they seem to run along the rows, because then the masks overlap '
                f'the objects of the ground truth by {rows:.2f} in place of {given:.2f} (median)')
        self._tell_little('masks', given)

    def _check_convention(self, found: Sequence[tuple[BopFrame, _Entry, Array]]) -> None:
        """Refuse boxes that are right only when read as centre and size, corners, or elsewhere.

        They are compared with the ground truth if it is known, and otherwise with the borders of
        the images. Boxes that hardly lie on objects in any reading are told.
        """
        boxes = np.array([box for _, _, box in found])
        objects = [(frame, entry.object_id) for frame, entry, _ in found]
        sides = boxes[:, 2:] - boxes[:, :2]
        centres = boxes - np.tile(sides / 2, 2)
        corners = np.concatenate([boxes[:, :2], sides], axis=1)
        readings = {'the centre, width, height': (centres, _OVERLAP),
                    'x1, y1, x2, y2': (corners, _OVERLAP)}
        picture = find_picture(objects, [entry.score for _, entry, _ in found], boxes)
        if picture is not None:
            readings[str(picture)] = picture.in_image(boxes), _FITS
        overlaps = best_overlaps(
            objects, np.stack([boxes, *(read for read, _ in readings.values())], axis=1))
        if len(overlaps):
            given, *others = np.median(overlaps, axis=0)
            wrong = [given < _OVERLAP and other == max(others) and other >= least
                     for other, (_, least) in zip(others, readings.values(), strict=True)]
            why = (f'overlap the objects of the ground truth by {max(others):.2f} in place of '
                   f'{given:.2f} (median)')
            if not any(wrong):
                self._tell_little('boxes', given)
        else:
            size = np.array([(f.camera.width, f.camera.height) for f, _, _ in found])
            beyond = boxes[:, 2:] - size
            wrong = [_within(centres, size) == 1
                     and (beyond > 2).any(axis=1).mean() > _MANY / 2,
                     _within(corners, size) > _NEARLY_ALL
                     and (boxes[:, 2:] > _BEYOND * size).any(axis=1).mean() > _MANY]
            why = 'fit into their images'
        for reading, is_so in zip(readings, wrong, strict=True):
            if is_so:
                raise DatasetError(
                    f'{self.path}: bbox must be x, y, width, height with x, y of the upper left '
                    f'corner, in pixels of the image; here it seems to be {reading}, because then '
                    f'the {len(found)} boxes {why}')

    def _tell_little(self, what: str, overlap: float) -> None:
        """Warn of detections that hardly lie on the objects of the ground truth."""
        if overlap < _OVERLAP:
            logging.getLogger(__name__).warning(
                '%s: the %s hardly lie on the objects of the ground truth (median overlap %.2f); '
                'are they of other objects, or in pixels of another picture, such as the input of '
                "the detector's network?", self.path, what, overlap)

    def find(self, frame: BopFrame) -> list[FoundBox]:
        """Return as many boxes of each target object as there are instances, best first.

        Without known targets, return all boxes of the image. Boxes wholly outside the image are
        left out before the best are chosen.

        :raises DatasetError: when a box or mask cannot be used.
        """
        found = []
        entries = self._by_image.get((frame.scene_id, frame.image_id), [])
        targets = (Counter(e.object_id for e in entries) if frame.targets_unknown
                   else frame.targets)
        for object_id, count in sorted(targets.items()):
            own = sorted((e for e in entries if e.object_id == object_id), key=lambda e: -e.score)
            boxes = (self._box(e, frame) for e in own)
            inside = (b for b in boxes if b is not None
                      and not outside(b, frame.camera.width, frame.camera.height))
            found += [FoundBox(object_id, box) for box in itertools.islice(inside, count)]
        return found

    def seconds(self, frame: BopFrame) -> float:
        """Return the detector's time for an image, 0 when unknown."""
        entries = self._by_image.get((frame.scene_id, frame.image_id), [])
        return max((e.time_s for e in entries), default=0.0)

    def _read(self, position: int, values: Any) -> tuple[tuple[int, int], _Entry]:
        """Return the image and the detection of an entry.

        :raises DatasetError: naming its position.
        """
        try:
            scene_id, image_id, object_id = (json_whole(values, k, self.path)
                                             for k in ('scene_id', 'image_id', 'category_id'))
            score = json_number(_clipped(values), 'score', self.path, 0.0, 1.0)
            time_s = 0.0
            if values.get('time') is not None:
                time_s = json_number(values, 'time', self.path)
            box = None
            if self.kind == 'bbox':
                x, y, width, height = numbers(values, 'bbox', 4, self.path)
                if width < 0 or height < 0:
                    raise DatasetError(f'{self.path}: bbox must be x, y, width, height, got '
                                       f'{values["bbox"]}')
                box = np.array([x, y, x + width, y + height])
        except DatasetError as error:
            raise DatasetError(f'{error} (detection {position}, counted from 0)') from error
        return (scene_id, image_id), _Entry(object_id, score, max(time_s, 0.0), values, box)

    def _check_unit(self) -> None:
        """Refuse boxes in parts of the image instead of pixels."""
        boxes = [e.box_xyxy for entries in self._by_image.values() for e in entries
                 if e.box_xyxy is not None]
        if boxes and float(np.abs(boxes).max()) <= _LARGEST_PART:
            raise DatasetError(f'{self.path}: no box reaches beyond {_LARGEST_PART:g} px; bbox '
                               'must be in pixels, not in fractions of the image')

    def _box(self, entry: _Entry, frame: BopFrame) -> Array | None:
        """Return x1, y1, x2, y2; None for an empty mask."""
        return mask_box(self._mask(entry, frame)) if entry.box_xyxy is None else entry.box_xyxy

    def _mask(self, entry: _Entry, frame: BopFrame) -> NDArray[np.bool_]:
        """Return a mask, (H, W) bool.

        :raises DatasetError: when it cannot be used, or has not the size of the image.
        """
        try:
            mask = decode_mask(value(entry.values, 'segmentation', self.path))
        except DatasetError as error:
            raise DatasetError(f'{self.path}: image {frame.image_id} of scene {frame.scene_id}: '
                               f'{error}') from error
        if mask.shape != (frame.camera.height, frame.camera.width):
            raise DatasetError(
                f'{self.path}: a mask of image {frame.image_id} of scene {frame.scene_id} is of '
                f'{mask.shape[1]}x{mask.shape[0]} pixels, the image of '
                f'{frame.camera.width}x{frame.camera.height}')
        return mask


def _within(boxes: Array, size: Array) -> float:
    """Return which part of boxes (N, 4) lies in images of a size (N, 2), corners in order [px]."""
    inside = (boxes[:, :2] > -1) & (boxes[:, :2] <= boxes[:, 2:]) & (boxes[:, 2:] <= size + 1)
    return float(inside.all(axis=1).mean())


def _clipped(values: Any) -> Any:
    """Clip a score that is slightly outside 0 to 1, as sums of float32 cosines can be."""
    score = values.get('score') if isinstance(values, dict) else None
    if isinstance(score, float) and -SCORE_ROUNDING <= score <= 1 + SCORE_ROUNDING:
        return {**values, 'score': min(max(score, 0.0), 1.0)}
    return values
