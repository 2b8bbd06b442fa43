"""Chooses runtime and precision, checks that they are verified, and loads the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import cv2

from ..cpus import usable_cpus
from ..errors import BackendError
from .backend import Backend, RuntimeOptions
from .backends import RUNTIMES, choose_runtime, load_backend
from .verified import Execution, find_result

FULL = 'fp32'  # what the exported graphs are checked in; others need a verification


class Loadable(Protocol):
    """The checked graphs of a model directory: those of its poses, or that of its detector.

    :param path: the directory.
    :param graphs: file of each graph.
    :param graphs_digest: sha256 of all of them.
    :param rows_together: rows that one detection takes in a batch.
    :param longest_px: longest side of images whose size is free, 0 where it is fixed.
    :param verified_with: what to add to ``mrcnet verify`` for these graphs.
    """

    @property
    def path(self) -> Path: ...
    @property
    def graphs(self) -> Mapping[str, Path]: ...
    @property
    def graphs_digest(self) -> str: ...
    @property
    def rows_together(self) -> int: ...
    @property
    def longest_px(self) -> int: ...
    @property
    def verified_with(self) -> str: ...


def execution_of(model: Loadable, options: RuntimeOptions) -> Execution:
    """Return what decides about a model's numbers.

    :param options: with a runtime that can be used and a precision.
    """
    version, device = RUNTIMES[options.backend].identity(options.device)
    return Execution(graphs_sha256=model.graphs_digest, backend=options.backend,
                     precision=options.precision, version=version, device=device)


def open_backend(model: Loadable, options: RuntimeOptions) -> Backend:
    """Load a model into the runtime asked for, or into the best one, and say which and why.

    :raises BackendError: when runtime, device or precision cannot be had, or the model has not
        been verified in a precision below fp32 and ``options`` does not allow that.
    :raises ModelError: when a graph cannot be loaded.
    """
    name, why = choose_runtime(options.backend)
    options = replace(options, backend=name)
    if options.precision == 'auto':
        precision, reason = _verified_precision(model, options)
        options = replace(options, precision=precision)
    else:
        reason = _check_verified(model, options)
    # of the whole process; by itself OpenCV does not know of every limit
    cv2.setNumThreads(min(cv2.getNumThreads(), options.threads or usable_cpus()))
    backend = load_backend(model.graphs, replace(
        options, rows_together=model.rows_together, longest_px=model.longest_px))
    options.say(f'backend {name} {backend.version} ({why}) on {backend.device}, '
                f'precision {backend.precision} ({reason})')
    return backend


def _verified_precision(model: Loadable, options: RuntimeOptions) -> tuple[str, str]:
    """Return the lowest precision that the model was verified in, and why it is that."""
    lower = [p for p in RUNTIMES[options.backend].precisions(options.device) if p != FULL]
    for precision in lower:
        found = find_result(model.path, execution_of(model, replace(options, precision=precision)))
        if found is not None and found['passed']:
            return precision, 'verified with this model here'
    return FULL, f'not verified here in {" or ".join(lower)}' if lower else 'there is no other'


def _check_verified(model: Loadable, options: RuntimeOptions) -> str:
    """Return why a precision may be used.

    :raises BackendError: when it may not.
    """
    if options.precision == FULL:
        return 'as asked for'
    execution = execution_of(model, options)
    found = find_result(model.path, execution)
    if found is not None and found['passed']:
        return 'as asked for, verified with this model here'
    problem = 'not been verified' if found is None else 'failed the verification'
    if options.allow_unverified:
        return f'as asked for, allowed although it has {problem}'
    raise BackendError(
        f'model {model.path} has {problem} in {options.precision} with {execution.backend} '
        f'{execution.version} on {execution.device}; run `mrcnet verify{model.verified_with} '
        f'--model {model.path} --backend {execution.backend} '
        f'--precision {options.precision} ...`, choose precision {FULL}, or set allow_unverified')
