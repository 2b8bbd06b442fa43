"""What the tests of instances share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope='module')
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return box-shaped objects by label."""
    from stand_in_node import box_object

    folder = tmp_path_factory.mktemp('boxes')
    return {label: box_object(folder, label) for label in ('duck', 'can', 'brick')}


@pytest.fixture
def tracks(objects: dict[str, Any]) -> Any:
    """Return the tracks of a node that has seen nothing."""
    from mrcnet_ros.ros.tracks import Tracks

    return Tracks(objects)
