"""How many instances are followed, and which of them stay."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tracked_world import CAMERA, HZ, IMAGE, LIMITS, World, at, begun, cans, moving

from mrcnet_ros.inference.detection_choice import contested
from mrcnet_ros.inference.followed import TrackLimits, View
from mrcnet_ros.inference.tracking import Tracker

ONE, TWO = TrackLimits(instances=1), TrackLimits(instances=2)


def test_two_instances_never_become_one():
    """One that is hidden while another passes gives way; the other keeps its number."""
    def still(time_s):
        return at(0.0) if time_s < 0.9 else None

    def passing(time_s):
        return at(-0.5 + 0.5 * time_s, z=0.79)

    world = World(('can', still), ('can', passing))
    tracker = begun(world)
    for step in range(1, 60):
        found = tracker.follow(world.view(step), LIMITS)
        assert len(set(found.tracks)) == len(found.tracks)
        places = [p.T_camera_object[0, 3] for p in found.poses]
        assert len(places) < 2 or abs(places[0] - places[1]) > 0.02
        assert 2 in found.tracks
        np.testing.assert_allclose(found.poses[found.tracks.index(2)].T_camera_object,
                                   passing(world.time_s), atol=1e-6)
    assert len(tracker) == 1


def test_two_detections_of_one_object_are_one_instance():
    """Of a repeated box the better answer is followed."""
    world = World(('can', lambda t: at(0.0)))
    once = world.estimates()[0]
    again = dataclasses.replace(once, score=0.6, detection_index=1)
    tracker = Tracker(world)
    numbers, _ = tracker.observe(world.view(0), [again, once], LIMITS)
    assert numbers == [None, 1] and len(tracker) == 1


@pytest.mark.parametrize(('aside', 'along', 'instances'), [(0.0, 0.7, 1), (0.7, 0.0, 2)])
def test_a_detection_farther_along_the_ray_is_of_the_same_instance(aside, along, instances):
    """A camera errs there by nearly a diameter; as far aside is another object."""
    world = World(('can', lambda t: at(0.0)))
    tracker = begun(world, steps=3)
    T, diameter_m = at(0.0), world.objects['can'].diameter_m
    T[:3, 3] *= 1.0 + along * diameter_m / np.linalg.norm(T[:3, 3])
    T[0, 3] += aside * diameter_m
    off = dataclasses.replace(world.estimates()[0], T_camera_object=T, score=0.6)
    numbers, lost = tracker.observe(world.view(4), [off], LIMITS)
    assert numbers == [instances] and len(tracker) == instances and not lost
    assert np.allclose(tracker.follow(world.view(4), LIMITS).poses[0].T_camera_object, at(0.0))


def test_no_more_instances_are_followed_than_wanted():
    """Those with the best scores are."""
    world = World(*[('can', lambda t, x=x: at(x)) for x in (-0.4, -0.1, 0.2, 0.5)])
    tracker = Tracker(world)
    numbers, _ = tracker.observe(world.view(0), world.estimates(), TrackLimits(most=2))
    assert numbers == [1, 2, None, None]


def test_an_object_that_is_there_once_is_followed_where_it_was_detected_last():
    """The instance elsewhere is given up, and told; other objects do not matter."""
    world = World(('can', lambda t: at(0.0)), ('box', lambda t: at(0.3, y=0.2)))
    tracker = begun(world, steps=3)
    box = world.estimates()[1:]
    numbers, lost = tracker.observe(world.view(4), cans((0.3, 0.5)) + box, ONE)
    assert numbers == [3, 2] and len(tracker) == 2
    assert [(gone.track, gone.label, gone.reason) for gone in lost] == [(1, 'can', 'contested')]


def test_of_more_instances_than_there_can_be_those_stay_that_were_detected():
    """Of the others that with the better score stays."""
    world = World(('can', lambda t: at(0.0)))
    tracker = Tracker(world)
    tracker.observe(world.view(0), cans((0.0, 0.9), (0.2, 0.5)), TWO)
    numbers, lost = tracker.observe(world.view(1), cans((0.4, 0.3)), TWO)
    assert numbers == [3] and [gone.track for gone in lost] == [2]
    numbers, lost = tracker.observe(world.view(2), cans((0.4, 0.3), (0.0, 0.8)), TWO)
    assert numbers == [3, 1] and lost == [] and len(tracker) == 2


def test_detections_of_an_earlier_image_end_no_instance_that_was_detected_later():
    """Detections may come out of order: the object has been moved since."""
    world = World(('can', lambda t: at(0.3)))
    tracker = Tracker(world)
    tracker.observe(world.view(9), world.estimates(), ONE)
    numbers, lost = tracker.observe(world.view(2), cans((0.0, 0.9)), ONE)
    assert numbers == [None] and lost == []
    assert tracker.follow(world.view(10), ONE).tracks == [1]


def test_the_number_of_instances_may_change_while_they_are_followed():
    """From the next image on there are no more of them, with or without detections in it."""
    world = World(*[('can', lambda t, x=x: at(x)) for x in (-0.3, 0.0, 0.3)])
    tracker = Tracker(world)
    tracker.observe(world.view(0), cans((-0.3, 0.7), (0.0, 0.9), (0.3, 0.8)), LIMITS)
    for limits, tracks, gone in ((LIMITS, [1, 2, 3], []), (TWO, [2, 3], [1]), (TWO, [2, 3], [])):
        world.time_s += 1 / HZ
        found = tracker.follow(View(IMAGE, CAMERA, world.time_s), limits)
        assert sorted(found.tracks) == tracks
        assert [(lost.track, lost.reason) for lost in found.lost] == [
            (number, 'contested') for number in gone]


def test_contested_places_go_to_the_cheaper_one():
    """Objects of other kinds, beside one another, or far behind do not matter."""
    objects = {label: World((label, moving)).objects[label] for label in ('can', 'box')}

    def gone(labels, places, costs=(0.0, 1.0)):
        return contested(labels, places, [(c, 0.0) for c in costs], objects)

    near = [at(0.0), at(0.02)]
    assert gone(['can', 'can'], near) == {1}
    assert gone(['can', 'can'], near, (1.0, 0.0)) == {0}
    assert gone(['can', 'box'], near) == set()
    assert gone(['can', 'can'], [at(0.0), at(0.06)]) == set()
    assert gone(['can', 'can'], [at(0.0), at(0.0, z=0.88)]) == {1}  # along the ray
    assert gone(['can', 'can'], [at(0.0), at(0.0, z=1.0)]) == set()
