"""Chooses between several detections or instances by their poses.

A detector sees small objects in a whole image and may take a fan for a watering can. The network
that estimates poses sees both enlarged. So if the number of instances of an object is known, a few
more detections are estimated where the first ones leave doubt, and those with the best scores of
detection and pose are kept. What stands where the other objects stand counts more: a false box
seldom does.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from ..geometry.boxes import ious
from ..geometry.se3 import Array
from ..objects import ObjectModel
from .poses import Detection, PoseEstimate

# More detections of an object than there are instances. On 20 photographs of LM-O the best box of
# the first detector of models/lmo was right for 0.715 of the targets; with 1, 2 and 3 more, poses
# chose right for 0.736, 0.771 and 0.778.
SPARE = 2
# Detections below this part of the score of the last one that would count alone are not answered.
# On 20 photographs of LM-O in seven tones the chain of models/lmo scores 0.648 with 0.5, and 0.654
# with 0.3 and with 0.2.
LEAST_OF_LAST = 0.3
# How much more a pose counts that a plane or depth confirms. A factor of 1, 1.4, 2, 3, 4 and 8
# scores 0.641, 0.648, 0.653, 0.655, 0.655 and 0.656 on those images.
CONFIRMED = 3.0
# A detection leaves no doubt if its pose stands on a plane and the network is as sure of it as
# this. On those images it saves four of the eight other poses and costs nothing; 0.3 saves one
# more and costs 0.002.
SURE_QUALITY = 0.5
# Why other detections have no pose.
OUTRANKED = ('more detections of an object than there are instances; those with the best scores '
             'count')
# Boxes that overlap by more than this are taken for boxes of one object, as detectors do.
SAME_BOX_IOU = 0.5
# Middles of two objects of a kind are never so near to one another, parts of their diameter.
LEAST_DIAMETERS = 0.3
# Along the ray one camera errs far more: two that cover one another by more than this part of
# their widths, and are less than a diameter apart, are taken for one as well.
LEAST_ASIDE, LEAST_ALONG = 0.2, 1.0


def candidates(detections: Sequence[Detection], most: Mapping[str, int]) -> list[int]:
    """Return the positions of the detections that are worth a pose, in their order.

    A detector may have several boxes of one object, all with better scores than that of a second
    object. So where there are several objects, boxes that overlap a better one come last.

    :param most: how often an object is there at most, by label; other labels stay.
    """
    kept = []
    for label, ranked in _ranked(detections, most).items():
        count = most.get(label, len(ranked))
        last = min(count, len(ranked)) - 1
        least = LEAST_OF_LAST * detections[ranked[last]].score if last >= 0 else 0.0
        kept += ranked[:count]
        kept += [i for i in ranked[count:count + SPARE] if count and detections[i].score >= least]
    return sorted(kept)


def first_ones(detections: Sequence[Detection], most: Mapping[str, int]) -> list[int]:
    """Return the positions of as many detections of each object as there are at most, in order.

    :param most: how often an object is there at most, by label; other labels stay.
    """
    return sorted(i for label, ranked in _ranked(detections, most).items()
                  for i in ranked[:most.get(label)])


def in_doubt(poses: Sequence[PoseEstimate], detections: Sequence[Detection],
             most: Mapping[str, int]) -> list[int]:
    """Return the positions of the detections that may be right in place of the first ones.

    :param poses: of :func:`first_ones`, with what a plane says of them.
    :param most: how often an object is there at most, by label.
    """
    sure = Counter(pose.label for pose in poses if pose.stands and _quality(pose) >= SURE_QUALITY)
    first = set(first_ones(detections, most))
    return [i for i, d in enumerate(detections)
            if i not in first and sure[d.label] < most[d.label]]


def _ranked(detections: Sequence[Detection], most: Mapping[str, int]) -> dict[str, list[int]]:
    """Return the positions of the detections by label, those first that count alone."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for position, detection in enumerate(detections):
        found[detection.label].append(position)
    for label, own in found.items():
        if label in most:
            own.sort(key=lambda i: -detections[i].score)
        if most.get(label, 0) > 1:
            found[label] = _boxes_apart_first(own, detections)
    return found


