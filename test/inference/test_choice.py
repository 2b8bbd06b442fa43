"""Which detections of an object count when it is known how often the object is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mrcnet_ros.inference.choice import SPARE, candidates, choose
from mrcnet_ros.inference.poses import Detection, PoseEstimate
from mrcnet_ros.inference.scoring import Evidence

BOX = np.array([0.0, 0.0, 10.0, 10.0])


def found(*seen: tuple[str, float]) -> list[Detection]:
    """Return detections of labels and scores."""
    return [Detection(label, BOX, score) for label, score in seen]


def poses(detections: Sequence[Detection], *scores: float) -> list[PoseEstimate]:
    """Return a pose of each detection."""
    return [PoseEstimate(d.label, 1, np.eye(4), score, i, '', BOX)
            for i, (d, score) in enumerate(zip(detections, scores, strict=True))]


def test_without_a_number_everything_counts() -> None:
    """Detections and poses of labels that nobody limits are all kept, in their order."""
    detections = found(('can', 0.1), ('can', 0.9), ('cup', 0.5), ('can', 0.3))
    assert candidates(detections, {}) == [0, 1, 2, 3]
    assert candidates(detections, {'cup': 1}) == [0, 1, 2, 3]
    answers = poses(detections, 0.1, 0.2, 0.3, 0.4)
    assert choose(answers, detections, {}) == answers


def test_a_few_more_than_the_instances_are_answered() -> None:
    """Those with the best scores, but none far below the last one that would count alone."""
    many = found(*[('can', 0.9 - 0.05 * i) for i in range(6)])
    assert candidates(many[::-1], {'can': 1}) == [5 - i for i in range(SPARE, -1, -1)]
    assert candidates(many, {'can': 2}) == list(range(2 + SPARE))
    clear = found(('can', 0.9), ('can', 0.4), ('can', 0.46))
    assert candidates(clear, {'can': 1}) == [0, 2]
    assert candidates(clear, {'can': 0}) == []


def test_the_pose_decides_between_boxes_of_about_the_same_score() -> None:
    """A slightly better box loses against a much better pose, a much better one does not."""
    detections = found(('can', 0.55), ('can', 0.5), ('cup', 0.2))
    false, true, cup = poses(detections, 0.1, 0.4, 0.05)
    assert choose([false, true, cup], detections, {'can': 1, 'cup': 1}) == [true, cup]
    sure = found(('can', 0.9), ('can', 0.01))
    assert [p.detection_index for p in choose(poses(sure, 0.3, 0.4), sure, {'can': 1})] == [0]
    twice = found(('can', 0.5), ('can', 0.5), ('can', 0.5))
    assert [p.detection_index for p in choose(poses(twice, 0.3, 0.1, 0.2), twice,
                                              {'can': 2})] == [0, 2]


def test_a_detection_without_a_pose_leaves_its_place_to_the_next() -> None:
    """The best box got no pose, so the second counts."""
    detections = found(('can', 0.9), ('can', 0.6))
    second = poses(detections, 0.5, 0.2)[1:]
    assert choose(second, detections, {'can': 1}) == second


def test_the_confidence_of_the_network_chooses_rather_than_the_law_of_scores():
    """The law is fitted to boxes on the object, and says nothing of false ones."""
    detections = found(('can', 0.5), ('can', 0.5))
    answers = [dataclasses.replace(pose, evidence=Evidence(quality))
               for pose, quality in zip(poses(detections, 0.6, 0.5), (0.3, 0.7), strict=True)]
    assert choose(answers, detections, {'can': 1}) == [answers[1]]
