"""A model on disk: ``model.json``, the graphs it names, and the meshes it was trained for.

Meshes are often not ours to ship, so a model names them by file name and hash and the user says
where they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from ..errors import DatasetError, MeshError, ModelError, SpecError
from ..geometry.symmetry import Symmetries
from ..geometry.view_prior import view_prior_of
from ..meshes import fits_diameter
from ..model_json import (
    MODEL_FILE,
    REFINER,
    check_file,
    check_seal,
    read_pose_json,
    refiner_spec,
)
from ..objects import ObjectModel, check_objects
from ..objects.object_files import SHORTEST_UNIT_M, read_point
from ..reading import fields
from ..specs import REFINER_GRAPHS, EstimatorSpec, ModelSpec, RefinerSpec, ViewPrior
from .laws import Laws, Values, of_refined_poses

MESH_FOLDER = 'meshes'
OBJECT_FIELDS = ('object_id', 'label', 'mesh', 'mesh_sha256', 'unit_m', 'diameter_m', 'bounds_m',
                 'symmetries', 'view_prior', 'size_ratio', 'middle_m')
SIZE_RATIOS = (0.5, 2.0)  # outside, mesh and photographs are of different units or objects


SpecT = TypeVar('SpecT', bound=EstimatorSpec)


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckedModel(Generic[SpecT]):
    """What is checked of a model directory of either preset.

    :param digest: sha256 of ``model.json``, which holds the hashes of all other files.
    :param graphs_digest: sha256 of all graphs, whatever else ``model.json`` says.
    :param spec: of the network and its inputs.
    """

    path: Path
    name: str
    digest: str
    graphs_digest: str
    spec: SpecT
    objects: list[ObjectModel]
    graphs: dict[str, Path]
    verified_with = ''  # added to ``mrcnet verify``
    longest_px = 0  # crops have one size

    @property
    def rows_together(self) -> int:
        """Return how many rows one detection takes in a batch."""
        return self.spec.rows_together


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelDirectory(CheckedModel[ModelSpec]):
    """A checked model directory of the default preset, its objects in class order.

    :param view_priors: by object id.
    :param refiner: None where the model has none.
    :param plain_laws: of poses that are not refined.
    :param refined_laws: of refined poses; where one has not been measured, that of the others
        stands in.
    """

    view_priors: dict[int, ViewPrior | None]
    refiner: RefinerSpec | None = None
    plain_laws: Laws = field(default_factory=Laws)
    refined_laws: Laws = field(default_factory=Laws)

    def without_refiner(self) -> ModelDirectory:
        """Return the model for those who do not refine: nothing of the refiner is loaded."""
        graphs = {name: file for name, file in self.graphs.items() if name in self.spec.graphs}
        return replace(self, refiner=None, graphs=graphs)

    def laws(self, refine: int) -> Laws:
        """Return the calibrations for poses that are refined so often."""
        return self.refined_laws if refine else self.plain_laws


ModelT = TypeVar('ModelT', bound=CheckedModel[Any])


def read_model_directory(path: Path, meshes_dir: Path | None = None) -> ModelDirectory:
    """Read and check a model directory.

    :param meshes_dir: folder of the meshes; ``meshes`` in the model directory by default.
    :raises ModelError: when a file is missing, damaged, or of another format.
    :raises MeshError: when a mesh is not in the folder.
    """
    def rest(values: Values) -> dict[str, Any]:
        return {'view_priors': {int(entry['object_id']): _prior(entry['view_prior'])
                                for entry in values['objects']},
                'refiner': refiner_spec(values), 'plain_laws': Laws.of(values),
                'refined_laws': Laws.of(of_refined_poses(values))}

    return read_checked(path, meshes_dir, ModelDirectory, ModelSpec, rest)


def read_checked(path: Path, meshes_dir: Path | None, kind: type[ModelT],
                 spec: type[EstimatorSpec], rest: Callable[[Values], dict[str, Any]]) -> ModelT:
    """Read and check what a model directory of one preset holds.

    :param rest: reads what only this kind has from the values of ``model.json``, by field.
    :raises ModelError: when a file is missing, damaged, or of another format.
    :raises MeshError: when a mesh is not in the folder.
    """
    path = Path(path)
    text, values = read_pose_json(path)
    try:
        read_spec = spec.from_dict(values['spec'])
        meshes, entries = mesh_folder(path, meshes_dir), values['objects']
        files = values['files']
        if not isinstance(files, Mapping):
            raise TypeError(f'files must map names to sha256, got {files!r}')
        names = graph_names(values, read_spec.graphs)
        graph_files = {graph: path / f'{graph}.onnx' for graph in names}
        hashes = {file: files.get(file.name, '') for file in graph_files.values()}
        model = kind(
            path=path, name=str(values['name']), digest=hashlib.sha256(text).hexdigest(),
            graphs_digest=graphs_digest(files, names), spec=read_spec,
            objects=[read_object(entry, meshes, read_spec.object_fields) for entry in entries],
            graphs=graph_files,
            **rest(values))
        if not model.objects:
            raise ValueError('it names no objects')
        check_objects(model.objects, 'its entry objects')
        _check_bounds(model.objects)
    except (KeyError, TypeError, ValueError, AttributeError, SpecError, DatasetError) as error:
        raise ModelError(path / MODEL_FILE, f'has a wrong or missing entry: {error}',
                         'export the model again, or import its checkpoint again') from error
    check_seal(path, values)
    for file, digest in hashes.items():
        check_file(file, digest)
    return model


def graph_names(values: Values, of_stages: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all graphs that poses come from: of the stages, and of the refiner.

    :param values: of ``model.json``.
    """
    return (*of_stages, *(() if values.get(REFINER) is None else REFINER_GRAPHS))


