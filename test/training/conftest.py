"""What the tests of trainings share: small trainings, and what they log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mrcnet_ros.training.config import TrainConfig


@pytest.fixture(scope='module')
def small_logs() -> Any:
    """Log and validate on fewer steps and samples."""
    from small_training import LOG_EVERY, VALIDATION_SAMPLES

    from mrcnet_ros.training import trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, 'LOG_EVERY', LOG_EVERY)
        patch.setattr(trainer, 'VALIDATION_SAMPLES', VALIDATION_SAMPLES)
        yield


@pytest.fixture(scope='module')
def material(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Configure a training of 24 steps in two processes."""
    from tiny_model import write_material

    return write_material(tmp_path_factory.mktemp('training'))


@pytest.fixture(scope='module')
def own(tmp_path_factory: pytest.TempPathFactory, small_logs: None) -> TrainConfig:
    """Train in one process, for tests that change objects or meshes afterwards."""
    from tiny_model import random_stem, write_material

    from mrcnet_ros.training.trainer import train

    config = write_material(tmp_path_factory.mktemp('own'), processes=1, steps=8)
    train(config, random_stem())
    return config
