"""A model directory of the paper preset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...inference.model_directory import CheckedModel, Values, read_checked
from .spec import PaperSpec


@dataclass(frozen=True, eq=False, kw_only=True)
class PaperModel(CheckedModel[PaperSpec]):
    """A checked model directory of the paper preset.

    :param class_indices: of the objects, in the same order.
    """

    class_indices: list[int]


def read_paper_model(path: Path, meshes_dir: Path | None = None) -> PaperModel:
    """Read and check a model directory.

    :param meshes_dir: folder of the meshes; ``meshes`` in the model directory by default.
    :raises ModelError: when a file is missing, damaged, or of another format.
    :raises MeshError: when a mesh is not in the folder.
    """
    def class_indices(values: Values) -> dict[str, Any]:
        return {'class_indices': [int(entry['class_index']) for entry in values['objects']]}

    return read_checked(path, meshes_dir, PaperModel, PaperSpec, class_indices)
