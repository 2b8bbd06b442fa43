"""One way to load a model directory, whichever preset it is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .estimator import PoseEstimator
from .paper_estimator import PaperEstimator
from .paper_model import has_paper_preset


def load_any_estimator(model_dir: Path, meshes_dir: Path | None = None, *,
                       backend: str = 'onnxruntime', threads: int | None = None,
                       **options: Any) -> PoseEstimator | PaperEstimator:
    """Load a model directory into a runtime.

    :param meshes_dir: folder of the meshes; ``meshes`` in the model directory by default.
    :param backend: name of the runtime, or ``auto``.
    :param threads: processor threads, None for the runtime's choice.
    :param options: of :meth:`PoseEstimator.load`, about its templates; the paper preset has
        none to keep and ignores them.
    :raises ModelError: when the model directory is incomplete, damaged or of other specs.
    :raises MeshError: when a mesh cannot be used.
    :raises BackendError: when the runtime cannot be used.
    """
    if has_paper_preset(model_dir):
        return PaperEstimator.load(model_dir, meshes_dir, backend=backend, threads=threads)
    return PoseEstimator.load(model_dir, meshes_dir, backend=backend, threads=threads, **options)
