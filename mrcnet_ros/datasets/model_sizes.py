"""The sizes of the models of a BOP dataset, as their models_info.json has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..geometry.se3 import Array
from ..objects.object_files import MODELS_INFO, read_models_info
from .bop_scene import MM, json_number

EVALUATION_MODELS = ('models_eval', 'models', 'models_cad')


def models_info_of(dataset: Path) -> tuple[Path, dict[int, dict[str, Any]]]:
    """Return models_info.json and its path; an empty mapping without models.

    :param dataset: BOP dataset folder.
    :raises DatasetError: when it cannot be read.
    """
    for name in EVALUATION_MODELS:
        path = dataset / name / MODELS_INFO
        if path.is_file():
            return path, read_models_info(path.parent)
    return dataset, {}


def model_diameters_m(dataset: Path) -> dict[int, float]:
    """Return the diameters of the models by object id; empty without models."""
    return {i: float(entry['diameter']) * MM
            for i, entry in models_info_of(dataset)[1].items() if 'diameter' in entry}


def model_extents_m(dataset: Path) -> dict[int, Array]:
    """Return the bounding boxes of the models by object id, (2, 3), as far as known."""
    path, info = models_info_of(dataset)
    found = {i: MM * np.array([[json_number(entry, f'{part}_{axis}', path) for axis in 'xyz']
                               for part in ('min', 'size')])
             for i, entry in info.items()
             if all(f'{part}_{axis}' in entry for part in ('min', 'size') for axis in 'xyz')}
    return {i: np.array([low, low + size]) for i, (low, size) in found.items()}
