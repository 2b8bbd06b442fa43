"""Fixtures that several test modules share."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ros_client import Client
    from ros_process import NodeProcess
    from tiny_model import TinyModel

    from mrcnet_ros.inference.estimator import PoseEstimator


SYSTEM = Path(__file__).parent / 'system'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start nodes, and say which tests have to share a process.

    A file's tests share their fixtures. Tests that start nodes run one after the other, because
    several nodes at once would be slower than their time limits allow.
    """
    for item in items:
        system = SYSTEM in item.path.parents
        if system:
            item.add_marker('system')
        item.add_marker(pytest.mark.xdist_group('system' if system else item.path.stem))


@pytest.fixture(scope='session')
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Export a tiny model with random weights, once for all tests."""
    pytest.importorskip('torch', reason='needs the train extra')
    pytest.importorskip('onnx', reason='needs the train extra')
    from tiny_model import export_tiny

    return export_tiny(tmp_path_factory.mktemp('tiny'))


@pytest.fixture(scope='session')
def refined_model(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Return the tiny model with a refiner of random weights."""
    from tiny_model import add_refiner

    path = add_refiner(tiny_model, tmp_path_factory.mktemp('refined'))
    return dataclasses.replace(tiny_model, path=path)


@pytest.fixture(scope='session')
def demo_estimator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoseEstimator]:
    """Load the model of the demo, whose templates are drawn once for all tests.

    It finds no plane: poses are those of the network.
    """
    from mrcnet_ros.inference.estimator import PoseEstimator
    from mrcnet_ros.store.shared_files import shared_file

    estimator = PoseEstimator.load(shared_file('models/demo'), threads=1, find_plane=False,
                                   store_root=tmp_path_factory.mktemp('demo'))
    yield estimator
    estimator.close()


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Let PyTorch draw the same numbers in a test, whatever ran before it in the process."""
    if torch := sys.modules.get('torch'):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_client_stays() -> Iterator[None]:
    """Close the clients of a test that failed, or the next test in their domain would see them."""
    from ros_client import Client

    before = list(Client.open)
    yield
    for client in [c for c in Client.open if c not in before]:
        client.close()


@pytest.fixture
def client(node: NodeProcess) -> Iterator[Client]:
    """Connect to the module's node, a ``node_fixture``."""
    from ros_client import Client

    client = Client(node.domain)
    client.connect()
    yield client
    client.close()
