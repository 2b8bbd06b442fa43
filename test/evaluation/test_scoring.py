"""Scores are probabilities: what the law does, how it is fitted, and what is told about it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from mrcnet_ros.errors import DatasetError, SpecError
from mrcnet_ros.evaluation.covariance_calibration import Images
from mrcnet_ros.evaluation.score_errors import Judged, surface_distance, surface_points
from mrcnet_ros.evaluation.score_fit import (
    auroc,
    fit_score_law,
    left_out_scores,
    report_scores,
    score_law_of,
    score_table,
)
from mrcnet_ros.geometry.se3 import exp_so3, make_transform
from mrcnet_ros.inference.scoring import Evidence, ScoreLaw, measured_again
from mrcnet_ros.meshes.mesh import Mesh

LAW = ScoreLaw(offset=-2.0, quality_gain=1.5, apart_gain=-0.8, usual_apart=0.1)


def draw(seed: int, count: int, law: ScoreLaw = LAW) -> list[Judged]:
    """Return poses that are right as often as a law says, seven on each image."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        evidence = Evidence(float(rng.uniform(0.02, 0.95)), float(np.exp(rng.normal(-2.5, 1.0))),
                            distance=float(rng.uniform(2.0, 20.0)))
        found.append(Judged((1, i // 7), evidence, evidence.quality,
                            bool(rng.random() < law.probability(evidence))))
    return found


@pytest.mark.parametrize('seed', range(5))
def test_better_signs_never_lower_a_score(seed):
    """Whatever was seen, even where worse signs went with right poses."""
    rng = np.random.default_rng(seed)
    judged = [Judged((1, i // 5), Evidence(*rng.uniform(0.05, 0.9, 4).tolist()), 0.5,
                     bool(rng.random() < 0.5)) for i in range(80)]
    law = fit_score_law(judged)
    for apart in (0.0, 0.01, 0.3, 5.0, math.nan):
        scores = [law.probability(Evidence(q, apart)) for q in np.linspace(0.0, 1.0, 21)]
        assert np.all(np.diff(scores) >= 0) and min(scores) > 0 and max(scores) < 1
    for quality in (0.0, 0.4, 1.0):
        scores = [law.probability(Evidence(quality, a)) for a in np.geomspace(1e-4, 10, 21)]
        assert np.all(np.diff(scores) <= 0)
        scores = [law.probability(Evidence(quality, distance=d)) for d in np.geomspace(1e-3, 1e6)]
        assert np.all(np.diff(scores) <= 0) and min(scores) > 0 and max(scores) < 1


def test_one_crop_alone_counts_as_usual_agreement():
    """Its score lies between those of crops that agree and of crops that do not."""
    alone = LAW.probability(Evidence(0.5))
    assert alone == LAW.probability(Evidence(0.5, LAW.usual_apart))
    assert LAW.probability(Evidence(0.5, 1.0)) < alone < LAW.probability(Evidence(0.5, 0.0))


FAR = dataclasses.replace(LAW, offset=0.5, distance_gain=-3.0, usual_distance=7.0,
                          least_distance=2.0, most_distance=20.0)


def test_far_objects_score_as_much_less_as_they_are_wrong_more_often():
    """Near ones and far ones each by what happened; a law without distance is off for both."""
    law, fresh = fit_score_law(draw(8, 3000, FAR)), draw(9, 6000, FAR)
    assert law.distance_gain == pytest.approx(-3.0, abs=0.6)
    right, distance = (np.array([f(j) for j in fresh]) for f in (
        lambda j: j.right, lambda j: j.evidence.distance))
    scores = np.array([law.probability(j.evidence) for j in fresh])
    blind = np.array([law.probability(dataclasses.replace(j.evidence, distance=math.nan))
                      for j in fresh])
    for rows in (distance < 6.0, distance > 12.0):
        assert report_scores(scores[rows], right[rows]).calibration_error < 0.04
        assert report_scores(blind[rows], right[rows]).calibration_error > 0.1
    assert auroc(scores, right) > auroc(blind, right) + 0.05


def test_a_distance_beyond_those_of_the_fit_counts_as_the_nearest_of_them():
    """A large false box seems near; that lifts its score no more than a near object's."""
    law = fit_score_law(draw(8, 3000, FAR))
    assert 2.0 < law.least_distance < 3.5 and 18.0 < law.most_distance < 20.0
    for quality in (0.05, 0.6):
        nearest, farthest = (law.probability(Evidence(quality, distance=d))
                             for d in (law.least_distance, law.most_distance))
        assert law.probability(Evidence(quality, distance=law.least_distance / 9)) == nearest
        assert law.probability(Evidence(quality, distance=law.most_distance * 9)) == farthest
    with pytest.raises(SpecError, match='in this order, got 9, 7 and 20'):
        dataclasses.replace(FAR, least_distance=9.0)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('spread', [0.0, 0.02, 0.05])
def test_images_of_about_one_distance_say_nothing_of_others(seed, spread):
    """A slope that chance gives is not carried to a camera that comes nearer."""
    rng = np.random.default_rng(seed)
    judged = []
    for i in range(120):
        quality = float(rng.uniform(0.1, 0.9))
        evidence = Evidence(quality, float(rng.uniform(0.03, 0.3)),
                            distance=6.0 * float(np.exp(spread * rng.standard_normal())))
        judged.append(Judged((0, i // 6), evidence, quality, bool(rng.random() < quality)))
    assert abs(fit_score_law(judged).distance_gain) < 0.5


def test_a_correction_that_halves_the_deviation_is_worth_half_the_distance():
    """Whatever happens to the rotation; and no correction changes nothing."""
    far, before = Evidence(0.6, distance=8.0), np.diag([1e-6, 4e-6, 9e-4, 0.01, 0.02, 0.03])
    after = before / 4
    after[3:, 3:] = before[3:, 3:]
    near = dataclasses.replace(far, distance=4.0)
    assert measured_again(far, before, after) == near
    assert FAR.probability(near) > FAR.probability(far)
    assert measured_again(far, before, before) == far
    assert LAW.probability(measured_again(Evidence(0.6), before, after)) == LAW.probability(
        Evidence(0.6))


def test_a_distance_that_is_not_told_counts_as_usual():
    """As it does in laws of earlier versions, which know none."""
    assert FAR.probability(Evidence(0.5)) == FAR.probability(Evidence(0.5, distance=7.0))
    old = {'offset': -2.0, 'quality_gain': 1.5, 'apart_gain': -0.8, 'usual_apart': 0.1}
    assert ScoreLaw.from_dict(old) == LAW
    assert LAW.probability(Evidence(0.5, distance=3.0)) == LAW.probability(
        Evidence(0.5, distance=30.0))
    blind = fit_score_law([Judged(j.image, Evidence(j.evidence.quality, j.evidence.apart), j.score,
                                  j.right) for j in draw(3, 500)])
    assert blind.distance_gain == 0.0


def test_fitted_scores_are_how_often_poses_are_right():
    """On poses that the law was not fitted to, in every group of like scores."""
    law, fresh = fit_score_law(draw(0, 3000)), draw(1, 6000)
    scores = np.array([law.probability(j.evidence) for j in fresh])
    found = report_scores(scores, np.array([j.right for j in fresh]))
    assert found.calibration_error < 0.03
    assert all(abs(score - part) < 0.06 for score, part in found.steps)
    ideal = np.array([LAW.probability(j.evidence) for j in fresh])
    assert found.auroc > auroc(ideal, np.array([j.right for j in fresh])) - 0.01


@pytest.mark.parametrize('right', [True, False])
def test_poses_that_are_all_alike_give_no_certainty(right):
    """Sixty right poses are no proof that the next one is."""
    judged = [Judged(j.image, j.evidence, j.score, right) for j in draw(2, 63)]
    score = fit_score_law(judged).probability(Evidence(0.5, 0.08))
    assert 0.9 < (score if right else 1 - score) < 0.999


def test_crops_that_say_nothing_of_one_another_leave_the_quality():
    """A law of one crop alone does not change when there are more."""
    judged = [Judged(j.image, Evidence(j.evidence.quality), j.score, j.right)
              for j in draw(3, 500)]
    law = fit_score_law(judged)
    assert law.apart_gain == 0.0 and law.quality_gain > 0.5
    assert law.probability(Evidence(0.6, 2.0)) == law.probability(Evidence(0.6))


@pytest.mark.parametrize('judged', [draw(4, 49), [
    Judged((1, 0), j.evidence, j.score, j.right) for j in draw(4, 60)], []])
def test_too_few_poses_or_images_are_told(judged):
    """With how many it takes."""
    with pytest.raises(DatasetError, match=r'too few to fit a score.*50 on 8'):
        fit_score_law(judged)


def test_a_law_says_what_it_was_fitted_to():
    """Images, poses, boxes, crops, and how many poses were right."""
    judged = draw(5, 140)
    source = score_law_of(judged, Images('synthetic', 'detector', 2, 3, 0))[1]
    assert (source.source, source.images, source.poses, source.boxes, source.crops) == (
        'synthetic', 20, 140, 'detector', 2)
    assert source.right == pytest.approx(sum(j.right for j in judged) / 140, abs=1e-3)


def test_what_is_left_out_does_not_shape_its_own_score():
    """Turning the outcomes of one image around leaves its scores as they are."""
    judged = draw(6, 140)
    changed = [Judged(j.image, j.evidence, j.score, j.right != (j.image == (1, 3)))
               for j in judged]
    own = [i for i, j in enumerate(judged) if j.image == (1, 3)]
    before, after = left_out_scores(judged), left_out_scores(changed)
    np.testing.assert_array_equal(before[own], after[own])
    assert not np.array_equal(before, after)


def test_as_few_poses_as_a_law_needs_can_be_left_out_in_turn():
    """One image less than a law needs is still enough to score the one left out."""
    judged = [Judged((1, i % 8), j.evidence, j.score, j.right) for i, j in enumerate(draw(4, 50))]
    scores = left_out_scores(judged)
    assert len(scores) == 50 and ((scores > 0) & (scores < 1)).all()


def test_ranking_and_calibration_are_told_apart():
    """Scores that are a tenth of what they should be rank as well and are as far off."""
    right = np.arange(1000) % 2 == 0
    perfect = np.where(right, 0.9, 0.1)
    for scores in (perfect, perfect / 10):
        assert report_scores(scores, right).auroc == 1.0
    assert report_scores(np.full(1000, 0.5), right).auroc == 0.5
    assert report_scores(np.full(1000, 0.5), right).calibration_error < 0.02
    confident = report_scores(np.full(1000, 0.05), right)
    assert confident.calibration_error == pytest.approx(0.45, abs=0.02)
    assert math.isnan(report_scores(perfect, np.ones(1000, bool)).auroc)
    lines = list(score_table(draw(7, 140)))
    assert 'as they are' in lines[1] and 'left out' in lines[2]


def test_surface_distance_is_the_mean_over_the_surface_and_up_to_symmetry():
    """A shift moves every point alike; a symmetric turn moves none."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float64) - [0.5, 0.5, 0]
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    square = Mesh(corners, faces, np.tile([0.0, 0.0, 1.0], (4, 1)), np.zeros((4, 3), np.uint8))
    points = surface_points(square)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.03)
    assert np.abs(points).max() <= 0.5
    T = make_transform(exp_so3([0.3, 0.2, -0.5]), [0.1, 0.0, 2.0])
    half_turn = make_transform(np.diag([-1.0, -1.0, 1.0]), [0, 0, 0])
    moved = T.copy()
    moved[:3, 3] += [0.03, 0.0, 0.04]
    assert surface_distance(moved, T[None], points) == pytest.approx(0.05)
    assert surface_distance(T @ half_turn, T @ np.stack([np.eye(4), half_turn]), points) < 1e-12
    # the mean distance of a unit square's points from its middle is 0.3826
    assert surface_distance(T @ half_turn, T[None], points) == pytest.approx(2 * 0.3826, rel=0.03)


@pytest.mark.parametrize(('change', 'told'), [
    ({'quality_gain': -0.1}, 'score: quality_gain must be 0 to 20, got -0.1'),
    ({'apart_gain': 0.1}, 'score: apart_gain must be -20 to 0'),
    ({'distance_gain': 0.1}, 'score: distance_gain must be -20 to 0'),
    ({'usual_distance': 0.0}, 'score: usual_distance must be 0.1 to 1000'),
    ({'offset': math.nan}, 'score: offset must be'), ({'slope': 1.0}, 'unknown fields')])
def test_a_law_that_cannot_be_is_refused(change, told):
    """By name and range."""
    values = {'offset': 0.0, 'quality_gain': 1.0, 'apart_gain': -1.0, 'usual_apart': 0.1}
    with pytest.raises(SpecError, match=told):
        ScoreLaw.from_dict({**values, **change})
    with pytest.raises(SpecError, match='score must map names to numbers'):
        ScoreLaw.from_dict([values])
