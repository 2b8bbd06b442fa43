"""What a training process of the detector needs besides the network, and its batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..network.detector_losses import BoxTargets
from .backgrounds import background_patches, find_images, irradiance_matrices
from .detector_config import DetectorConfig
from .painting import TrainingPainter
from .scenes import SceneComposer, TrainingScene
from .view_bank import SharedViews


@dataclass(frozen=True, eq=False)
class SceneBatch:
    """Scenes as the network and its losses take them.

    :param image: (N, 3, S, S) float32 RGB in 0..255.
    """

    image: Tensor
    targets: BoxTargets


def load_scene_composer(config: DetectorConfig, classes: int,
                        views: Sequence[SharedViews]) -> SceneComposer:
    """Gather what scenes are made from.

    :param classes: number of classes, whose views come first.
    :raises DatasetError: when there are no backgrounds, or they cannot be read.
    """
    images = find_images(config.backgrounds)
    banks = [v.open() for v in views]
    painter = TrainingPainter(
        banks, classes, background_patches(images, config.patches, config.seed),
        irradiance_matrices(images), config.painting())
    return SceneComposer(banks, [config.view_prior] * classes, painter,
                         (config.spec.focal_px, config.size_px), config.distance_m)


def stack_scenes(scenes: Sequence[TrainingScene]) -> SceneBatch:
    """Join scenes into a batch."""
    most = max(1, *(len(s.boxes) for s in scenes))
    boxes = np.zeros((len(scenes), most, 4), np.float32)
    classes, kinds = (np.zeros((len(scenes), most), np.int64) for _ in range(2))
    for row, scene in enumerate(scenes):
        count = len(scene.boxes)
        boxes[row, :count] = scene.boxes
        classes[row, :count], kinds[row, :count] = scene.class_index, scene.kind
    images = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2)
    return SceneBatch(images.float().contiguous(memory_format=torch.channels_last),
                      BoxTargets(*map(torch.from_numpy, (boxes, classes, kinds))))
