"""Calibrations are kept in the model, and each is used for the poses that it was measured with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from model_copy import LAW, SCORE, SCORE_SOURCE, SOURCE, change, copy_model

from mrcnet_ros.errors import ModelError
from mrcnet_ros.inference.calibration_entries import outdated, write_law
from mrcnet_ros.inference.model_directory import read_model_directory
from mrcnet_ros.inference.scoring import ScoreLaw, ScoreSource
from mrcnet_ros.inference.uncertainty import CovarianceLaw, LawSource


@pytest.fixture
def model(tiny_model: Any, tmp_path: Path) -> Path:
    """Copy a good model with its meshes."""
    return copy_model(tiny_model, tmp_path)


def test_the_law_of_covariances_is_kept_in_the_model_and_nothing_else_changes(model):
    """A model has none until it is calibrated; what is written is read again."""
    before = json.loads((model / 'model.json').read_text())
    assert read_model_directory(model).plain_laws.covariance_law is None
    write_law(model, CovarianceLaw(**LAW))
    assert read_model_directory(model).plain_laws.covariance_law == CovarianceLaw(**LAW)
    after = json.loads((model / 'model.json').read_text())
    assert after.pop('covariance') == LAW
    assert after == before
    source = LawSource.from_dict(SOURCE)
    write_law(model, CovarianceLaw(**LAW), source)
    assert read_model_directory(model).plain_laws.covariance_source == source
    write_law(model, CovarianceLaw(**LAW))
    assert read_model_directory(model).plain_laws.covariance_source is None
    change(model, lambda v: v.update(covariance=None))
    assert read_model_directory(model).plain_laws.covariance_law is None


def test_laws_that_were_measured_with_other_crops_or_hypotheses_are_told(model):
    """They would be silently wrong; those of versions with one hypothesis do not name it."""
    write_law(model, CovarianceLaw(**LAW), LawSource.from_dict({**SOURCE, 'hypotheses': 3}))
    write_law(model, ScoreLaw(**SCORE), ScoreSource(**SCORE_SOURCE))
    assert read_model_directory(model).laws(0).doubts(2, 3, 0) == []
    doubts = read_model_directory(model).laws(0).doubts(2, 1, 0)
    assert [d.split()[0] for d in doubts] == ['covariance', 'score']
    assert all('hypotheses 3 and refine 0, but here are crops 2, hypotheses 1' in d
               for d in doubts)
    change(model, lambda v: v['covariance_source'].pop('hypotheses'))
    (doubt,) = read_model_directory(model).laws(0).doubts(2, 3, 0)
    assert 'covariance was calibrated with crops 2, hypotheses 1 and refine 0' in doubt


def test_refined_poses_have_laws_of_their_own(model):
    """The refiner has a confidence of its own; until then the others stand in, and it is told."""
    plain = ScoreLaw(**SCORE)
    refined = ScoreLaw(**{**SCORE, 'offset': 1.5})
    write_law(model, plain, ScoreSource(**SCORE_SOURCE))
    found = read_model_directory(model).laws(1)
    assert found.score_law == plain
    (doubt,) = found.doubts(2, 3, 1)
    assert 'and refine 0, but here are crops 2, hypotheses 3 and refine 1' in doubt
    write_law(model, refined, ScoreSource(**{**SCORE_SOURCE, 'refine': 1}))
    found = read_model_directory(model)
    assert (found.laws(0).score_law, found.laws(1).score_law) == (plain, refined)
    assert found.laws(0).doubts(2, 3, 0) == found.laws(1).doubts(2, 3, 1) == []
    (doubt,) = found.laws(2).doubts(2, 3, 2)
    assert 'and refine 1, but here are crops 2, hypotheses 3 and refine 2' in doubt
    assert doubt.endswith('run mrcnet calibrate --refine 2 --write')


def test_what_was_not_measured_for_refined_poses_is_that_of_the_others(model):
    """With its own source, so that it is told; a new score does not hide the covariance."""
    plain = CovarianceLaw(**LAW)
    write_law(model, plain, LawSource.from_dict({**SOURCE, 'hypotheses': 3}))
    write_law(model, plain, LawSource.from_dict({**SOURCE, 'hypotheses': 3}), depth=True)
    write_law(model, ScoreLaw(**SCORE), ScoreSource(**{**SCORE_SOURCE, 'refine': 1}))
    found = read_model_directory(model).laws(1)
    assert found.covariance_law == found.depth_laws.covariance == plain
    assert [d.split(' was ')[0] for d in found.doubts(2, 3, 1)] == [
        'covariance', 'covariance with depth']
    write_law(model, plain, LawSource.from_dict({**SOURCE, 'refine': 1}))
    change(model, lambda v: v['refined'].pop('covariance_source'))
    assert read_model_directory(model).laws(1).covariance_source is None
    change(model, lambda v: v.update(refined=None))
    write_law(model, ScoreLaw(**SCORE), ScoreSource(**{**SCORE_SOURCE, 'refine': 1}))
    change(model, lambda v: v['refined'].update(scores={}))
    with pytest.raises(ModelError, match='scores'):
        read_model_directory(model)


def test_sizes_make_the_laws_of_refined_poses_old_too(model):
    """A new law of the others does not."""
    write_law(model, CovarianceLaw(**LAW), LawSource.from_dict({**SOURCE, 'refine': 1}))
    write_law(model, CovarianceLaw(**LAW), LawSource.from_dict(SOURCE))
    write_law(model, CovarianceLaw(**LAW), LawSource.from_dict(SOURCE), depth=True)
    assert outdated(model, ['size_ratio']) == {
        ('covariance', 0): ['size_ratio'], ('covariance_depth', 0): ['size_ratio'],
        ('covariance', 1): ['size_ratio']}
    assert outdated(model, ['covariance']) == {('covariance_depth', 0): ['covariance']}
    assert outdated(model, ['covariance'], refine=1) == {}


def test_the_law_of_scores_is_kept_in_the_model_and_belongs_to_its_graphs(model):
    """It changes nothing else; what is written is read again, with what it was fitted to."""
    before = read_model_directory(model)
    assert (before.plain_laws.score_law, before.plain_laws.score_source) == (None, None)
    law, source = ScoreLaw(**SCORE), ScoreSource(**SCORE_SOURCE)
    write_law(model, law, source)
    after = read_model_directory(model)
    assert (after.plain_laws.score_law, after.plain_laws.score_source) == (law, source)
    assert after.graphs_digest == before.graphs_digest and after.plain_laws.covariance_law is None
    write_law(model, law)
    assert read_model_directory(model).plain_laws.score_source is None
