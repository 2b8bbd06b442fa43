"""Converts images of datasets to moments of a bag, and moments of a bag for scoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rclpy.serialization import serialize_message

from ..datasets.bop import BopFrame, GroundTruth, ResultRow
from ..datasets.boxes import BoxSpec, target_boxes
from ..errors import DatasetError
from ..geometry.se3 import Array
from ..inference.poses import Detection
from ..ros.messages import header_at
from .bag import BagFrame, Truth
from .input_messages import OPTICAL_FRAME, frame_messages
from .replay import ReceivedPoses

Answers = Sequence[ReceivedPoses | None]
NOWHERE = -1  # scene of an image in which nothing is to be found: no dataset has one


def bag_detections(frame: BopFrame, boxes: BoxSpec, labels: Mapping[int, str]) -> list[Detection]:
    """Return what a detector finds in an image.

    :param labels: by object id; others are not detected.
    """
    return [Detection(labels[t.ground_truth.object_id], t.box_xyxy)
            for t in target_boxes(frame, boxes) if t.ground_truth.object_id in labels]


def bag_truths(frame: BopFrame, labels: Mapping[int, str]) -> list[Truth]:
    """Return what is to be found in an image.

    :param labels: by object id; others get their number as a label.
    """
    return [Truth(labels.get(g.object_id, f'obj_{g.object_id:06d}'),
                  f'{frame.scene_id}/{frame.image_id}/{g.object_id}/{g.instance}',
                  g.T_camera_object, g.visible_fraction)
            for g in frame.target_ground_truth()]


def bag_frame(frame: BopFrame, stamp: int, boxes: BoxSpec, labels: Mapping[int, str]) -> BagFrame:
    """Return an image as a moment of a bag.

    :param stamp: [ns].
    :param labels: by object id.
    """
    inputs = frame_messages(header_at(stamp, OPTICAL_FRAME), frame.load_image(), frame.camera,
                            bag_detections(frame, boxes, labels))
    return BagFrame(stamp, {topic: serialize_message(m) for topic, m in inputs.items()},
                    bag_truths(frame, labels))


def bop_frames(bag: Path, frames: Sequence[BagFrame]) -> list[BopFrame]:
    """Return the images for scoring; their pixels stay in the bag.

    :raises DatasetError: when one has no ground truth, or two are the same.
    """
    images = [_bop_frame(bag, number, frame) for number, frame in enumerate(frames)]
    seen: set[tuple[int, int]] = set()
    for image in images:
        key = image.scene_id, image.image_id
        if key in seen:
            raise DatasetError(f'bag {bag}: image {key[1]} of scene {key[0]} is there twice; was '
                               'it recorded from a bag that was looped?')
        seen.add(key)
    return images


def _bop_frame(bag: Path, number: int, frame: BagFrame) -> BopFrame:
    if frame.truths is None:
        raise DatasetError(f'bag {bag}: no /ground_truth at {frame.stamp_ns} ns; '
                           'only bags with ground truth can be scored')
    scene, image, truths = NOWHERE, number, []
    for truth in frame.truths:
        scene, image, object_id, instance = _numbers(bag, truth)
        truths.append(GroundTruth(
            object_id=object_id, instance=instance, T_camera_object=truth.T_camera_object,
            box_visib_xyxy=None, box_amodal_xyxy=None, visible_fraction=truth.visible_fraction))
    return BopFrame(
        scene_id=scene, image_id=image, image_path=bag, camera=frame.camera(),
        ground_truth=tuple(truths), targets=dict(Counter(t.object_id for t in truths)),
        depth_path=None, depth_unit_m=1.0)


def _numbers(bag: Path, truth: Truth) -> tuple[int, int, int, int]:
    try:
        scene, image, object_id, instance = map(int, truth.names.split('/'))
    except ValueError as error:
        raise DatasetError(
            f'bag {bag}: ground truth with id {truth.names!r}; expected scene/image/object/'
            'instance, as mrcnet bag from-bop writes it') from error
    return scene, image, object_id, instance


def result_rows(images: Sequence[BopFrame], answers: Answers, object_ids: Mapping[str, int]
                ) -> list[tuple[ResultRow, Array | None]]:
    """Return the poses of the first answer to each image, with their covariances.

    :param answers: to all images, once or several times in turn.
    :param object_ids: by label.
    """
    rows: list[tuple[ResultRow, Array | None]] = []
    for number, image in enumerate(images):
        answer = next((a for a in answers[number::len(images)] if a is not None), None)
        rows += [(ResultRow(image.scene_id, image.image_id, object_ids[pose.label], pose.score,
                            pose.T_camera_object), pose.covariance)
                 for pose in (answer.poses if answer else [])]
    return rows
