"""The page of HTML that ``mrcnet evaluate bop`` and ``bag`` write with ``--report``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MrcnetError
from .tasks import machine, model_identity, versions

if TYPE_CHECKING:
    from ..datasets.bop import BopFrame, ResultRow
    from ..evaluation.page import Latency
    from ..evaluation.scores import Scores
    from ..geometry.se3 import Array
    from ..objects import ObjectModel


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What there is to show.

    :param figures: of :func:`..evaluation.report.recall_figures`, or ``{'overall': None}``.
    :param scores: None without ground truth.
    :param objects: by object id, as they were scored with.
    :param covariances: of each estimate, None where it has none.
    :param load: returns the photograph of an image.
    :param facts: by name, beside model, machine, versions and command.
    """

    title: str
    frames: Sequence[BopFrame]
    figures: Mapping[str, Any]
    scores: Scores | None
    objects: Mapping[int, ObjectModel]
    labels: Mapping[int, str]
    covariances: Sequence[tuple[ResultRow, Array | None]]
    load: Callable[[BopFrame], Any]
    latency: Latency
    facts: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def add_report_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the option."""
    parser.add_argument('--report', type=Path, metavar='DIR',
                        help='write DIR/index.html, one page with scores, curves, latency and '
                             'pictures of the best and the worst poses')


def check_report(args: argparse.Namespace) -> None:
    """Find out before work of minutes whether the page can be written.

    :raises DatasetError: when it cannot.
    """
    from ..evaluation.page import FILE
    from ..evaluation.report import check_writable

    if args.report is not None:
        check_writable(args.report / FILE)


def write_report(args: argparse.Namespace, done: Evaluated) -> None:
    """Write the page, if one is wanted, and say where; without pictures if none can be drawn.

    :raises DatasetError: when the page cannot be written.
    """
    if args.report is None:
        return
    from ..evaluation.confidence_curves import coverage, score_curves
    from ..evaluation.gallery import draw_galleries
    from ..evaluation.page import EvaluationPage, write_report_page

    targets = done.scores.targets if done.scores is not None else ()
    galleries, notes = {}, list(done.notes)
    try:
        galleries = draw_galleries(targets, done.frames, done.load, done.objects, done.labels)
    except MrcnetError as error:
        notes.append(f'There are no pictures of poses: {error}')
    path = write_report_page(args.report, EvaluationPage(
        title=done.title, facts={**done.facts, **_provenance(args)}, figures=done.figures,
        latency=done.latency, curves=score_curves(targets),
        coverage=coverage(targets, done.covariances, done.objects), galleries=galleries,
        skipped=done.skipped, notes=notes))
    print(f'report: {path}')


def _provenance(args: argparse.Namespace) -> dict[str, str]:
    model, computer = model_identity(args.model), machine()
    words = args.command_line
    return {
        'model': f'{model["path"]}, SHA-256 of model.json {model["sha256_of_model_json"]}',
        'machine': f'{computer["cpu"]}, {computer["cpus_usable"]} CPUs, {computer["system"]}',
        'versions': ', '.join(f'{k} {v}' for k, v in versions().items()),
        'command': words if isinstance(words, str) else ' '.join(map(str, words))}
