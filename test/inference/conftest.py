"""What the tests of the estimator share."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_estimator import load

from mrcnet_ros.inference.estimator import PoseEstimator


@pytest.fixture(scope='module')
def estimator(tiny_model: Any) -> PoseEstimator:
    """Return an estimator for all tests that do not count its cache."""
    return load(tiny_model)
