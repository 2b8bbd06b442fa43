"""A model on disk: ``model.json``, the graphs it names, and the meshes it was trained for.

Meshes are often not ours to ship, so a model names them by file name and hash and the user says
where they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from ..errors import DatasetError, MeshError, ModelError, SpecError
from ..geometry.symmetry import Symmetries
from ..meshes import fits_diameter
from ..objects import SHORTEST_UNIT_M, ObjectModel, check_objects, read_point
from ..reading import fields
from ..reading.text import parse_json
from ..specs import FORMAT_VERSION, EstimatorSpec, ModelSpec, ViewPrior, from_mapping
from ..store.atomic import write_atomically
from .depth_correction import DepthLaws
from .depth_law import DepthScoreLaw
from .scoring import ScoreLaw, ScoreSource
from .uncertainty import CovarianceLaw, LawSource

MODEL_FILE = 'model.json'
WEIGHTS_FILE = 'weights.pt'
MESH_FOLDER = 'meshes'
# entries of model.json that were measured with its graphs, and belong to them
CALIBRATION = ('covariance', 'covariance_source', 'score', 'score_source', 'covariance_depth',
               'covariance_depth_source', 'score_depth')
OBJECT_FIELDS = ('object_id', 'label', 'mesh', 'mesh_sha256', 'unit_m', 'diameter_m', 'bounds_m',
                 'symmetries', 'view_prior', 'size_ratio', 'middle_m')
SIZE_RATIOS = (0.5, 2.0)  # outside, mesh and photographs are of different units or objects


SpecT = TypeVar('SpecT', bound=EstimatorSpec)
Values = Mapping[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckedModel(Generic[SpecT]):
    """What is checked of a model directory of either preset.

    :param path: the directory.
    :param name: of the model.
    :param digest: sha256 of ``model.json``, which holds the hashes of all other files.
    :param graphs_digest: sha256 of all graphs, whatever else ``model.json`` says.
    :param spec: of the network and its inputs.
    :param objects: that it can recognise.
    :param graphs: file of each graph.
    """

    path: Path
    name: str
    digest: str
    graphs_digest: str
    spec: SpecT
    objects: list[ObjectModel]
    graphs: dict[str, Path]

    @property
    def rows_together(self) -> int:
        """Return how many rows one detection takes in a batch."""
        return self.spec.rows_together


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelDirectory(CheckedModel[ModelSpec]):
    """A checked model directory of the default preset, its objects in class order.

    :param view_priors: by object id.
    :param covariance_law: how large errors are; None where ``mrcnet calibrate`` has not said.
    :param covariance_source: what the law was fitted to; None where that is not told.
    :param score_law: what scores are probabilities by; None where ``mrcnet calibrate`` has not
        said.
    :param score_source: what that law was fitted to; None where that is not told.
    :param depth_laws: the same for poses that depth has corrected.
    :param covariance_depth_source: what those were fitted to; None where that is not told.
    """

    view_priors: dict[int, ViewPrior | None]
    covariance_law: CovarianceLaw | None = None
    covariance_source: LawSource | None = None
    score_law: ScoreLaw | None = None
    score_source: ScoreSource | None = None
    depth_laws: DepthLaws = field(default_factory=DepthLaws)
    covariance_depth_source: LawSource | None = None


ModelT = TypeVar('ModelT', bound=CheckedModel[Any])


def read_model_directory(path: Path, meshes_dir: Path | None = None) -> ModelDirectory:
    """Read and check a model directory.

    :param meshes_dir: folder of the meshes; ``meshes`` in the model directory by default.
    :raises ModelError: when a file is missing, damaged, or of another format.
    :raises MeshError: when a mesh is not in the folder.
    """
    def rest(values: Values) -> dict[str, Any]:
        def optional(name: str, kind: Callable[[Any], Any]) -> Any:
            return None if values.get(name) is None else kind(values[name])

        return {'view_priors': {int(entry['object_id']): _prior(entry['view_prior'])
                                for entry in values['objects']},
                'covariance_law': optional('covariance', CovarianceLaw.from_dict),
                'covariance_source': optional('covariance_source', LawSource.from_dict),
                'score_law': optional('score', ScoreLaw.from_dict),
                'score_source': optional('score_source', ScoreSource.from_dict),
                'depth_laws': DepthLaws(optional('covariance_depth', CovarianceLaw.from_dict),
                                        optional('score_depth', DepthScoreLaw.from_dict)),
                'covariance_depth_source': optional('covariance_depth_source',
                                                    LawSource.from_dict)}

    return read_checked(path, meshes_dir, ModelDirectory, ModelSpec, rest)


def read_checked(path: Path, meshes_dir: Path | None, kind: type[ModelT],
                 spec: type[EstimatorSpec],
                 rest: Callable[[Values], dict[str, Any]]) -> ModelT:
    """Read and check what a model directory of one preset holds.

    :param kind: of the result.
    :param rest: reads what only this kind has from the values of ``model.json``, by field.
    :raises ModelError: when a file is missing, damaged, or of another format.
    :raises MeshError: when a mesh is not in the folder.
    """
    path = Path(path)
    text, values = read_model_json(path)
    try:
        read_spec = spec.from_dict(values['spec'])
        meshes, entries = mesh_folder(path, meshes_dir), values['objects']
        files = values['files']
        if not isinstance(files, Mapping):
            raise TypeError(f'files must map names to sha256, got {files!r}')
        graph_files = {graph: path / f'{graph}.onnx' for graph in read_spec.graphs}
        hashes = {file: files.get(file.name, '') for file in graph_files.values()}
        model = kind(
            path=path, name=str(values['name']), digest=hashlib.sha256(text).hexdigest(),
            graphs_digest=graphs_digest(files, read_spec.graphs), spec=read_spec,
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
    for file, digest in hashes.items():
        check_file(file, digest)
    return model


def read_model_json(path: Path) -> tuple[bytes, Mapping[str, Any]]:
    """Return the bytes and the values of a directory's ``model.json``.

    :raises ModelError: when it is missing, damaged, or of another format.
    """
    if not path.is_dir():
        raise ModelError(path, 'there is no such directory', 'give the directory of a model')
    try:
        text = (path / MODEL_FILE).read_bytes()
        values = parse_json(text)
    except OSError as error:
        raise ModelError(path, f'has no readable {MODEL_FILE}: {error.strerror}',
                         'is this a model directory?') from error
    except ValueError as error:
        raise ModelError(path / MODEL_FILE, f'is no valid JSON: {error}',
                         'export the model again') from error
    version = values.get('format_version') if isinstance(values, Mapping) else None
    if version != FORMAT_VERSION:
        raise ModelError(path, f'has format version {version!r}, expected {FORMAT_VERSION}',
                         'export the model again with this version')
    return text, values


def graphs_digest(files: Mapping[str, Any], graphs: Sequence[str]) -> str:
    """Return one sha256 for all graphs of a model.

    :param files: sha256 by file name, as ``model.json`` has them.
    :param graphs: their names.
    """
    text = json.dumps([[graph, files.get(f'{graph}.onnx', '')] for graph in sorted(graphs)])
    return hashlib.sha256(text.encode()).hexdigest()


def write_size_ratios(path: Path, ratios: Mapping[str, float]) -> None:
    """Write sizes of real objects over those of their meshes into ``model.json``.

    :param ratios: by label; objects not named keep theirs.
    :raises ModelError: when the file cannot be read or written, or lacks an object.
    """
    values = json.loads(read_model_json(path)[0])
    entries = {entry['label']: entry for entry in values['objects']}
    unknown = sorted(set(ratios) - set(entries))
    if unknown:
        raise ModelError(path, f'knows no {unknown}, only {sorted(entries)}')
    for label, ratio in ratios.items():
        entries[label]['size_ratio'] = round(ratio, 4)
    replace_json(path / MODEL_FILE, values)


def write_covariance_law(path: Path, law: CovarianceLaw, source: LawSource | None = None) -> None:
    """Write how large errors are, and what tells that, into ``model.json``.

    :param source: what the law was fitted to; None leaves that unsaid.
    :raises ModelError: when the file cannot be read or written.
    """
    _write_law(path, 'covariance', law, source)


def write_score_law(path: Path, law: ScoreLaw, source: ScoreSource | None = None) -> None:
    """Write what scores are probabilities by, and what tells that, into ``model.json``.

    :param source: what the law was fitted to; None leaves that unsaid.
    :raises ModelError: when the file cannot be read or written.
    """
    _write_law(path, 'score', law, source)


def write_depth_laws(path: Path, laws: DepthLaws, source: LawSource | None = None) -> None:
    """Write how large errors of poses with depth are, and their score, into ``model.json``.

    :param source: what the laws were fitted to; None leaves that unsaid.
    :raises ModelError: when the file cannot be read or written.
    """
    _write_law(path, 'covariance_depth', laws.covariance, source)
    _write_law(path, 'score_depth', laws.score, None)


def _write_law(path: Path, name: str, law: CovarianceLaw | ScoreLaw | DepthScoreLaw | None,
               source: LawSource | ScoreSource | None) -> None:
    values = json.loads(read_model_json(path)[0])
    values.pop(name, None)
    if law is not None:
        values[name] = {n: round(value, 6) for n, value in dataclasses.asdict(law).items()}
    values.pop(f'{name}_source', None)
    if source is not None:
        values[f'{name}_source'] = dataclasses.asdict(source)
    replace_json(path / MODEL_FILE, values)


def replace_json(path: Path, values: Any) -> None:
    """Replace a JSON file of a model directory in one step: whole or not at all.

    :raises ModelError: when it cannot be written.
    """
    text = json.dumps(values, indent=1, allow_nan=False) + '\n'
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise ModelError(path, f'cannot be written: {error.strerror}',
                         'use a copy of the model directory that is yours') from error


def check_file(path: Path, digest: str) -> None:
    """Check a file of a model directory.

    :param digest: its sha256 in ``model.json``.
    :raises ModelError: when it is missing or another one.
    """
    if not path.is_file():
        raise ModelError(path.parent, f'lacks {path.name}', 'export the model again')
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != digest:
        raise ModelError(
            path, f'is damaged or of another model: sha256 {found[:12]}..., model.json says '
                  f'{digest[:12] or "nothing"}...', 'copy or export the model again')


def mesh_folder(path: Path, meshes_dir: Path | None) -> Path:
    """Return the folder of a model's meshes.

    :raises MeshError: when there is none.
    """
    folder = path / MESH_FOLDER if meshes_dir is None else Path(meshes_dir)
    if not folder.is_dir():
        raise MeshError(folder, 'there is no such folder',
                        'say where the meshes are (--meshes, or the parameter meshes)')
    return folder


def read_object(entry: Mapping[str, Any], folder: Path,
                further: Sequence[str] = ()) -> ObjectModel:
    """Return an object of ``model.json``.

    :param folder: of the meshes.
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


def _prior(values: Mapping[str, Any] | None) -> ViewPrior | None:
    return None if values is None else from_mapping(ViewPrior, values, 'view_prior')