def _boxes_apart_first(ranked: list[int], detections: Sequence[Detection]) -> list[int]:
    """Put boxes that a better one covers behind all others: they may be of the same object.

    :param ranked: positions of detections of one label, the best first.
    """
    boxes = np.stack([detections[i].box_xyxy for i in ranked])
    apart: list[int] = []
    again: list[int] = []
    for rank, box in enumerate(boxes):
        alike = ious(box, boxes[apart]) > SAME_BOX_IOU if apart else np.zeros(0, bool)
        (again if alike.any() else apart).append(rank)
    return [ranked[rank] for rank in apart + again]


def choose(poses: Sequence[PoseEstimate], detections: Sequence[Detection],
           most: Mapping[str, int], objects: Mapping[str, ObjectModel]) -> list[PoseEstimate]:
    """Return the poses of those detections that are best together with their pose, in order.

    A detector may have a second box of an object, around a part of it. So a pose in the place of
    a better one of its label counts only when there are too few others.

    :param poses: of some or all of the detections.
    :param most: how often an object is there at most, by label; other labels stay.
    :param objects: by label.
    """
    found: defaultdict[str, list[PoseEstimate]] = defaultdict(list)
    for pose in poses:
        found[pose.label].append(pose)
    kept: set[int] = set()
    for label, own in found.items():
        count = most.get(label, len(own))
        ranked = sorted(own, key=lambda p: _rank(p, detections[p.detection_index]), reverse=True)
        if 1 < count < len(own):  # of an object that is there once the best one always counts
            ranked = _apart_first(ranked, objects)
        kept |= {id(p) for p in ranked[:count]}
    return [p for p in poses if id(p) in kept]


def _apart_first(ranked: list[PoseEstimate], objects: Mapping[str, ObjectModel]
                 ) -> list[PoseEstimate]:
    """Put poses in the place of a better one behind all others.

    :param ranked: the best first.
    """
    again = contested([p.label for p in ranked],
                      [objects[p.label].to_centred(p.T_camera_object) for p in ranked],
                      [(float(rank), 0.0) for rank in range(len(ranked))], objects)
    return [p for i, p in enumerate(ranked) if i not in again] + [ranked[i] for i in sorted(again)]


def _rank(pose: PoseEstimate, detection: Detection) -> tuple[float, float]:
    """Return how good a detection and its pose are: the pose counts twice as much.

    Of detectors that leave all scores at 0 the pose decides alone.
    """
    measured = pose.depth is not None and pose.depth.used != 'none'
    quality = _quality(pose) * (CONFIRMED if pose.stands or measured else 1.0)
    return math.sqrt(max(float(detection.score), 0.0)) * quality, quality


def _quality(pose: PoseEstimate) -> float:
    """Return the network's own confidence in a pose, 0..1.

    Scores are calibrated on boxes on the object. The network's own confidence tells false boxes
    better: the whole chain of models/lmo scores 0.574 on LM-O with it, 0.558 with the score.
    """
    return float(pose.score if pose.evidence is None else pose.evidence.quality)


def contested(labels: Sequence[str], T_camera_object: Sequence[Array],
              cost: Sequence[tuple[float, float]], objects: Mapping[str, ObjectModel]) -> set[int]:
    """Return which instances are in the place of a better one.

    :param T_camera_object: (4, 4) [m] each, of the centred frames.
    :param cost: of each; the lower one stays.
    :param objects: by label.
    """
    order = sorted(range(len(labels)), key=lambda i: cost[i])
    gone: set[int] = set()
    for rank, i in enumerate(order):
        if i in gone:
            continue
        for j in order[rank + 1:]:
            if labels[i] == labels[j] and j not in gone and same_place(
                    T_camera_object[i], T_camera_object[j], objects[labels[i]].diameter_m):
                gone.add(j)
    return gone


def same_place(T_a: Array, T_b: Array, diameter_m: float) -> bool:
    """Tell whether two poses can only be those of one object.

    :param T_a: (4, 4) T_camera_object [m].
    :param T_b: likewise.
    """
    a, b = T_a[:3, 3], T_b[:3, 3]
    apart_m = float(np.linalg.norm(a - b))
    distance_m = min(float(np.linalg.norm(a)), float(np.linalg.norm(b)))
    aside_m = float(np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b))) * distance_m
    return apart_m < LEAST_DIAMETERS * diameter_m or (
        aside_m < LEAST_ASIDE * diameter_m and apart_m < LEAST_ALONG * diameter_m)
