"""Poses that depth has corrected have laws of their own for covariance and score."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrcnet_ros.errors import DatasetError, ModelError
from mrcnet_ros.evaluation.depth_score_fit import fit_depth_score_law, score_report
from mrcnet_ros.geometry.se3 import make_transform
from mrcnet_ros.inference.calibration_entries import write_law
from mrcnet_ros.inference.depth_alignment import DepthFit
from mrcnet_ros.inference.depth_correction import DepthLaws
from mrcnet_ros.inference.depth_law import (
    DepthScoreLaw,
    joint_covariance,
    joint_spread,
)
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.inference.uncertainty import CovarianceLaw, LawSource, PoseSpread
from mrcnet_ros.synth.depth_sensor import measured_depth

COVARIANCE = CovarianceLaw(lateral_floor=0.001, lateral_gain=1.0, depth_floor=0.001,
                           depth_gain=1.0, rotation_floor_rad=0.01, rotation_gain=1.0,
                           score_exponent=0.1)
SCORE = DepthScoreLaw(bias=-3.0, score_gain=0.5, agreement_gain=5.0, residual_gain=-0.8)
SOURCE = LawSource(source='synthetic', images=40, poses=200,
                   boxes='detector, with simulated depth', crops=2, hypotheses=3, refine=0,
                   widened=(1.0, 1.5, 2.0))
T = make_transform(np.eye(3), [0.1, 0.05, 0.8])


def fit(agreement: float = 0.95, residual_m: float = 0.001) -> DepthFit:
    """Return what depth says of a pose: its distance to two millimetres."""
    information = np.zeros((6, 6))
    information[2, 2] = 0.002**-2
    return DepthFit(T, 'pose', agreement, residual_m, 150, information)


def test_the_score_falls_with_the_residual_and_rises_with_the_agreement():
    """Whatever the network says; it stays between 0 and 1."""
    residuals = [SCORE.score(0.7, fit(residual_m=r), 0.1) for r in (0.0, 0.001, 0.004, 0.02)]
    agreements = [SCORE.score(0.7, fit(agreement=a), 0.1) for a in (0.85, 0.9, 1.0)]
    assert residuals == sorted(residuals, reverse=True) and len(set(residuals)) == 4
    assert agreements == sorted(agreements) and len(set(agreements)) == 3
    assert 0 < SCORE.score(0.0, fit(0.0, 0.1), 0.1) < SCORE.score(1.0, fit(1.0, 0.0), 0.1) < 1


def test_a_score_law_is_found_again_and_ranks_poses_it_was_not_fitted_to():
    """From poses drawn by a known law: calibrated, and better than the network alone."""
    rng = np.random.default_rng(0)
    inputs = np.stack([np.ones(3000), rng.normal(0.5, 1, 3000), rng.uniform(0.85, 1, 3000),
                       rng.gamma(2.0, 0.7, 3000)], axis=1)
    odds = inputs @ (-16.0, 0.5, 20.0, -1.0)
    right = rng.random(3000) < 1 / (1 + np.exp(-odds))
    law = fit_depth_score_law(inputs, right)
    assert law.residual_gain == pytest.approx(-1.0, abs=0.2)
    assert law.agreement_gain == pytest.approx(20.0, abs=5.0)
    report = score_report(inputs, right)
    assert report.auroc > report.auroc_network + 0.1
    assert report.mean_right > report.mean_wrong + 0.1
    every_fifth = np.arange(60) % 5 != 2  # one object of five is always wrong
    assert 0 < score_report(inputs[:60], every_fifth).mean_wrong < 1
    with pytest.raises(DatasetError, match=r'30 poses .* too few to fit a score: 50'):
        fit_depth_score_law(inputs[:30], right[:30])


@pytest.mark.parametrize('wrong', [0, 1, 4])
def test_a_model_that_is_nearly_always_right_with_depth_has_a_score_law_too(wrong):
    """Usual poses are about as probable as they were right; those that agree badly are not."""
    rng = np.random.default_rng(1)
    inputs = np.stack([np.ones(280), rng.normal(1.0, 0.6, 280), rng.normal(0.99, 0.01, 280),
                       rng.gamma(4.0, 0.12, 280)], axis=1)
    law = fit_depth_score_law(inputs, np.arange(280) >= wrong)
    usual = 1 / (1 + np.exp(-inputs @ dataclasses.astuple(law)))
    assert usual.mean() == pytest.approx(1 - (wrong + 0.5) / 281, abs=0.003)
    bad = 1 / (1 + np.exp(-np.array([1.0, -1.0, 0.86, 4.0]) @ dataclasses.astuple(law)))
    assert bad < 0.5


def test_a_joint_covariance_is_said_in_the_terms_of_the_law():
    """A law that adds nothing gives it back, less what groups have in common."""
    axes = np.array([[0.2, 0.0, 0.1], [0.0, 0.2, 0.05], [0.0, 0.0, 0.8]])
    spread = PoseSpread(axes, np.diag([1e-4, 2e-4]), 1e-3, 0.04 * np.eye(3), 0.7)
    plain = CovarianceLaw(lateral_floor=1e-5, lateral_gain=1.0, depth_floor=1e-5, depth_gain=1.0,
                          rotation_floor_rad=1e-4, rotation_gain=1.0, score_exponent=0.0)
    C = plain.covariances([spread])[0]
    joint = joint_covariance(C, fit())
    ray = T[:3, 3] / np.linalg.norm(T[:3, 3])
    assert ray @ joint[:3, :3] @ ray < 0.2 * (ray @ C[:3, :3] @ ray)
    told = plain.covariances([joint_spread(spread, joint, T[:3, 3])])[0]
    np.testing.assert_allclose(told[3:, 3:], joint[3:, 3:], rtol=1e-4)
    assert ray @ told[:3, :3] @ ray == pytest.approx(ray @ joint[:3, :3] @ ray, rel=0.3)


def test_laws_with_depth_are_kept_beside_those_of_colour(tiny_model: Any, tmp_path: Any) -> None:
    """Each under its own key; one that was not measured again stays; what is malformed is told."""
    path = shutil.copytree(tiny_model.path, tmp_path / 'model')
    write_law(path, COVARIANCE, SOURCE, depth=True)
    write_law(path, SCORE)
    found = read_model_directory(path, tiny_model.meshes).plain_laws
    assert found.depth_laws == DepthLaws(COVARIANCE, SCORE)
    assert found.covariance_depth_source == SOURCE and found.covariance_law is None
    write_law(path, COVARIANCE, SOURCE, depth=True)
    again = read_model_directory(path, tiny_model.meshes).plain_laws
    assert again.depth_laws == DepthLaws(COVARIANCE, SCORE)
    values = json.loads((path / 'model.json').read_text())
    values['score_depth']['residual_gain'] = 0.5
    (path / 'model.json').write_text(json.dumps(values))
    with pytest.raises(ModelError, match='residual_gain must be -10 to 0'):
        read_model_directory(path, tiny_model.meshes)


def test_a_simulated_sensor_is_as_wrong_as_it_says():
    """Noise, holes at edges and elsewhere, and nothing where nothing is; always the same."""
    depth = np.full((240, 320), 1.0, np.float32)
    depth[80:160, 100:200] = 0.8
    depth[:20] = 0.0
    made, again = (measured_depth(depth, 570.0, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(made, again)
    assert made.dtype == np.float32 and (made[:14] == 0).all()
    inner, wall = made[90:150, 110:190], made[170:, 210:]
    assert 0 < (wall == 0).mean() < 0.1
    assert (made[76:84, 100:200] == 0).mean() > 0.3
    for part, true_m in ((inner, 0.8), (wall, 1.0)):
        off = part[part > 0] - true_m
        assert 0.0005 < off.std() < 0.004 and abs(off.mean()) < 0.012


def test_the_model_of_the_demo_scores_poses_with_depth():
    """Its law was measured, and a pose that agrees badly is half as sure at most."""
    folder = Path(__file__).parents[2] / 'models' / 'demo'
    found = read_model_directory(folder, folder / 'meshes')
    law = found.plain_laws.depth_laws.score
    assert law is not None and found.plain_laws.depth_laws.covariance is not None
    assert found.plain_laws.covariance_depth_source.poses > 300
    good, bad = law.score(0.8, fit(1.0, 0.0005), 0.1), law.score(0.8, fit(0.85, 0.003), 0.1)
    assert good > 0.9 and bad < 0.5 * good
