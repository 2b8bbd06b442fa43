"""A dataset and a configuration to train the paper preset with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def dataset(tmp_path_factory) -> Path:
    """Generate a dataset of one scene, three objects in each of three images."""
    from synth_folder import write_dataset

    return write_dataset(tmp_path_factory.mktemp('bop'), split='train_pbr')


@pytest.fixture(scope='module')
def config(dataset, tmp_path_factory):
    """Configure a training; its files are large and go when the tests of a module have run."""
    from paper_training import training_config

    folder = tmp_path_factory.mktemp('runs')
    yield training_config(dataset, folder / 'whole')
    shutil.rmtree(folder)


@pytest.fixture(scope='module')
def forget_networks():
    """Free the networks that parity has remembered after the tests of a module."""
    from paper_reference import RememberedRun

    yield
    RememberedRun.runs.clear()
    RememberedRun.answers.clear()
