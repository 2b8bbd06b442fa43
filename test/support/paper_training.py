"""A training of the paper preset that takes seconds."""

from __future__ import annotations

from pathlib import Path

from mrcnet_ros.presets.paper.spec import PaperSpec
from mrcnet_ros.presets.paper.training.config import PaperTrainConfig

# all is as published but the size of the crops, which is what costs time
SPEC = PaperSpec(dataset='made', depth_near=0.1, depth_far=8.0, size_px=32)


def training_config(dataset: Path, output: Path) -> PaperTrainConfig:
    """Configure a training of four steps."""
    return PaperTrainConfig(
        output=output, dataset=dataset, spec=SPEC, batch_size=2, steps=4, warmup=1,
        learning_rate=1e-3, workers=0, checkpoint=100, log=3)
