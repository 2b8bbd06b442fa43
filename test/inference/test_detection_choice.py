"""Which detections of an object count when it is known how often the object is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrcnet_ros.geometry.se3 import Array, exp_so3, make_transform
from mrcnet_ros.geometry.symmetry import Symmetries
from mrcnet_ros.inference.detection_choice import SPARE, Choice, all_count, candidates
from mrcnet_ros.inference.poses import Detection, PoseEstimate
from mrcnet_ros.inference.scoring import Evidence
from mrcnet_ros.objects import ObjectModel

BOX = np.array([0.0, 0.0, 10.0, 10.0])
OBJECTS = {label: ObjectModel(
    object_id=1, label=label, mesh_path=Path('none'), mesh_sha256='', diameter_m=0.1,
    symmetries=Symmetries.none()) for label in ('can', 'cup')}


def found(*seen: tuple[str, float]) -> list[Detection]:
    """Return detections of labels and scores."""
    return [Detection(label, BOX, score) for label, score in seen]


def poses(detections: Sequence[Detection], *scores: float) -> list[PoseEstimate]:
    """Return a pose of each detection, all in different places."""
    return [PoseEstimate(d.label, 1, at(0.3 * i), score, i, '', BOX)
            for i, (d, score) in enumerate(zip(detections, scores, strict=True))]


def at(x: float, turn: float = 0.0) -> Array:
    """Return a pose in front of the camera."""
    return make_transform(exp_so3([0.0, turn, 0.0]), [x, 0.0, 0.8])


def choose(answers: Sequence[PoseEstimate], detections: Sequence[Detection],
           most: dict[str, int]) -> list[PoseEstimate]:
    """Choose among poses of the objects."""
    return Choice(detections, most, OBJECTS).best(answers)


def chosen(most: int, *places: Array, objects: dict[str, ObjectModel] = OBJECTS) -> list[int]:
    """Return which cans count, of some in the order of their scores."""
    detections = found(*[('can', 0.9 - 0.05 * i) for i in range(len(places))])
    answers = [dataclasses.replace(pose, T_camera_object=T) for pose, T in zip(
        poses(detections, *[0.8] * len(places)), places, strict=True)]
    return [p.detection_index for p in Choice(detections, {'can': most}, objects).best(answers)]


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
    clear = found(('can', 0.9), ('can', 0.2), ('can', 0.46))
    assert candidates(clear, {'can': 1}) == [0, 2]
    assert candidates(clear, {'can': 0}) == []


def test_first_come_as_many_as_there_are_and_others_only_in_doubt() -> None:
    """A pose on the plane that the network is sure of needs no rival; every other one does."""
    detections = found(('can', 0.5), ('can', 0.6), ('cup', 0.9), ('lid', 0.1), ('lid', 0.2))
    choice = Choice(detections, {'can': 1, 'cup': 1}, OBJECTS)
    assert choice.first() == [1, 2, 3, 4], 'nobody says how many lids there are'
    can = poses(detections, *[0.8] * 5)[1]
    assert choice.in_doubt([can]) == [0], 'it stands on nothing'
    stands = dataclasses.replace(can, stands=True)
    depth: Any = SimpleNamespace(is_used=True)
    assert choice.in_doubt([stands]) == choice.in_doubt([dataclasses.replace(can, depth=depth)])
    assert choice.in_doubt([stands]) == []
    assert choice.in_doubt([dataclasses.replace(stands, score=0.3)]) == [0]
    assert choice.in_doubt([]) == [0], 'a detection without a pose leaves its place'
    assert Choice(detections, {'can': 2}, OBJECTS).first() == [0, 1, 2, 3, 4]
    far_below = found(('can', 0.5), ('can', 0.1))
    assert Choice(far_below, {'can': 1}, OBJECTS).in_doubt([]) == []


def test_a_score_that_is_no_number_comes_last() -> None:
    """In front of others it would hide which of them are best."""
    detections = found(('can', float('nan')), ('can', 0.2), ('can', 0.9))
    choice = Choice(detections, {'can': 1}, OBJECTS)
    assert choice.first() == [2] and choice.rivals() == []


def in_doubt_of_three_cans(*places: Array) -> list[int]:
    """Return which of three boxes are asked after the poses of the first two of two cans."""
    detections = [Detection('can', BOX + 40.0 * i, 0.9 - 0.1 * i) for i in range(3)]
    both = [dataclasses.replace(pose, stands=True, T_camera_object=T)
            for pose, T in zip(poses(detections, 0.8, 0.8, 0.8)[:2], places, strict=True)]
    choice = Choice(detections, {'can': 2}, OBJECTS)
    assert choice.first() == [0, 1]
    return choice.in_doubt(both)


def test_of_two_cans_both_have_to_be_sure() -> None:
    """Two sure poses in one place are one can, and the third box may be the other one."""
    assert in_doubt_of_three_cans(at(0.0), at(0.3)) == []
    assert in_doubt_of_three_cans(at(0.0), at(0.001)) == [2]


def test_labels_that_nobody_limits_need_no_detections() -> None:
    """Poses of followed objects have none."""
    answers = poses(found(('can', 0.9), ('can', 0.8)), 0.5, 0.6)
    assert all_count().best(answers) == answers


@pytest.mark.parametrize('sign', ['plane', 'depth'])
def test_a_pose_that_something_confirms_counts_more(sign: str) -> None:
    """Than one that is a little surer of itself, and not than one that is much surer."""
    detections = found(('can', 0.5), ('can', 0.5))
    high, low = poses(detections, 0.5, 0.3)
    told: dict[str, Any] = {'stands': True} if sign == 'plane' else {
        'depth': SimpleNamespace(is_used=True)}
    low = dataclasses.replace(low, **told)
    assert choose([high, low], detections, {'can': 1}) == [low]
    unsure = dataclasses.replace(low, score=0.1)
    assert choose([high, unsure], detections, {'can': 1}) == [high]
    if sign == 'depth':
        nothing: Any = SimpleNamespace(is_used=False)
        assert choose([high, dataclasses.replace(low, depth=nothing)], detections,
                      {'can': 1}) == [high]


def test_many_boxes_of_one_object_leave_a_place_to_another_object() -> None:
    """Four boxes on the first can score better than the only one of the second can."""
    second = BOX + 40.0
    boxes = [BOX, BOX + 1.0, BOX - 1.0, BOX + 0.5, second]
    detections = [Detection('can', box, score)
                  for box, score in zip(boxes, (0.9, 0.88, 0.86, 0.84, 0.3), strict=True)]
    assert candidates(detections, {'can': 2}) == [0, 1, 2, 4]
    assert candidates(detections, {'can': 1}) == [0, 1, 2], 'of one object the best boxes count'


def test_the_pose_decides_between_boxes_of_about_the_same_score() -> None:
    """A slightly better box loses against a much better pose, a much better one does not."""
    detections = found(('can', 0.55), ('can', 0.5), ('cup', 0.2))
    false, true, cup = poses(detections, 0.1, 0.4, 0.05)
    assert choose([false, true, cup], detections, {'can': 1, 'cup': 1}) == [true, cup]
    unscored = found(('can', 0.0), ('can', 0.0))
    assert choose(poses(unscored, 0.1, 0.4), unscored, {'can': 1})[0].detection_index == 1
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


def test_a_second_box_of_an_object_does_not_push_out_another_object() -> None:
    """Of two cans with three boxes each can has one pose."""
    assert chosen(2, at(0.0), at(0.001), at(0.3)) == [0, 2]
    assert chosen(2, at(0.0), at(0.3), at(0.001)) == [0, 1]
    assert chosen(3, at(0.0), at(0.001), at(0.3), at(0.301), at(-0.3)) == [0, 2, 4]


def test_second_boxes_stay_where_nothing_else_could_be_chosen() -> None:
    """In the order of their scores, as if nobody had compared places."""
    assert chosen(2, at(0.0), at(0.001)) == [0, 1]
    assert chosen(2, at(0.0), at(0.001), at(0.002)) == [0, 1]
    assert chosen(3, at(0.0), at(0.001), at(0.3), at(0.002)) == [0, 1, 2]


@pytest.mark.parametrize('places', [(0.0, 0.001, 0.3), (0.0, 0.3, 0.001)])
def test_of_one_object_the_best_pose_counts_wherever_it_is(places: tuple[float, ...]) -> None:
    """Places matter only where an object is there more than once."""
    assert chosen(1, *map(at, places)) == [0]


def test_other_objects_may_be_in_the_same_place() -> None:
    """A cup in front of a can is no second box of it."""
    detections = found(('can', 0.9), ('cup', 0.8), ('can', 0.7), ('can', 0.6))
    answers = [dataclasses.replace(pose, T_camera_object=at(x)) for pose, x in zip(
        poses(detections, *[0.8] * 4), (0.0, 0.0, 0.001, 0.3), strict=True)]
    assert choose(answers, detections, {'can': 2, 'cup': 2}) == [
        answers[0], answers[1], answers[3]]


def test_places_are_those_of_the_middle_wherever_the_origin_of_a_mesh_is() -> None:
    """Two poses of one can that differ in rotation have far origins; two cans a near one."""
    far = {'can': dataclasses.replace(OBJECTS['can'], middle_m=np.array([0.5, 0.0, 0.0]))}
    middles = at(0.0), at(0.001, turn=np.pi), at(0.3)
    assert chosen(2, *map(far['can'].from_centred, middles), objects=far) == [0, 2]
