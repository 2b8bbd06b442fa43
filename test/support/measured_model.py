"""A tiny model, the configuration of its training, and a dataset of its objects, for tests."""

from __future__ import annotations

from pathlib import Path

import synth_folder
import yaml
from tiny_model import TinyModel

from mrcnet_ros.synth.dataset import make_dataset
from mrcnet_ros.synth.source import from_models
from mrcnet_ros.training.config import TrainConfig

DATASET = 'made'


def write_config(path: Path, config: TrainConfig, **changes: object) -> Path:
    """Write what a test's configuration holds as the file that a user would write."""
    values = {
        'name': config.name, 'output': str(config.output), 'cache': str(config.cache),
        'models': str(config.models), 'backgrounds': [str(p) for p in config.backgrounds],
        'distance_m': list(config.distance_m), 'patches': config.patches,
        'spec': config.spec.to_dict(), **changes}
    path.write_text(yaml.safe_dump(values))
    return path


def write_dataset(root: Path, model: TinyModel) -> Path:
    """Generate a dataset of the two objects of the model: two images of one scene.

    :return: its folder.
    """
    make_dataset(root / DATASET, 'test', from_models(model.config.models),
                 synth_folder.spec(images=2, objects=2))
    return root / DATASET
