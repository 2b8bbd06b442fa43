"""One way to load a model directory, whichever preset it is of."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from .backend import RuntimeOptions
from .estimator import PoseEstimator
from .paper_estimator import PaperEstimator
from .paper_model import has_paper_preset

RUNTIME_FIELDS = {f.name for f in fields(RuntimeOptions)}


def load_any_estimator(model_dir: Path, meshes_dir: Path | None = None,
                       **options: Any) -> PoseEstimator | PaperEstimator:
    """Load a model directory into a runtime.

    :param meshes_dir: folder of the meshes; ``meshes`` in the model directory by default.
    :param options: of :meth:`PoseEstimator.load`; the paper preset has no templates to keep and
        ignores what is about them.
    :raises ModelError: when the model directory is incomplete, damaged or of other specs.
    :raises MeshError: when a mesh cannot be used.
    :raises BackendError: when the runtime cannot be used.
    """
    if has_paper_preset(model_dir):
        runtime = {name: value for name, value in options.items() if name in RUNTIME_FIELDS}
        return PaperEstimator.load(model_dir, meshes_dir, **runtime)
    return PoseEstimator.load(model_dir, meshes_dir, **options)
