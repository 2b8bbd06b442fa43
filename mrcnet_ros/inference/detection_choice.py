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
from dataclasses import dataclass

import numpy as np

from ..geometry.boxes import ious
from ..geometry.se3 import Array
from ..objects import ObjectModel
from .poses import Detection, PoseEstimate

# More detections of an object than there are instances. On 20 photographs of LM-O the best box of
# the first detector of models/lmo was right for 0.715 of the targets; with 1, 2 and 3 more, poses
# chose right for 0.736, 0.771 and 0.778.
SPARE = 2
# With N instances, detections whose score is below this part of the N-th best get no pose.
# On 20 photographs of LM-O in seven tones the chain of models/lmo scores 0.648 with 0.5, and 0.654
# with 0.3 and with 0.2.
LEAST_OF_LAST = 0.3
# How much more a pose counts that a plane or depth has corrected. A factor of 1, 1.4, 2, 3, 4 and
# 8 scores 0.641, 0.648, 0.653, 0.655, 0.655 and 0.656 on those images, if all boxes are estimated.
# They have no depth; a pose that depth has corrected gets the same factor, unmeasured.
CONFIRMED = 3.0
# A detection leaves no doubt if its pose was corrected so and the network is as sure of it as
# this. On those images it saves four of the eight other poses and costs nothing; 0.3 saves one
# more and costs 0.002.
SURE_QUALITY = 0.5
# Why other detections have no pose.
OUTRANKED = ('more detections of an object than there are instances; those with the best scores '
             'count')
# Boxes that overlap by more than this are taken for boxes of one object, as detectors do.
SAME_BOX_IOU = 0.5
# Poses of a kind whose middles are nearer than this, in parts of the diameter, are taken for those
# of one object. Long or flat objects side by side can be nearer.
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


def _ranked(detections: Sequence[Detection], most: Mapping[str, int]) -> dict[str, list[int]]:
    """Return the positions of the detections by label, those first that count alone."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for position, detection in enumerate(detections):
        found[detection.label].append(position)
    for label, own in found.items():
        if label in most:
            own.sort(key=lambda i: -float(np.nan_to_num(detections[i].score, nan=-np.inf)))
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


@dataclass(frozen=True, eq=False)
class Choice:
    """Which detections of an image are answered, and which poses are the answers.

    A detector may have a second box of an object, around a part of it. So a pose in the place of
    a better one of its label counts only when there are too few others.

    :param detections: all of the image.
    :param most: how often an object is there at most, by label; of other labels all count.
    :param objects: by label; poses are those of their frames.
    """

    detections: Sequence[Detection]
    most: Mapping[str, int]
    objects: Mapping[str, ObjectModel]

    def first(self) -> list[int]:
        """Return the positions of as many detections of each object as there are, in order."""
        return sorted(i for label, ranked in _ranked(self.detections, self.most).items()
                      for i in ranked[:self.most.get(label)])

    def rivals(self) -> list[int]:
        """Return the positions of the detections that may be right in place of the first ones."""
        first = set(self.first())
        return [i for i in candidates(self.detections, self.most) if i not in first]

    def in_doubt(self, poses: Sequence[PoseEstimate]) -> list[int]:
        """Return the rivals of those first ones that leave doubt, as positions.

        :param poses: of the first ones, corrected by what is known of the scene.
        """
        sure = self._by_rank([p for p in poses
                             if p.corrected and p.quality >= SURE_QUALITY])
        again = _contested(sure, self.objects)
        objects = Counter(p.label for i, p in enumerate(sure) if i not in again)
        labels = [d.label for d in self.detections]
        return [i for i in self.rivals() if objects[labels[i]] < self.most[labels[i]]]

    def best(self, poses: Sequence[PoseEstimate]) -> list[PoseEstimate]:
        """Return the poses that are best together with their detections, in order.

        :param poses: of some or all of the detections.
        """
        found: defaultdict[str, list[PoseEstimate]] = defaultdict(list)
        for pose in poses:
            found[pose.label].append(pose)
        kept: set[int] = set()
        for label, own in found.items():
            count = self.most.get(label)
            if count is None:
                kept |= {id(p) for p in own}
                continue
            ranked = self._by_rank(own)
            if 1 < count < len(own):  # of an object that is there once the best one always counts
                again = _contested(ranked, self.objects)
                ranked = ([p for i, p in enumerate(ranked) if i not in again]
                          + [ranked[i] for i in sorted(again)])
            kept |= {id(p) for p in ranked[:count]}
        return [p for p in poses if id(p) in kept]

    def _by_rank(self, poses: Sequence[PoseEstimate]) -> list[PoseEstimate]:
        """Return poses, the best first."""
        return sorted(poses, key=lambda p: _rank(p, self.detections[p.detection_index]),
                      reverse=True)


def all_count() -> Choice:
    """Return the choice where nobody says how often objects are there."""
    return Choice((), {}, {})


def _contested(ranked: Sequence[PoseEstimate], objects: Mapping[str, ObjectModel]) -> set[int]:
    """Return which poses are in the place of a better one.

    :param ranked: the best first.
    """
    return contested([p.label for p in ranked],
                     [objects[p.label].to_centred(p.T_camera_object) for p in ranked],
                     [(float(rank), 0.0) for rank in range(len(ranked))], objects)


def _rank(pose: PoseEstimate, detection: Detection) -> tuple[float, float]:
    """Return how good a detection and its pose are: the pose counts twice as much.

    Scores are calibrated on boxes on the object. The network's own confidence tells false boxes
    better: the whole chain of models/lmo scores 0.574 on LM-O with it, 0.558 with the score.
    If a detector leaves all scores at 0, the pose decides alone.
    """
    quality = pose.quality * (CONFIRMED if pose.corrected else 1.0)
    return math.sqrt(max(float(detection.score), 0.0)) * quality, quality


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
