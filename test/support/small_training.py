"""Small trainings: how often they log, what they logged, and their configuration as a file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import yaml
from tiny_model import SPEC

from mrcnet_ros.training.config import TrainConfig

LOG_EVERY, VALIDATION_SAMPLES = 4, 8


def metrics(config: TrainConfig) -> dict[tuple[int, bool], dict[str, float]]:
    """Return what was logged, by step and whether it is a validation, less the clock's part."""
    rows = {}
    for line in (config.output / 'metrics.jsonl').read_text().splitlines():
        row = json.loads(line)
        values = {k: v for k, v in row.items() if k not in ('rate', 'hours')}
        key = row['step'], 'validation_xy' in row
        assert key not in rows
        rows[key] = values
    return rows


def write_whole_config(path: Path, own: TrainConfig) -> None:
    """Write what the training of ``own`` is made of as a file, but for where it goes."""
    spec = {k: dataclasses.asdict(getattr(SPEC, k)) for k in ('crop', 'bins', 'template')}
    network = {k: list(v) if isinstance(v, tuple) else v
               for k, v in dataclasses.asdict(SPEC.network).items()}
    path.write_text(yaml.safe_dump({
        'name': 'tiny', 'output': 'nowhere', 'cache': str(own.cache), 'models': str(own.models),
        'backgrounds': [str(b) for b in own.backgrounds], 'views': own.views, 'steps': 99,
        'patches': own.patches, 'refresh': 8, 'checkpoint': 8, 'distance_m': [0.4, 0.8],
        'processes': 1, 'batch_size': 4, 'spec': {**spec, 'network': network}}))