def graphs_digest(files: Mapping[str, Any], graphs: Sequence[str]) -> str:
    """Return one sha256 for all graphs of a model.

    :param files: sha256 by file name, as ``model.json`` has them.
    """
    text = json.dumps([[graph, files.get(f'{graph}.onnx', '')] for graph in sorted(graphs)])
    return hashlib.sha256(text.encode()).hexdigest()


def mesh_folder(path: Path, meshes_dir: Path | None) -> Path:
    """Return the folder of a model's meshes.

    :raises MeshError: when there is none.
    """
    folder = path / MESH_FOLDER if meshes_dir is None else Path(meshes_dir)
    if not folder.is_dir():
        raise MeshError(folder, 'there is no such folder',
                        'give the folder of the meshes (--meshes, or the parameter meshes)')
    return folder


def read_object(entry: Mapping[str, Any], folder: Path,
                further: Sequence[str] = ()) -> ObjectModel:
    """Return an object of ``model.json``.

    :param further: fields that an entry may have with this preset.
    :raises MeshError: when its mesh is not there.
    """
    mesh = folder / entry['mesh']
    if not mesh.is_file():
        raise MeshError(mesh, f'is missing; {entry["label"]!r} needs it',
                        'give the folder of the meshes the model was made with')
    fields.only_known(entry, (*OBJECT_FIELDS, *further), f'object {entry["label"]!r}')
    symmetries = np.array(entry['symmetries'], dtype=np.float64).reshape(-1, 4, 4)
    return ObjectModel(
        object_id=fields.whole(entry['object_id'], 'object_id'),
        label=fields.label(entry['label']), mesh_path=mesh,
        mesh_sha256=str(entry['mesh_sha256']),
        diameter_m=fields.number(entry['diameter_m'], 'diameter_m'),
        symmetries=Symmetries(symmetries), unit_m=fields.number(
            entry['unit_m'], 'unit_m', SHORTEST_UNIT_M),
        bounds_m=np.array(entry['bounds_m'], dtype=np.float64).reshape(2, 3),
        size_ratio=fields.number(entry.get('size_ratio', 1.0), 'size_ratio', *SIZE_RATIOS),
        middle_m=read_point(entry.get('middle_m', [0.0, 0.0, 0.0]), 'middle_m'))


def _check_bounds(objects: Sequence[ObjectModel]) -> None:
    for item in objects:
        low, high = item.mesh_bounds()
        if not (low <= high).all() or not fits_diameter(high - low, item.diameter_m):
            raise ValueError(f'bounds_m of {item.label!r}, {low.tolist()} to {high.tolist()}, do '
                             f'not fit its diameter_m {item.diameter_m:g}')


def _prior(values: Any) -> ViewPrior | None:
    return None if values is None else view_prior_of(values)
