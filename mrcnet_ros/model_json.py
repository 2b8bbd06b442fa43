"""``model.json``, which says what the files of a model directory are: read, checked, replaced."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import ModelError
from .reading.text import parse_json
from .specs import FORMAT_VERSION, REFINER_GRAPHS, RefinerSpec
from .store.atomic import write_atomically

MODEL_FILE = 'model.json'
WEIGHTS_FILE = 'weights.pt'
REFINER = 'refiner'  # name of the entry of a model's refiner
REFINER_WEIGHTS = f'{REFINER}_weights.pt'
REFINED = 'refined'  # name of the entry of the calibrations of refined poses
REFINER_FILES = (*(f'{graph}.onnx' for graph in REFINER_GRAPHS), REFINER_WEIGHTS)

# One sha256 of the files and what they are made for. Changing these by hand makes poses wrong and
# nothing else; a label, a number, the name of a mesh file, a view prior or a size ratio may be
# changed.
SEAL = 'seal'
_OF_OBJECTS = ('class_index', 'mesh_sha256', 'unit_m', 'diameter_m', 'bounds_m', 'middle_m',
               'symmetries')


def seal_of(values: Mapping[str, Any]) -> str:
    """Return one sha256 of the files and what they were made for: specs, objects, their order.

    :param values: of ``model.json``, which may be that of a detector alone.
    """
    objects = values.get('objects', [])
    refiner = [_spec_of(values[REFINER])] if REFINER in values else []  # older ones have none
    text = json.dumps([values.get('files'), values.get('spec'), _spec_of(values.get('detector')),
                       [[entry.get(name) for name in _OF_OBJECTS]
                        if isinstance(entry, Mapping) else entry for entry in objects]
                       if isinstance(objects, list) else objects, *refiner], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _spec_of(part: Any) -> Any:
    return part.get('spec') if isinstance(part, Mapping) else part


def check_seal(path: Path, values: Mapping[str, Any]) -> None:
    """Refuse a description that is no longer that of its files; older ones have no seal.

    :param path: of the model directory.
    :raises ModelError: when it was changed where it belongs to them.
    """
    if SEAL in values and values[SEAL] != seal_of(values):
        raise ModelError(
            path / MODEL_FILE, 'was changed since its graphs were exported: spec, files, or the '
            'order, meshes, sizes or symmetries of its objects are others',
            'take the exported files, all of one export; for other objects, train and export a '
            'model')


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
                         'export the model again with this version, or update mrcnet_ros')
    return text, values


def read_pose_json(path: Path) -> tuple[bytes, Mapping[str, Any]]:
    """Return the bytes and the values of the ``model.json`` of a model of poses.

    :raises ModelError: as :func:`read_model_json`, and when the directory holds a detector alone.
    """
    text, values = read_model_json(path)
    if 'detector' in values and 'objects' not in values:
        raise ModelError(path, 'holds a detector alone', 'give the directory of a model of poses, '
                         'or export one into this directory')
    return text, values


def refiner_spec(values: Mapping[str, Any]) -> RefinerSpec | None:
    """Return the spec of a model's refiner, None when it has none.

    :param values: of ``model.json``.
    :raises SpecError: when the entry cannot be used.
    """
    entry = values.get(REFINER)
    return None if entry is None else RefinerSpec.from_dict(entry['spec'])


def replace_json(path: Path, values: Any) -> None:
    """Replace a JSON file of a model directory in one step: whole or not at all.

    :raises ModelError: when it cannot be written.
    """
    text = json.dumps(values, indent=1, allow_nan=False) + '\n'
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        remedy = ('free some space on this disk' if error.errno == errno.ENOSPC
                  else 'use a copy of the model directory that is yours')
        raise ModelError(path, f'cannot be written: {error.strerror}', remedy) from error


def check_file(path: Path, digest: str) -> None:
    """Check a file of a model directory.

    :param digest: its sha256 in ``model.json``.
    :raises ModelError: when it is missing or another one.
    """
    if not path.is_file():
        raise ModelError(path.parent, f'lacks {path.name}', 'export the model again')
    found = sha256_of(path)
    if found != digest:
        raise ModelError(
            path, f'is damaged or of another model: sha256 {found[:12]}..., model.json says '
                  f'{digest[:12] or "nothing"}...', 'copy or export the model again')


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, as ``model.json`` has it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
