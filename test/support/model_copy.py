"""A copy of the tiny model whose description tests may change, and calibrations for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mrcnet_ros.model_json import SEAL

LAW = {'lateral_floor': 0.01, 'lateral_gain': 0.4, 'depth_floor': 0.02, 'depth_gain': 0.5,
       'rotation_floor_rad': 0.05, 'rotation_gain': 0.6, 'score_exponent': 0.3}
SOURCE = {'source': 'synthetic', 'images': 40, 'poses': 300, 'boxes': 'detector', 'crops': 2,
          'widened': [2.8, 1.1, 1.7]}
SCORE = {'offset': -2.0, 'quality_gain': 1.5, 'apart_gain': -0.8, 'usual_apart': 0.1}
SCORE_SOURCE = {'source': 'synthetic', 'images': 40, 'poses': 300, 'right': 0.4,
                'boxes': 'detector', 'crops': 2, 'hypotheses': 3, 'refine': 0}


def copy_model(tiny_model: Any, folder: Path) -> Path:
    """Return a copy of a good model with its meshes."""
    path = folder / 'model'
    shutil.copytree(tiny_model.path, path)
    shutil.copytree(tiny_model.meshes, path / 'meshes')
    return path


def change(model: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the model's description in place, as if it had been exported so."""
    values = json.loads((model / 'model.json').read_text())
    values.pop(SEAL, None)
    edit(values)
    (model / 'model.json').write_text(json.dumps(values))
