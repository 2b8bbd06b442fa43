"""A model directory of the paper preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError, SpecError
from ..objects import ObjectModel
from ..specs import PaperSpec
from .model_directory import (
    MODEL_FILE,
    check_file,
    mesh_folder,
    read_model_json,
    read_object,
)

PAPER_PRESET = 'paper'
# what embeds crops and templates alike, and the heads of the two stages
PAPER_GRAPHS = ('embed', 'stage1', 'stage2')


@dataclass(frozen=True, eq=False)
class PaperModel:
    """A checked model directory of the paper preset.

    :param path: the directory.
    :param name: of the model.
    :param spec: of the network and its inputs.
    :param objects: that it can recognise.
    :param class_indices: of the objects, in the same order.
    :param graphs: file of each graph.
    """

    path: Path
    name: str
    spec: PaperSpec
    objects: list[ObjectModel]
    class_indices: list[int]
    graphs: dict[str, Path]


def has_paper_preset(path: Path) -> bool:
    """Tell whether a model directory is of the paper preset.

    :raises ModelError: when it has no readable ``model.json``.
    """
    spec = read_model_json(Path(path))[1].get('spec')
    return isinstance(spec, Mapping) and spec.get('preset') == PAPER_PRESET


def read_paper_model(path: Path, meshes_dir: Path | None = None) -> PaperModel:
    """Read and check a model directory.

    :param meshes_dir: folder of the meshes; ``meshes`` in the model directory by default.
    :raises ModelError: when a file is missing, damaged, or of another format.
    :raises MeshError: when a mesh is not in the folder.
    """
    path = Path(path)
    _, values = read_model_json(path)
    try:
        spec = PaperSpec.from_dict(values['spec'])
        meshes = mesh_folder(path, meshes_dir)
        entries: list[Mapping[str, Any]] = values['objects']
        objects = [read_object(entry, meshes) for entry in entries]
        classes = [int(entry['class_index']) for entry in entries]
        files: dict[str, str] = values['files']
        name = str(values['name'])
    except (KeyError, TypeError, ValueError, SpecError) as error:
        raise ModelError(path / MODEL_FILE, f'has a wrong or missing entry: {error}',
                         'import the checkpoint again') from error
    graphs = {graph: path / f'{graph}.onnx' for graph in PAPER_GRAPHS}
    for file in graphs.values():
        check_file(file, files.get(file.name, ''))
    return PaperModel(path, name, spec, objects, classes, graphs)
