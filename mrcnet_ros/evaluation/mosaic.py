"""Pictures of many small images in labelled rows, and crops of photographs to put into them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..datasets.bop import BopDataset, BopFrame
from ..datasets.boxes import BoxSpec, TargetBox, target_boxes
from ..errors import BoxError, DatasetError
from ..geometry.crop import crop_camera
from ..geometry.sampling import sample_crop
from ..rendering.drawing import WHITE, Image, draw_text
from ..specs import CropSpec
from ..store.atomic import writing

ENLARGED = 2  # crops of 96 px are small on a screen
GAP_PX = 4  # between crops
# wide enough for the longest label of LM-O and 'training' below it
LABEL_PX = 110
HEADING_PX = 28  # one line of text
BACKGROUND = 64  # dark grey, on which dark and bright crops stand out


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a mosaic.

    :param images: (S, S, 3) uint8 RGB each, of one size in all rows.
    """

    lines: tuple[str, ...]
    images: Sequence[Image]


def real_crops(dataset: BopDataset, object_id: int, spec: CropSpec,
               rng: np.random.Generator) -> Iterator[Image]:
    """Yield the estimator's crops of photographs, in random order, each once."""
    places = [(frame, box) for frame in dataset.frames if object_id in frame.targets
              for box in target_boxes(frame, BoxSpec()) if box.ground_truth.object_id == object_id]
    for i in rng.permutation(len(places)):
        frame, box = places[i]
        crop = _crop(frame, box, spec)
        if crop is not None:
            yield crop


def _crop(frame: BopFrame, box: TargetBox, spec: CropSpec) -> Image | None:
    """Return the crop of a box, None when it is too small for one."""
    try:
        view = crop_camera(frame.camera, box.box_xyxy, spec)
    except BoxError:
        return None
    return sample_crop(frame.load_image(), frame.camera, view)


def draw_mosaic(rows: Sequence[Row], heading: str) -> Image:
    """Draw rows of images, each twice as large as it is, pixels left as they are.

    :param heading: one line above all rows.
    :return: (H, W, 3) uint8 RGB.
    :raises DatasetError: when there is no image.
    """
    sides = [image.shape[0] for row in rows for image in row.images]
    if not sides:
        raise DatasetError('there is no image to show: neither training nor dataset has one of '
                           'these objects')
    step = ENLARGED * sides[0] + GAP_PX
    most = max(len(row.images) for row in rows)
    picture = np.full((HEADING_PX + step * len(rows), LABEL_PX + step * most, 3), BACKGROUND,
                      np.uint8)
    draw_text(picture, (GAP_PX, HEADING_PX - GAP_PX), heading, WHITE)
    for number, row in enumerate(rows):
        top = HEADING_PX + step * number
        for i, line in enumerate(row.lines):
            draw_text(picture, (GAP_PX, top + 24 * (i + 1)), line, WHITE)
        for column, image in enumerate(row.images):
            left = LABEL_PX + step * column
            large = np.repeat(np.repeat(image, ENLARGED, 0), ENLARGED, 1)
            picture[top:top + large.shape[0], left:left + large.shape[1]] = large
    return picture


def check_name(path: Path) -> None:
    """Refuse a picture that would not be written as PNG.

    :raises DatasetError: when its name ends otherwise.
    """
    if path.suffix.lower() != '.png':
        raise DatasetError(f'{path}: pictures are written as PNG; give a name that ends in .png')


def write_picture(path: Path, picture: Image) -> None:
    """Write a PNG file, making its folder.

    :param picture: (H, W, 3) uint8 RGB.
    :raises DatasetError: when it cannot be written.
    """
    check_name(path)
    done, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise DatasetError(f'{path}: a picture of {picture.shape} {picture.dtype} is none')
    with writing(path):  # OpenCV itself does not tell when a disk is full
        path.write_bytes(data.tobytes())
