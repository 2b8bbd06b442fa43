"""A small network of the paper preset, and published checkpoints of it, for tests."""

from __future__ import annotations

from pathlib import Path

import torch
from bop_folder import MESHES

from mrcnet_ros.presets.paper.network.mrcnet import PaperNet
from mrcnet_ros.presets.paper.parity.seeded import seeded_network
from mrcnet_ros.presets.paper.spec import PaperSpec

# everything is as published but the size of the crops, which is what costs time
SMALL = PaperSpec(dataset='toy', depth_near=0.1, depth_far=4.0, size_px=64)
OBJECT_IDS = tuple(MESHES)


def small_network(salt: str = 'test', objects: int = len(OBJECT_IDS)) -> torch.nn.Module:
    """Return a network with seeded weights, in evaluation mode."""
    return seeded_network(salt, SMALL, objects)


def write_checkpoint(path: Path, state: dict | None = None) -> Path:
    """Write a file of the published format, with seeded weights unless others are given."""
    torch.save({'network': small_network().state_dict() if state is None else state}, path)
    return path


def hollow_state(objects: int = len(OBJECT_IDS)) -> dict[str, torch.Tensor]:
    """Return a state dict of zeros that takes no memory."""
    with torch.device('meta'):
        network = PaperNet(spec=SMALL, objects=objects)
    return {name: torch.zeros(1).expand(tensor.shape)
            for name, tensor in network.state_dict().items()}
