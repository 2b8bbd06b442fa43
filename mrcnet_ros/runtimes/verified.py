"""Runtimes and precisions that were verified for a model: kept beside its ``model.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..model_json import replace_json
from ..reading.text import parse_json

VERIFIED_FILE = 'verified.json'
VERIFIED_VERSION = 2  # 1 was tied to all of model.json
POSES, DETECTOR = 'poses', 'detector'  # what is verified; results without a word are of poses


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What decides which numbers a model gives.

    :param graphs_sha256: of all graphs; what else ``model.json`` holds, such as sizes and
        covariances, changes no number that a runtime gives.
    :param device: name of the processor or GPU.
    """

    graphs_sha256: str
    backend: str
    precision: str
    version: str
    device: str


def find_result(folder: Path, execution: Execution) -> Mapping[str, Any] | None:
    """Return what a verification found, None when there was none.

    :return: ``passed``, and the limits and figures it is based on.
    :raises ModelError: when the file of results is damaged.
    """
    wanted = asdict(execution)
    return next((r for r in _read(folder) if r['execution'] == wanted), None)


def has_passed(folder: Path, graphs_sha256: str) -> bool:
    """Tell whether graphs have passed a verification, on any runtime."""
    try:
        results = _read(folder)
    except ModelError:
        return False
    return any(r['passed'] and r['execution']['graphs_sha256'] == graphs_sha256 for r in results)


def store_result(folder: Path, execution: Execution, result: Mapping[str, Any],
                 of: str = POSES) -> Path:
    """Keep what a verification found in place of an earlier one; those of former graphs go.

    :param result: with the entry ``passed``.
    :param of: what was verified, :data:`POSES` or :data:`DETECTOR`.
    :return: the file.
    :raises ModelError: when it cannot be written.
    """
    wanted, path = asdict(execution), folder / VERIFIED_FILE
    others = [r for r in _read(folder) if r['execution'] != wanted and (
        r.get('of', POSES) != of
        or r['execution']['graphs_sha256'] == execution.graphs_sha256)]
    content = {'format_version': VERIFIED_VERSION,
               'results': [*others, {'of': of, 'execution': wanted, **result}]}
    replace_json(path, content)
    return path


def _read(folder: Path) -> list[Mapping[str, Any]]:
    path = folder / VERIFIED_FILE
    try:
        content = parse_json(path.read_bytes())
        if content['format_version'] != VERIFIED_VERSION:
            return []
        results: list[Mapping[str, Any]] = content['results']
        for result in results:
            if not isinstance(result['passed'], bool) or not result['execution']['graphs_sha256']:
                raise ValueError('a result lacks its verdict')
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(path, f'is not readable ({error})', 'delete it and verify again') \
            from error
    return results
